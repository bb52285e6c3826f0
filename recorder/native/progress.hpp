// What becomes of a call, told to Python without pjsua2 in between, which copies every message in question, and the
// transaction, for each of a dozen events a call. All [sip].
#pragma once

#include "wire.hpp"

#include <functional>
#include <string>

namespace recorder {

struct CallProgress {
    int state = 0;  // pjsip_inv_state
    int status = 0; // SIP status of the last response, or of the ending
    std::string phrase;
    std::string sip_call_id;
    bool has_sdp = false;    // the message that made the change
    bool by_stack = false;   // no message did: a timer, a transport that failed
    bool by_own_bye = false; // one that we sent
    std::string redirection; // the whole 3xx, as it came
};

// Where a call stands now, and within its state's callback, what made it so.
CallProgress call_progress(int call_id);

// They run inside the stack and must not throw.
using ProgressHandler = std::function<void(int call_id, const CallProgress &progress)>;
using MediaHandler = std::function<void(int call_id)>;

// `on_progress` hears of what concerns a call of two legs: what a callee sends before its answer, its answer, the ACK of
// a caller. The end of a call goes on to pjsua2, which lets go of its call object by it. `on_media` hears of every offer
// that has been answered. After libInit.
void install_progress(ProgressHandler on_progress, MediaHandler on_media);
void uninstall_progress();

// Answers with audio alone. False when the call is no longer there to be answered.
bool answer(int call_id, int code, const Headers &headers);

// Refuses, cancels or hangs up, whichever the state asks for. "" for the code's own phrase. False when it is over already.
bool hang_up(int call_id, int code, const std::string &phrase, const Headers &headers);

} // namespace recorder
