#include "progress.hpp"

#include "pj.hpp"
#include "transports.hpp"

#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace recorder {
namespace {

struct Handlers {
    ProgressHandler on_progress;
    MediaHandler on_media;
};

std::shared_ptr<Handlers> handlers; // shared: they may be uninstalled while one runs
void (*next_state_callback)(pjsua_call_id, pjsip_event *) = nullptr;
const pjsip_event *current = nullptr; // while a state callback runs

bool is_over(const pjsua_call &call) {
    return call.hanging_up || call.inv == nullptr || call.inv->state >= PJSIP_INV_STATE_DISCONNECTED;
}

void add_cause(CallProgress &progress, const pjsua_call &call) {
    if (current == nullptr || current->type != PJSIP_EVENT_TSX_STATE)
        return;
    const auto &change = current->body.tsx_state;
    const pjsip_transaction &transaction = *change.tsx;
    progress.by_stack = change.type == PJSIP_EVENT_TIMER || change.type == PJSIP_EVENT_TRANSPORT_ERROR;
    progress.by_own_bye = transaction.method.id == PJSIP_BYE_METHOD && transaction.role == PJSIP_ROLE_UAC;
    if (change.type != PJSIP_EVENT_RX_MSG || change.src.rdata == nullptr)
        return;
    pjsip_rx_data *rdata = change.src.rdata;
    progress.has_sdp = rdata->msg_info.msg->body != nullptr && pjsip_rdata_get_sdp_info(rdata)->sdp != nullptr;
    // The stack calls a redirection that it may not follow itself 487.
    if (call.inv != nullptr && call.inv->role == PJSIP_ROLE_UAC && transaction.status_code / 100 == 3) {
        progress.status = transaction.status_code;
        progress.phrase = text(transaction.status_text);
        progress.redirection.assign(rdata->msg_info.msg_buf, static_cast<std::size_t>(rdata->msg_info.len));
    }
}

void on_call_state(pjsua_call_id call_id, pjsip_event *event) {
    const pjsua_call &call = pjsua_var.calls[call_id];
    const pjsip_event *before = std::exchange(current, event);
    if (is_over(call)) {
        next_state_callback(call_id, event);
    } else if (is_pjsua_up()) {
        loosen(call_id);
        const pjsip_inv_state state = call.inv->state;
        const bool concerns = call.inv->role == PJSIP_ROLE_UAC
                                  ? state == PJSIP_INV_STATE_EARLY || state == PJSIP_INV_STATE_CONNECTING
                                  : state == PJSIP_INV_STATE_CONFIRMED;
        if (const std::shared_ptr<Handlers> told = handlers; concerns && told)
            told->on_progress(call_id, call_progress(call_id));
    }
    current = before;
}

void on_call_media_state(pjsua_call_id call_id) {
    if (const std::shared_ptr<Handlers> told = handlers)
        told->on_media(call_id);
}

// The headers of a message that is made; they borrow from `headers`.
class MessageData {
  public:
    explicit MessageData(const Headers &headers) : lines_(headers.size()) {
        pjsua_msg_data_init(&data);
        for (std::size_t i = 0; i < headers.size(); ++i) {
            pj_str_t name = borrow(headers[i].first), value = borrow(headers[i].second);
            pjsip_generic_string_hdr_init2(&lines_[i], &name, &value);
            pj_list_push_back(&data.hdr_list, &lines_[i]);
        }
    }
    MessageData(const MessageData &) = delete;
    MessageData &operator=(const MessageData &) = delete;

    pjsua_msg_data data;

  private:
    std::vector<pjsip_generic_string_hdr> lines_;
};

} // namespace

CallProgress call_progress(int call_id) {
    require_sip_thread();
    if (!is_call_id(call_id))
        throw std::runtime_error("there is no such call");
    const pjsua_call &call = pjsua_var.calls[call_id];
    // As pjsua's own call info has it: a call that is being hung up counts as disconnected, before its BYE is sent.
    const bool over = is_over(call);
    const bool by_cause = over && !call.hanging_up && call.inv != nullptr;
    CallProgress progress;
    progress.state = over ? PJSIP_INV_STATE_DISCONNECTED : call.inv->state;
    progress.status = by_cause ? call.inv->cause : call.last_code;
    progress.phrase = text(by_cause ? call.inv->cause_text : call.last_text);
    if (call.inv != nullptr)
        progress.sip_call_id = text(call.inv->dlg->call_id->id);
    add_cause(progress, call);
    return progress;
}

void install_progress(ProgressHandler on_progress, MediaHandler on_media) {
    handlers = std::make_shared<Handlers>(Handlers{std::move(on_progress), std::move(on_media)});
    pjsua_callback &callbacks = pjsua_var.ua_cfg.cb;
    next_state_callback = callbacks.on_call_state;
    callbacks.on_call_state = &on_call_state;
    callbacks.on_call_media_state = &on_call_media_state;
}

void uninstall_progress() { handlers.reset(); }

bool answer(int call_id, int code, const Headers &headers) {
    require_sip_thread();
    if (!is_call_id(call_id))
        return false;
    pjsua_call_setting setting;
    pjsua_call_setting_default(&setting);
    setting.aud_cnt = 1;
    setting.vid_cnt = setting.txt_cnt = 0;
    const MessageData message(headers);
    return pjsua_call_answer2(call_id, &setting, static_cast<unsigned>(code), nullptr, &message.data) == PJ_SUCCESS;
}

bool hang_up(int call_id, int code, const std::string &phrase, const Headers &headers) {
    require_sip_thread();
    if (!is_call_id(call_id))
        return false;
    const pj_str_t reason = borrow(phrase);
    const MessageData message(headers);
    return pjsua_call_hangup(call_id, static_cast<unsigned>(code), phrase.empty() ? nullptr : &reason, &message.data) ==
           PJ_SUCCESS;
}

} // namespace recorder
