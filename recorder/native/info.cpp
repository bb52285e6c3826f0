#include "info.hpp"

#include "dialog.hpp"
#include "headers.hpp"
#include "pj.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <unordered_map>
#include <utility>

namespace recorder {
namespace {

constexpr long kSweepInterval_s = 1;
constexpr long kAbandoned_s = 40; // the sender's Timer F is 32 s: nobody waits for the answer any more

// An INFO that has not had its final answer. The dialog and the transaction live until the transaction ends, of which
// `on_tsx_state` tells us; then the entry goes.
struct Pending {
    pjsip_dialog *dialog;
    pjsip_transaction *transaction;
    pjsip_tx_data *response; // made from the request while it was there; status and content come later
    std::shared_ptr<const WireMessage> message;
    pjsip_method method; // in the response's memory
    pj_time_val received;
    pjsip_dialog *far_dialog; // null until it has been sent on
};

std::unordered_map<std::uint64_t, Pending> pending;
std::uint64_t last_token = 0;
std::shared_ptr<InfoHandler> handler; // shared: it may be uninstalled while it runs
std::shared_ptr<AnswerFilter> filter; // likewise
pj_timer_entry sweep_timer;

// What the stack does itself. Any other request within a dialog, known or unknown, is ours.
constexpr std::array<std::string_view, 7> kMethodsOfTheStack = {"INVITE", "ACK",   "BYE",   "CANCEL",
                                                                "PRACK",  "UPDATE", "SUBSCRIBE"};
const pjsip_method kNotifyMethod = {PJSIP_OTHER_METHOD, {const_cast<char *>("NOTIFY"), 6}};

pj_bool_t on_rx_request(pjsip_rx_data *rdata);
void on_tsx_state_first(pjsip_transaction *transaction, pjsip_event *event);
void on_tsx_state_last(pjsip_transaction *transaction, pjsip_event *event);
pj_status_t on_endpoint_stop();

template <std::size_t N> pjsip_module make_module(const char (&name)[N], int priority) {
    pjsip_module module{};
    module.name = {const_cast<char *>(name), N - 1};
    module.id = -1;
    module.priority = priority;
    return module;
}

// Two usages of each dialog: one before the invite session's and pjsua's, one after all.
pjsip_module first_usage = [] {
    auto module = make_module("mod-recorder-info", PJSIP_MOD_PRIORITY_DIALOG_USAGE - 1);
    module.on_rx_request = &on_rx_request;
    module.on_tsx_state = &on_tsx_state_first;
    module.stop = &on_endpoint_stop;
    return module;
}();
pjsip_module last_usage = [] {
    auto module = make_module("mod-recorder-info-last", PJSIP_MOD_PRIORITY_APPLICATION + 100);
    module.on_tsx_state = &on_tsx_state_last;
    return module;
}();

pjsip_inv_session *invite_of(const pjsip_dialog *dialog) {
    return static_cast<pjsip_inv_session *>(dialog->mod_data[pjsip_inv_usage_instance()->id]);
}

bool is_alive(const pjsip_dialog *dialog) {
    const pjsip_inv_session *invite = invite_of(dialog);
    return invite != nullptr && invite->state != PJSIP_INV_STATE_DISCONNECTED;
}

// Takes the invite session out of the dialog's sight while the usages between ours see one event of our transactions,
// and puts it back. Its usage does nothing when it finds no session, and pjsua hears of transactions through it alone.
namespace IsolatedInvite {
void begin(pjsip_dialog *dialog) {
    void *&invite = dialog->mod_data[pjsip_inv_usage_instance()->id];
    dialog->mod_data[last_usage.id] = std::exchange(invite, nullptr);
}
void end(pjsip_dialog *dialog) {
    if (void *invite = std::exchange(dialog->mod_data[last_usage.id], nullptr))
        dialog->mod_data[pjsip_inv_usage_instance()->id] = invite;
}
} // namespace IsolatedInvite

void *as_mod_data(std::uint64_t token) { return reinterpret_cast<void *>(static_cast<std::uintptr_t>(token)); }

std::uint64_t token_of(const pjsip_transaction *transaction) {
    return reinterpret_cast<std::uintptr_t>(transaction->mod_data[first_usage.id]);
}

// Content-Type goes in as an ordinary header, so that it leaves byte for byte as it came; pjsip then writes neither it
// nor Content-Length by itself, except the latter where there is no body.
void set_content(pjsip_tx_data *tdata, const WireMessage &content) {
    for (const auto &[name, value] : content.headers)
        if (!name.empty() && is_printable(name) && is_printable(value))
            add_header(tdata, name, value);
    if (!content.content_type.empty() && is_printable(content.content_type))
        add_header(tdata, "Content-Type", content.content_type);
    if (content.body.empty())
        return;
    add_header(tdata, "Content-Length", std::to_string(content.body.size()));
    auto *body = PJ_POOL_ZALLOC_T(tdata->pool, pjsip_msg_body);
    pjsip_media_type_init(&body->content_type, nullptr, nullptr);
    pj_str_t copy;
    const pj_str_t original = borrow(content.body);
    pj_strdup(tdata->pool, &copy, &original);
    body->data = copy.ptr;
    body->len = static_cast<unsigned>(copy.slen);
    body->print_body = &pjsip_print_text_body;
    body->clone_data = &pjsip_clone_text_data;
    tdata->msg->body = body;
}

WireMessage content_of(const pjsip_rx_data *rdata) {
    const auto &info = rdata->msg_info;
    return take_apart(std::string_view(info.msg_buf, static_cast<std::size_t>(info.len)),
                      info.clen != nullptr ? info.clen->len : -1);
}

// Sends the final answer and forgets the INFO. False when it is unknown or cannot be sent.
bool finish(std::uint64_t token, int code, const std::string &reason, const WireMessage &content) {
    // Out of the table first: sending calls back into on_tsx_state.
    auto entry = pending.extract(token);
    if (entry.empty())
        return false;
    const Pending info = entry.mapped();
    pjsip_status_line &line = info.response->msg->line.status;
    line.code = code;
    const pj_str_t text = reason.empty() ? *pjsip_get_status_text(code) : borrow(reason);
    pj_strdup(info.response->pool, &line.reason, &text);
    set_content(info.response, content);
    return pjsip_dlg_send_response(info.dialog, info.transaction, info.response) == PJ_SUCCESS;
}

bool finish(std::uint64_t token, int code) { return finish(token, code, {}, {}); }

template <typename Verdict> void finish_where(Verdict verdict) {
    std::vector<std::pair<std::uint64_t, int>> ended;
    for (const auto &[token, info] : pending)
        if (const int code = verdict(info))
            ended.emplace_back(token, code);
    for (const auto &[token, code] : ended)
        finish(token, code);
}

// RFC 3261, section 15.1.2: what is still pending when the dialog ends is answered 487. An INFO sent on to a leg that
// has gone will not get its answer there.
int verdict_of_dialogs(const Pending &info) {
    if (!is_alive(info.dialog))
        return PJSIP_SC_REQUEST_TERMINATED;
    if (info.far_dialog != nullptr && !is_alive(info.far_dialog))
        return PJSIP_SC_CALL_TSX_DOES_NOT_EXIST;
    return 0;
}

void schedule_sweep() {
    const pj_time_val delay = {kSweepInterval_s, 0};
    if (!pj_timer_entry_running(&sweep_timer))
        pjsip_endpt_schedule_timer(pjsua_get_pjsip_endpt(), &sweep_timer, &delay);
}

// Finds what no event tells of: a session that pjsua ended by force, an INFO that the application never answered.
void on_sweep(pj_timer_heap_t *, pj_timer_entry *) {
    pj_time_val now;
    pj_gettickcount(&now);
    finish_where([&](const Pending &info) -> int {
        if (const int code = verdict_of_dialogs(info))
            return code;
        const bool abandoned = info.far_dialog == nullptr && now.sec - info.received.sec > kAbandoned_s;
        return abandoned ? PJSIP_SC_REQUEST_TIMEOUT : 0;
    });
    if (!pending.empty())
        schedule_sweep();
}

bool is_ours(const pjsip_msg *request) {
    const std::string_view method = view(request->line.req.method.name);
    if (method == "NOTIFY") { // of a transfer (RFC 3515): the stack's
        const pj_str_t name = pj_str(const_cast<char *>("Event")), short_name = pj_str(const_cast<char *>("o"));
        const auto *event = static_cast<const pjsip_generic_string_hdr *>(
            pjsip_msg_find_hdr_by_names(request, &name, &short_name, nullptr));
        return event == nullptr || view(event->hvalue).substr(0, 5) != "refer";
    }
    return std::find(kMethodsOfTheStack.begin(), kMethodsOfTheStack.end(), method) == kMethodsOfTheStack.end();
}

// The endpoint calls this for every request outside dialogs too.
pj_bool_t on_rx_request(pjsip_rx_data *rdata) {
    // Only claimed here. It is answered from on_tsx_state, when the transaction has seen the request: pjsua2 reads the
    // transaction's state when an answer goes out.
    return handler && pjsip_rdata_get_dlg(rdata) != nullptr && is_ours(rdata->msg_info.msg);
}

void receive(pjsip_dialog *dialog, pjsip_transaction *transaction, pjsip_rx_data *rdata) {
    const std::shared_ptr<InfoHandler> handle = handler;
    pjsip_tx_data *response = nullptr;
    if (!handle || pjsip_dlg_create_response(dialog, rdata, PJSIP_SC_OK, nullptr, &response) != PJ_SUCCESS)
        return;
    const std::uint64_t token = ++last_token;
    auto message = std::make_shared<const WireMessage>(content_of(rdata));
    Pending info{dialog, transaction, response, message, {}, {}, nullptr};
    pjsip_method_copy(response->pool, &info.method, &transaction->method);
    pj_gettickcount(&info.received);
    transaction->mod_data[first_usage.id] = as_mod_data(token);
    pending.emplace(token, std::move(info));

    const auto *call = static_cast<const pjsua_call *>(dialog->mod_data[pjsua_var.mod.id]);
    if (call == nullptr || !is_alive(dialog)) {
        finish(token, PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);
        return;
    }
    if (transaction->method.id == PJSIP_OPTIONS_METHOD) { // asks for what we can do (RFC 3261, section 11)
        for (const int header : {PJSIP_H_ACCEPT, PJSIP_H_ALLOW, PJSIP_H_SUPPORTED})
            if (const pjsip_hdr *capability = pjsip_endpt_get_capability(dialog->endpt, header, nullptr))
                pjsip_msg_add_hdr(response->msg, static_cast<pjsip_hdr *>(pjsip_hdr_clone(response->pool, capability)));
        finish(token, PJSIP_SC_OK);
        return;
    }
    char source[PJ_INET6_ADDRSTRLEN + 10];
    pj_sockaddr_print(&rdata->pkt_info.src_addr, source, sizeof source, 3);
    if (!(*handle)(InfoRequest{static_cast<int>(call->index), token, text(transaction->method.name), source, std::move(message)}))
        finish(token, PJSIP_SC_INTERNAL_SERVER_ERROR);
    if (!pending.empty())
        schedule_sweep();
}

// The far side's final answer, or the lack of one, is the answer to the INFO that was sent on.
void pass_back(std::uint64_t token, const pjsip_transaction *transaction, const pjsip_event *event) {
    if (event->body.tsx_state.type == PJSIP_EVENT_RX_MSG) {
        const pjsip_rx_data *rdata = event->body.tsx_state.src.rdata;
        const pjsip_status_line &line = rdata->msg_info.msg->line.status;
        WireMessage answer = content_of(rdata);
        const std::shared_ptr<AnswerFilter> select = filter;
        const auto found = pending.find(token);
        const auto *call = found == pending.end() ? nullptr
                                                  : static_cast<const pjsua_call *>(found->second.dialog->mod_data[pjsua_var.mod.id]);
        answer.headers = select && call != nullptr ? (*select)(static_cast<int>(call->index), answer.headers) : Headers{};
        finish(token, line.code, text(line.reason), answer);
        return;
    }
    // pjsip's own verdict: 408 for silence, 503 for a transport that failed.
    finish(token, transaction->status_code >= 300 ? transaction->status_code : PJSIP_SC_SERVICE_UNAVAILABLE);
}

void on_tsx_state_first(pjsip_transaction *transaction, pjsip_event *event) {
    pjsip_dialog *dialog = pjsip_tsx_get_dlg(transaction);
    if (dialog == nullptr)
        return;
    const auto &change = event->body.tsx_state;
    if (transaction->role == PJSIP_ROLE_UAS) {
        if (transaction->state == PJSIP_TSX_STATE_TRYING && change.type == PJSIP_EVENT_RX_MSG) {
            if (is_ours(change.src.rdata->msg_info.msg))
                receive(dialog, transaction, change.src.rdata);
        } else if (transaction->state == PJSIP_TSX_STATE_TERMINATED) {
            const auto entry = pending.extract(token_of(transaction));
            if (!entry.empty()) // ended by force, with no answer
                pjsip_tx_data_dec_ref(entry.mapped().response);
        }
    } else if (token_of(transaction) != 0 && transaction->state >= PJSIP_TSX_STATE_COMPLETED &&
               change.prev_state < PJSIP_TSX_STATE_COMPLETED) {
        pass_back(token_of(transaction), transaction, event);
    }
    if (token_of(transaction) != 0)
        IsolatedInvite::begin(dialog);
}

void on_tsx_state_last(pjsip_transaction *transaction, pjsip_event *) {
    pjsip_dialog *dialog = pjsip_tsx_get_dlg(transaction);
    if (dialog == nullptr)
        return;
    IsolatedInvite::end(dialog);
    reinvite_may_have_ended(dialog, transaction);
    stack_may_have_sent_bye(dialog, transaction);
    // The invite session has seen this event now; it may have been the dialog's last.
    if (!pending.empty() && !is_alive(dialog))
        finish_where(&verdict_of_dialogs);
}

pj_status_t on_endpoint_stop() {
    // libDestroy without uninstall_info: nothing can be sent any more.
    for (const auto &[token, info] : std::exchange(pending, {}))
        pjsip_tx_data_dec_ref(info.response);
    handler.reset();
    filter.reset();
    return PJ_SUCCESS;
}

void add_usages(pjsip_dialog *dialog) {
    for (pjsip_module *usage : {&first_usage, &last_usage})
        if (!pjsip_dlg_has_usage(dialog, usage))
            require(pjsip_dlg_add_usage(dialog, usage, nullptr), "cannot claim the INFOs of the dialog");
}

bool takes_requests(const LockedCall &leg) {
    return leg.dialog != nullptr && !leg.call->hanging_up && is_alive(leg.dialog) &&
           leg.dialog->state == PJSIP_DIALOG_STATE_ESTABLISHED && leg.dialog->remote.info->tag.slen > 0;
}

} // namespace

void install_info(InfoHandler new_handler, AnswerFilter new_filter) {
    require_sip_thread();
    if (handler)
        throw std::runtime_error("an INFO handler is installed already");
    for (pjsip_module *module : {&first_usage, &last_usage})
        if (module->id < 0) // a new endpoint: the old one took it out when it was destroyed
            require(pjsip_endpt_register_module(pjsua_get_pjsip_endpt(), module), "cannot register the INFO module");
    pj_timer_entry_init(&sweep_timer, 0, nullptr, &on_sweep);
    handler = std::make_shared<InfoHandler>(std::move(new_handler));
    filter = std::make_shared<AnswerFilter>(std::move(new_filter));
}

void uninstall_info() {
    if (!handler)
        return;
    require_sip_thread();
    pjsip_endpt_cancel_timer(pjsua_get_pjsip_endpt(), &sweep_timer);
    finish_where([](const Pending &) { return PJSIP_SC_SERVICE_UNAVAILABLE; });
    handler.reset();
    filter.reset();
}

void claim_info(int call_id) {
    require_sip_thread();
    if (first_usage.id < 0 || last_usage.id < 0)
        throw std::runtime_error("install_info comes before claim_info");
    const LockedCall leg("INFO", call_id);
    if (leg.dialog == nullptr)
        throw std::runtime_error("call " + std::to_string(call_id) + " has no dialog");
    add_usages(leg.dialog);
    watch_headers(leg.dialog);
}

bool answer_info(std::uint64_t token, int code, const std::string &reason, const Headers &headers) {
    if (code < 200 || code > 699)
        throw std::invalid_argument("an INFO is answered with a final code, 200 to 699");
    if (!is_printable(reason))
        throw std::invalid_argument("the reason has control characters in it");
    for (const auto &[name, value] : headers)
        if (name.empty() || !is_printable(name) || !is_printable(value))
            throw std::invalid_argument("header '" + name + "' cannot be written into a SIP message");
    require_sip_thread();
    return finish(token, code, reason, WireMessage{headers, {}, {}});
}

bool forward_info(std::uint64_t token, int call_id, const Headers &headers) {
    require_sip_thread();
    const auto found = pending.find(token);
    if (found == pending.end() || found->second.far_dialog != nullptr)
        return false;
    const LockedCall leg("INFO", call_id);
    if (!takes_requests(leg))
        return false;
    add_usages(leg.dialog);
    pjsip_tx_data *request = nullptr;
    if (pjsip_dlg_create_request(leg.dialog, &found->second.method, -1, &request) != PJ_SUCCESS)
        return false;
    const WireMessage &message = *found->second.message;
    if (pjsua_var.ua_cfg.user_agent.slen > 0) // as pjsua's own requests
        add_header(request, "User-Agent", view(pjsua_var.ua_cfg.user_agent));
    set_content(request, {headers, message.content_type, message.body});

    found->second.far_dialog = leg.dialog;
    if (pjsip_dlg_send_request(leg.dialog, request, first_usage.id, as_mod_data(token)) == PJ_SUCCESS)
        return true;
    // It failed at once. The transaction may have told on_tsx_state, which then has answered.
    const auto still = pending.find(token);
    if (still == pending.end())
        return true;
    still->second.far_dialog = nullptr;
    return false;
}

bool notify(int call_id, const Headers &headers, const std::string &content_type, const std::string &body) {
    require_sip_thread();
    const LockedCall leg("NOTIFY", call_id);
    if (!takes_requests(leg))
        return false;
    add_usages(leg.dialog);
    pjsip_tx_data *request = nullptr;
    if (pjsip_dlg_create_request(leg.dialog, &kNotifyMethod, -1, &request) != PJ_SUCCESS)
        return false;
    // RFC 6665, section 4.1.3: a NOTIFY refreshes the target, so that it needs a Contact.
    pjsip_msg_add_hdr(request->msg, static_cast<pjsip_hdr *>(pjsip_hdr_clone(request->pool, leg.dialog->local.contact)));
    set_content(request, {headers, content_type, body});
    // A token of its own that nothing waits by: its answer is of no consequence, and pjsua is not to see it.
    return pjsip_dlg_send_request(leg.dialog, request, first_usage.id, as_mod_data(++last_token)) == PJ_SUCCESS;
}

std::size_t pending_infos() { return pending.size(); }

} // namespace recorder
