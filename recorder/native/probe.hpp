// What there is to ask of an INVITE that went out, and of a target that has no call.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace recorder {

// [sip] Whether the INVITE that we sent has had any response yet, be it a 100.
bool has_response(int call_id);

// The final status of an OPTIONS; 0 when the far side has sent none.
using OptionsHandler = std::function<void(std::uint64_t token, int status)>;

// [sip] Who hears of the answers. Install after libInit, uninstall before libDestroy.
void install_options(OptionsHandler handler);
void uninstall_options();

// [sip] Send OPTIONS to `uri` through this listener; `token` comes back with the answer. False when it cannot be sent.
bool send_options(const std::string &uri, const std::string &from, int transport_id, std::uint64_t token);

} // namespace recorder
