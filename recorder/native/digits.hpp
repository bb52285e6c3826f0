// Telephone events (RFC 4733): pjsua tells of them on a media thread, the sip thread passes them on.
#pragma once

#include <utility>
#include <vector>

namespace recorder {

void install_digits();                              // [sip] after Endpoint.libInit
std::vector<std::pair<int, char>> take_digits();    // [sip] (call id, digit) in their order
bool send_digit(int call_id, char digit);           // [sip] false: the far side does not take telephone events
unsigned long dropped_digits();                     // [any]

} // namespace recorder
