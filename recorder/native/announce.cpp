#include "announce.hpp"

#include "formats.hpp"

#include <string>
#include <unordered_map>

namespace recorder {
namespace {

// By the call's number, which another call has later: its Call-ID goes with it.
std::unordered_map<int, std::string> recorded_calls;

bool is_to_be_told(int call_id) {
    const pjsip_inv_session *invite = pjsua_var.calls[call_id].inv;
    const auto found = recorded_calls.find(call_id);
    if (invite == nullptr || found == recorded_calls.end() || found->second != view(invite->dlg->call_id->id))
        return false;
    const pj_str_t tag = pj_str(const_cast<char *>("record-aware"));
    return pjsip_dlg_remote_has_cap(invite->dlg, PJSIP_H_SUPPORTED, nullptr, &tag) == PJSIP_DIALOG_CAP_SUPPORTED;
}

} // namespace

void say_whether_recorded(int call_id, pj_pool_t *pool, pjmedia_sdp_media &media) {
    pjmedia_sdp_media_remove_all_attr(&media, "record");
    if (!is_to_be_told(call_id))
        return;
    const pj_str_t on = pj_str(const_cast<char *>("on"));
    pjmedia_sdp_media_add_attr(&media, pjmedia_sdp_attr_create(pool, "record", &on));
}

void announce_recording(int call_id, bool recorded) {
    require_sip_thread();
    if (!is_call_id(call_id) || pjsua_var.calls[call_id].inv == nullptr)
        return;
    const pjsip_inv_session *invite = pjsua_var.calls[call_id].inv;
    if (recorded)
        recorded_calls[call_id] = text(invite->dlg->call_id->id);
    else
        recorded_calls.erase(call_id);
    const pjmedia_sdp_session *prepared = nullptr;
    if (invite->neg == nullptr)
        return;
    // What has been agreed on already lies in another pool.
    const pjmedia_sdp_neg_state state = pjmedia_sdp_neg_get_state(invite->neg);
    if ((state != PJMEDIA_SDP_NEG_STATE_LOCAL_OFFER && state != PJMEDIA_SDP_NEG_STATE_WAIT_NEGO) ||
        pjmedia_sdp_neg_get_neg_local(invite->neg, &prepared) != PJ_SUCCESS)
        return;
    pjmedia_sdp_media *media = audio_of(call_id, prepared);
    if (media != nullptr)
        say_whether_recorded(call_id, invite->pool_prov, *media);
}

} // namespace recorder
