// A 3xx with somebody else's Contact: pjsua2 would put ours beside it.
#pragma once

#include <string>
#include <vector>

namespace recorder {

// [sip] Answer the INVITE of this call, which came in, with a 3xx that points to `contacts`, which are header values.
// False when it cannot be answered any more.
bool redirect(int call_id, int code, const std::string &phrase, const std::vector<std::string> &contacts);

} // namespace recorder
