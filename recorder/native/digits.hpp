// Telephone events (RFC 4733): pjsua tells of them on a media thread, the sip thread passes them on.
#pragma once

#include <utility>
#include <vector>

namespace recorder {

void install_digits();                              // [sip] after Endpoint.libInit
std::vector<std::pair<int, char>> take_digits();    // [sip] (call id, digit) in their order
bool takes_events(int call_id);                     // [sip] whether the far side has agreed to take telephone events
bool send_digit(int call_id, char digit);           // [sip] as telephone event, or by INFO; false: it cannot be sent

} // namespace recorder
