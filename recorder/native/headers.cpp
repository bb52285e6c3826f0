#include "headers.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace recorder {
namespace {

std::vector<std::string> wanted; // lower case
std::unordered_map<int, Headers> picked;

void on_tsx_state(pjsip_transaction *transaction, pjsip_event *event);
pj_bool_t on_rx_request(pjsip_rx_data *rdata);

// A usage of the dialog that sees a message before the invite session acts by it.
pjsip_module usage = [] {
    pjsip_module module{};
    module.name = {const_cast<char *>("mod-recorder-headers"), 20};
    module.id = -1;
    module.priority = PJSIP_MOD_PRIORITY_DIALOG_USAGE - 2;
    module.on_tsx_state = &on_tsx_state;
    return module;
}();

// Sees what comes in outside any dialog before pjsua does.
pjsip_module guard = [] {
    pjsip_module module{};
    module.name = {const_cast<char *>("mod-recorder-replaces"), 21};
    module.id = -1;
    module.priority = PJSIP_MOD_PRIORITY_APPLICATION - 1;
    module.on_rx_request = &on_rx_request;
    return module;
}();

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool matches(std::string_view name, std::string_view pattern) {
    const bool open_ended = !pattern.empty() && pattern.back() == '*';
    if (open_ended)
        pattern.remove_suffix(1);
    if (open_ended ? name.size() < pattern.size() : name.size() != pattern.size())
        return false;
    return std::equal(pattern.begin(), pattern.end(), name.begin(), [](char p, char n) { return p == lower(n); });
}

bool is_wanted(std::string_view name) {
    return std::any_of(wanted.begin(), wanted.end(), [&](const std::string &pattern) { return matches(name, pattern); });
}

void pick(int call_id, const pjsip_rx_data *rdata) {
    const auto &info = rdata->msg_info;
    Headers found = take_apart(std::string_view(info.msg_buf, static_cast<std::size_t>(info.len)), 0).headers;
    std::erase_if(found, [](const auto &header) { return !is_wanted(header.first); });
    if (found.empty())
        picked.erase(call_id);
    else
        picked[call_id] = std::move(found);
}

void on_tsx_state(pjsip_transaction *transaction, pjsip_event *event) {
    if (event->body.tsx_state.type != PJSIP_EVENT_RX_MSG || wanted.empty())
        return;
    const pjsip_dialog *dialog = pjsip_tsx_get_dlg(transaction);
    if (dialog == nullptr)
        return;
    const auto *call = static_cast<const pjsua_call *>(dialog->mod_data[pjsua_var.mod.id]);
    const auto *invite = static_cast<const pjsip_inv_session *>(dialog->mod_data[pjsip_inv_usage_instance()->id]);
    if (call == nullptr || invite == nullptr)
        return;
    const pjsip_method_e method = transaction->method.id;
    const bool of_our_invite = transaction->role == PJSIP_ROLE_UAC && method == PJSIP_INVITE_METHOD &&
                               transaction->status_code > 100 && invite->state < PJSIP_INV_STATE_CONNECTING;
    const bool ends_the_call = transaction->role == PJSIP_ROLE_UAS && transaction->state == PJSIP_TSX_STATE_TRYING &&
                               (method == PJSIP_BYE_METHOD || method == PJSIP_CANCEL_METHOD);
    if (of_our_invite || ends_the_call)
        pick(static_cast<int>(call->index), event->body.tsx_state.src.rdata);
}

// pjsua would answer an INVITE with Replaces (RFC 3891) by itself, and hang up what it names.
pj_bool_t on_rx_request(pjsip_rx_data *rdata) {
    const pj_str_t name = {const_cast<char *>("Replaces"), 8};
    pjsip_msg *message = rdata->msg_info.msg;
    if (message->line.req.method.id == PJSIP_INVITE_METHOD && rdata->msg_info.to->tag.slen == 0)
        while (void *header = pjsip_msg_find_hdr_by_name(message, &name, nullptr))
            pj_list_erase(header);
    return PJ_FALSE;
}

} // namespace

void pick_headers(const std::vector<std::string> &names) {
    require_sip_thread();
    for (pjsip_module *module : {&usage, &guard})
        if (module->id < 0) // a new endpoint: the old one took it out when it was destroyed
            require(pjsip_endpt_register_module(pjsua_get_pjsip_endpt(), module), "cannot register the header module");
    wanted = names;
    for (std::string &name : wanted)
        std::transform(name.begin(), name.end(), name.begin(), &lower);
    picked.clear();
}

void watch_headers(pjsip_dialog *dialog) {
    if (usage.id < 0 || pjsip_dlg_has_usage(dialog, &usage))
        return;
    require(pjsip_dlg_add_usage(dialog, &usage, nullptr), "cannot watch the headers of the dialog");
    if (const auto *call = static_cast<const pjsua_call *>(dialog->mod_data[pjsua_var.mod.id]))
        picked.erase(static_cast<int>(call->index)); // of the call that had this number before
}

int find_call(const std::string &sip_call_id, const std::string &local_tag, const std::string &remote_tag) {
    require_sip_thread();
    const pj_str_t id = borrow(sip_call_id), local = borrow(local_tag), remote = borrow(remote_tag);
    pjsip_dialog *dialog = pjsip_ua_find_dialog(&id, &local, &remote, PJ_TRUE);
    if (dialog == nullptr)
        return PJSUA_INVALID_ID;
    const auto *call = static_cast<const pjsua_call *>(dialog->mod_data[pjsua_var.mod.id]);
    const int found = call != nullptr ? static_cast<int>(call->index) : PJSUA_INVALID_ID;
    pjsip_dlg_dec_lock(dialog);
    return found;
}

void drop_headers(int call_id) {
    require_sip_thread();
    if (!is_call_id(call_id) || pjsua_var.calls[call_id].inv == nullptr)
        return;
    const pjsip_tx_data *answer = pjsua_var.calls[call_id].inv->last_answer;
    if (answer == nullptr)
        return;
    pjsip_hdr *all = &answer->msg->hdr;
    for (pjsip_hdr *header = all->next, *next; header != all; header = next) {
        next = header->next;
        if (is_wanted(view(header->name)))
            pj_list_erase(header);
    }
}

Headers take_headers(int call_id) {
    auto entry = picked.extract(call_id);
    return entry.empty() ? Headers{} : std::move(entry.mapped());
}

} // namespace recorder
