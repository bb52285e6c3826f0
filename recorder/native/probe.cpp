#include "probe.hpp"

#include "pj.hpp"

#include <utility>

namespace recorder {
namespace {

OptionsHandler handler;

void on_answer(void *token, pjsip_event *event) {
    if (!handler)
        return;
    const bool heard = event->type == PJSIP_EVENT_TSX_STATE && event->body.tsx_state.type == PJSIP_EVENT_RX_MSG;
    handler(reinterpret_cast<std::uintptr_t>(token), heard ? event->body.tsx_state.tsx->status_code : 0);
}

} // namespace

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

void install_options(OptionsHandler new_handler) {
    require_sip_thread();
    handler = std::move(new_handler);
}

void uninstall_options() { handler = nullptr; }

bool send_options(const std::string &uri, const std::string &from, int transport_id, std::uint64_t token) {
    require_sip_thread();
    const pj_str_t target = borrow(uri), sender = borrow(from);
    pjsip_endpoint *endpoint = pjsua_get_pjsip_endpt();
    pjsip_tx_data *request = nullptr;
    if (pjsip_endpt_create_request(endpoint, pjsip_get_options_method(), &target, &sender, &target, &sender, nullptr, -1,
                                   nullptr, &request) != PJ_SUCCESS)
        return false;
    pjsua_process_msg_data(request, nullptr); // User-Agent
    pjsip_tpselector through{};
    pjsua_init_tpselector(transport_id, &through);
    pjsip_tx_data_set_transport(request, &through);
    // It lets go of the request by itself, also when it fails.
    return pjsip_endpt_send_request(endpoint, request, -1, reinterpret_cast<void *>(static_cast<std::uintptr_t>(token)),
                                    &on_answer) == PJ_SUCCESS;
}

} // namespace recorder
