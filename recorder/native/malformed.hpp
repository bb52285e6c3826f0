// Requests that pjsip's parser gave up on: what can be made of them for the answer that RFC 3261 asks for.
#pragma once

#include <string>
#include <string_view>

namespace recorder {

// A response to `packet`, made from its own header lines: 505 for another version of SIP, 416 for a
// URI that is none of ours, 400 for all else. Empty when it
// gets none: a response, an ACK, what is no SIP at all, or what has no Via, CSeq or Call-ID to tell the sender what it is
// about. `what` names the fault.
std::string answer_malformed(std::string_view packet, std::string_view what);

// The method of a request line, empty where there is none.
std::string_view method_of(std::string_view packet);

} // namespace recorder
