// Offers and answers (RFC 3264) of a call that pjsua2 does not show or cannot shape. Everything here belongs to the sip
// thread; nothing is locked.
#pragma once

#include "wire.hpp"

#include <pjsip.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace recorder {

void install_dialog(); // after Endpoint.libStart

// What the far end last asked for in SDP, as it said it ("sendonly": it sends). None when it only answered an offer of
// ours that had asked for less than both directions.
std::optional<std::string> asked_direction(int call_id);

// Whether the far end's SDP last said that there is to be a recording (RFC 7866, sections 6.2 and 6.3: a=record and
// a=recordpref); none when it said nothing of it, or has no preference. Of two that disagree the one without a recording.
std::optional<bool> asked_recording(int call_id);

// A provisional response with exactly this code, with our SDP or without. False when it can no longer be sent.
bool progress(int call_id, int code, const std::string &phrase, bool media, const Headers &headers);

// A re-INVITE whose offer has this direction, which also limits what later offers are answered. False when one cannot be
// sent now. Its final status is in a later `take_reinvites`.
bool reinvite(int call_id, const std::string &direction);
std::vector<std::pair<int, int>> take_reinvites(); // call id, final status

// The calls that the stack has sent BYE by itself since the last time, with the status why: no refresh came within the
// session interval (RFC 4028, section 10; `expired`), or a request got no answer. A call's own end comes with the answer to
// its BYE, which may never come.
struct Closing {
    int call_id;
    int status;
    bool expired;
};
std::vector<Closing> take_closing();

// [info.cpp's usage, after all others] A transaction of a call's dialog has changed.
void reinvite_may_have_ended(const pjsip_dialog *dialog, const pjsip_transaction *transaction);
void stack_may_have_sent_bye(const pjsip_dialog *dialog, const pjsip_transaction *transaction);

} // namespace recorder
