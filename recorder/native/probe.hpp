// What there is to ask of an INVITE that went out, and of a target that has no call.
#pragma once

namespace recorder {

// [sip] Whether the INVITE that we sent has had any response yet, be it a 100.
bool has_response(int call_id);

} // namespace recorder
