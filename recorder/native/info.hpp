// SIP INFO within a dialog (RFC 6086): handed to the application, answered by it now or later, or sent on to another leg.
// So is every other request within a dialog that the stack has no use for: MESSAGE, NOTIFY, methods yet to be invented.
// REFER (RFC 3515) comes the same way: left to itself pjsua would dial wherever it is told to.
//
// Everything here belongs to the sip thread; nothing is locked. pjsua runs with no worker threads of its own, so every
// callback comes from inside libHandleEvents on that thread.
//
// An INFO that we claimed or sent on is hidden from pjsua and its invite session (see IsolatedInvite in info.cpp): they
// would answer DTMF and media control themselves, send a challenged request again, and hang up the far leg for a 408 or
// 481 to it. Here the end that sent the INFO gets the answer, and decides.
#pragma once

#include "wire.hpp"

#include <cstdint>
#include <functional>
#include <memory>

namespace recorder {

struct InfoRequest {
    int call_id;
    std::uint64_t token;
    std::string method;
    std::string source; // address:port
    std::shared_ptr<const WireMessage> message;
};

// Returns false when it failed; the INFO is then answered 500, unless it has been answered. Must not throw.
using InfoHandler = std::function<bool(const InfoRequest &)>;

// What of a far side's answer the sender of the request, on the call with this number, may see. Must not throw.
using AnswerFilter = std::function<Headers(int call_id, const Headers &headers)>;

void install_info(InfoHandler handler, AnswerFilter filter);
void uninstall_info();        // answers what is pending with 503 and drops the handler
void claim_info(int call_id); // throws std::runtime_error when there is no such dialog

bool answer_info(std::uint64_t token, int code, const std::string &reason, const Headers &headers);
bool forward_info(std::uint64_t token, int call_id, const Headers &headers);
// Sends a NOTIFY within the dialog (RFC 6665); its answer goes nowhere. False when it cannot be sent.
bool notify(int call_id, const Headers &headers, const std::string &content_type, const std::string &body);
std::size_t pending_infos();

} // namespace recorder
