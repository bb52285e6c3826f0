#include "redirect.hpp"

#include "pj.hpp"

namespace recorder {

bool redirect(int call_id, int code, const std::string &phrase, const std::vector<std::string> &contacts) {
    require_sip_thread();
    if (!is_call_id(call_id) || code < 300 || code > 399)
        return false;
    pjsip_inv_session *session = pjsua_var.calls[call_id].inv;
    if (session == nullptr || session->role != PJSIP_ROLE_UAS || session->state >= PJSIP_INV_STATE_CONNECTING)
        return false;
    pjsip_dialog *dialog = session->dlg;
    pjsip_dlg_inc_lock(dialog);
    const pj_str_t text = borrow(phrase);
    pjsip_tx_data *response = nullptr;
    pj_status_t status = pjsip_inv_end_session(session, code, phrase.empty() ? nullptr : &text, &response);
    if (status == PJ_SUCCESS && response != nullptr) {
        while (pjsip_msg_find_remove_hdr(response->msg, PJSIP_H_CONTACT, nullptr) != nullptr) {
        }
        for (const std::string &contact : contacts)
            add_header(response, "Contact", contact);
        status = pjsip_inv_send_msg(session, response);
    }
    pjsip_dlg_dec_lock(dialog);
    return status == PJ_SUCCESS;
}

} // namespace recorder
