#include "probe.hpp"

#include "pj.hpp"

namespace recorder {

bool has_response(int call_id) {
    require_sip_thread();
    if (!is_call_id(call_id))
        return false;
    const pjsip_inv_session *session = pjsua_var.calls[call_id].inv;
    if (session == nullptr)
        return false;
    return session->state > PJSIP_INV_STATE_CALLING ||
           (session->invite_tsx != nullptr && session->invite_tsx->status_code >= 100);
}

} // namespace recorder
