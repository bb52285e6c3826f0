#include "dialog.hpp"

#include "formats.hpp"
#include "pj.hpp"
#include "relay.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

namespace recorder {
namespace {

// As pjmedia names them: DECODING is "we hear", ENCODING "we are heard".
constexpr std::array<std::pair<const char *, pjmedia_dir>, 4> kDirections = {{
    {"sendrecv", PJMEDIA_DIR_ENCODING_DECODING},
    {"sendonly", PJMEDIA_DIR_ENCODING},
    {"recvonly", PJMEDIA_DIR_DECODING},
    {"inactive", PJMEDIA_DIR_NONE},
}};

std::set<int> outstanding; // calls whose re-INVITE of ours has had no final response
std::vector<std::pair<int, int>> ended;
std::vector<Closing> closing;
constexpr std::string_view kExpired = "No session refresh received."; // what pjsip's timer says

const char *name_of(pjmedia_dir direction) {
    for (const auto &[name, value] : kDirections)
        if (value == direction)
            return name;
    return kDirections[0].first;
}

template <typename Description> const char *stated_direction(const Description &description) {
    for (const auto &[name, value] : kDirections)
        if (pjmedia_sdp_attr_find2(description.attr_count, description.attr, name, nullptr) != nullptr)
            return name;
    return nullptr;
}

void state_direction(pj_pool_t *pool, pjmedia_sdp_media &media, const char *direction) {
    for (const auto &[name, value] : kDirections)
        pjmedia_sdp_media_remove_all_attr(&media, name);
    pjmedia_sdp_media_add_attr(&media, pjmedia_sdp_attr_create(pool, direction, nullptr));
}

template <typename Description>
std::optional<bool> stated_recording(const Description &description, const char *name) {
    std::optional<bool> said;
    for (unsigned i = 0; i < description.attr_count; ++i) {
        const pjmedia_sdp_attr &attribute = *description.attr[i];
        if (pj_stricmp2(&attribute.name, name) != 0)
            continue;
        pj_str_t value = attribute.value;
        pj_strtrim(&value);
        if (pj_stricmp2(&value, "on") == 0)
            said = said.value_or(true);
        for (const char *none : {"off", "paused", "pause"})
            if (pj_stricmp2(&value, none) == 0)
                said = false;
    }
    return said;
}

bool is_nowhere(const pjmedia_sdp_conn *connection) {
    return connection != nullptr && view(connection->addr) == "0.0.0.0";
}

// Says a hold in RFC 3264's own words, which is all that the stack understands of it. A hold by address 0.0.0.0 (RFC 2543;
// RFC 3264, section 8.4) becomes a direction: the stack would answer with 0.0.0.0 itself, and refuse music on hold. A
// direction for the whole session (RFC 8866, section 6.7) becomes one for each medium.
void put_hold_in_directions(pjsip_rx_data *rdata, pjmedia_sdp_session &sdp) {
    pj_pool_t *pool = rdata->tp_info.pool;
    const char *of_session = stated_direction(sdp);
    for (unsigned i = 0; i < sdp.media_count; ++i) {
        pjmedia_sdp_media &media = *sdp.media[i];
        const char *direction = stated_direction(media);
        if (direction == nullptr && of_session != nullptr)
            state_direction(pool, media, direction = of_session);
        if (!is_nowhere(media.conn != nullptr ? media.conn : sdp.conn))
            continue;
        // Nothing is sent there while it is held; an address it must have, and its sender's is as good as any.
        auto *connection = PJ_POOL_ZALLOC_T(pool, pjmedia_sdp_conn);
        connection->net_type = pj_str(const_cast<char *>("IN"));
        connection->addr_type = pj_str(const_cast<char *>(std::string_view(rdata->pkt_info.src_name).find(':') == std::string_view::npos ? "IP4" : "IP6"));
        pj_strdup2(pool, &connection->addr, rdata->pkt_info.src_name);
        media.conn = connection;
        const std::string_view before = direction != nullptr ? direction : "sendrecv";
        if (before == "sendrecv" || before == "recvonly")
            state_direction(pool, media, before == "sendrecv" ? "sendonly" : "inactive");
    }
}

// SDP is parsed here only where there may be something to do: most messages cost two searches.
bool may_hold_oddly(std::string_view body) {
    if (body.find("IP4 0.0.0.0") != std::string_view::npos)
        return true;
    const std::string_view session = body.substr(0, body.find("\nm="));
    return std::any_of(kDirections.begin(), kDirections.end(), [session](const auto &direction) {
        return session.find(std::string("\na=") + direction.first) != std::string_view::npos;
    });
}

pj_bool_t on_rx(pjsip_rx_data *rdata) {
    const pjsip_msg_body *body = rdata->msg_info.msg->body;
    if (body == nullptr || body->data == nullptr ||
        !may_hold_oddly({static_cast<const char *>(body->data), body->len}))
        return PJ_FALSE;
    // The parsed form is kept with the message: whoever asks for it later gets this one.
    const pjsip_rdata_sdp_info *info = pjsip_rdata_get_sdp_info(rdata);
    if (info->sdp != nullptr)
        put_hold_in_directions(rdata, *info->sdp);
    return PJ_FALSE;
}

// Sees each message first, before the transaction layer.
pjsip_module hold_module = [] {
    pjsip_module module{};
    module.name = pj_str(const_cast<char *>("mod-recorder-hold"));
    module.id = -1;
    module.priority = PJSIP_MOD_PRIORITY_TSX_LAYER - 1;
    module.on_rx_request = &on_rx;
    module.on_rx_response = &on_rx;
    return module;
}();

pjsua_call *call_of(int call_id) { return is_call_id(call_id) ? &pjsua_var.calls[call_id] : nullptr; }

// What the far end has said last: an offer that has no answer yet, otherwise what has been agreed.
const pjmedia_sdp_session *remote_sdp(pjmedia_sdp_neg *negotiator, bool &is_offer) {
    const pjmedia_sdp_session *remote = nullptr;
    const pjmedia_sdp_neg_state state = pjmedia_sdp_neg_get_state(negotiator);
    is_offer = state == PJMEDIA_SDP_NEG_STATE_REMOTE_OFFER || state == PJMEDIA_SDP_NEG_STATE_WAIT_NEGO;
    const pj_status_t status = is_offer ? pjmedia_sdp_neg_get_neg_remote(negotiator, &remote)
                                        : pjmedia_sdp_neg_get_active_remote(negotiator, &remote);
    is_offer |= status == PJ_SUCCESS && !pjmedia_sdp_neg_was_answer_remote(negotiator);
    return status == PJ_SUCCESS ? remote : nullptr;
}

} // namespace

void install_dialog() {
    require_sip_thread();
    if (hold_module.id < 0)
        require(pjsip_endpt_register_module(pjsua_get_pjsip_endpt(), &hold_module), "cannot register the hold module");
    outstanding.clear();
    ended.clear();
    closing.clear();
}

std::optional<std::string> asked_direction(int call_id) {
    require_sip_thread();
    const pjsua_call *call = call_of(call_id);
    if (call == nullptr || call->inv == nullptr || call->inv->neg == nullptr)
        return std::nullopt;
    bool is_offer = false;
    const pjmedia_sdp_media *audio = audio_of(call_id, remote_sdp(call->inv->neg, is_offer));
    if (audio == nullptr || audio->desc.port == 0)
        return std::nullopt;
    // An answer may say no more than the offer allowed (RFC 3264, section 6.1): it is no wish of its own then.
    if (!is_offer && call->audio_idx >= 0 && call->media[call->audio_idx].def_dir != PJMEDIA_DIR_ENCODING_DECODING)
        return std::nullopt;
    const char *direction = stated_direction(*audio);
    return direction != nullptr ? direction : name_of(PJMEDIA_DIR_ENCODING_DECODING);
}

std::optional<bool> asked_recording(int call_id) {
    require_sip_thread();
    const pjsua_call *call = call_of(call_id);
    const pjmedia_sdp_session *remote = nullptr;
    if (call == nullptr || call->inv == nullptr || call->inv->neg == nullptr ||
        pjmedia_sdp_neg_get_active_remote(call->inv->neg, &remote) != PJ_SUCCESS)
        return std::nullopt;
    const pjmedia_sdp_media *audio = audio_of(call_id, remote);
    std::optional<bool> wanted;
    for (const char *name : {"record", "recordpref"}) {
        std::optional<bool> said;
        if (audio != nullptr)
            said = stated_recording(*audio, name);
        if (!said) // that of the session is for the media that say nothing themselves
            said = stated_recording(*remote, name);
        if (said)
            wanted = *said && wanted.value_or(true);
    }
    return wanted;
}

bool progress(int call_id, int code, const std::string &phrase, bool media, const Headers &headers) {
    require_sip_thread();
    if (code <= 100 || code >= 200)
        throw std::invalid_argument("progress is told with 101 to 199");
    const LockedCall leg("progress", call_id);
    if (leg.call == nullptr || leg.call->hanging_up)
        return false;
    pjsip_inv_session *invite = leg.call->inv;
    const pjsip_transaction *transaction = invite->invite_tsx;
    if (transaction == nullptr || transaction->role != PJSIP_ROLE_UAS ||
        transaction->state >= PJSIP_TSX_STATE_COMPLETED || invite->last_answer == nullptr)
        return false;
    // An INVITE without an offer gets ours with the 200: RFC 3261, section 13.2.1, allows none in a provisional response
    // that may get lost. The stack puts SDP into 183 and none into 180, whoever asks; the code is set to what is to be said.
    pjsip_tx_data *response = nullptr;
    const int as = media && invite->neg != nullptr ? PJSIP_SC_PROGRESS : PJSIP_SC_RINGING;
    if (pjsip_inv_answer(invite, as, nullptr, nullptr, &response) != PJ_SUCCESS)
        return false;
    pjsip_status_line &line = response->msg->line.status;
    line.code = code;
    const pj_str_t text = phrase.empty() ? *pjsip_get_status_text(code) : borrow(phrase);
    pj_strdup(response->pool, &line.reason, &text);
    for (const auto &[name, value] : headers)
        add_header(response, name, value);
    return pjsip_inv_send_msg(invite, response) == PJ_SUCCESS;
}

bool reinvite(int call_id, const std::string &direction) {
    require_sip_thread();
    const auto *found = std::find_if(kDirections.begin(), kDirections.end(),
                                     [&](const auto &known) { return direction == known.first; });
    if (found == kDirections.end())
        throw std::invalid_argument("'" + direction + "' is no direction of SDP");
    const LockedCall leg("re-INVITE", call_id);
    if (leg.call == nullptr || leg.call->hanging_up || leg.call->inv->state != PJSIP_INV_STATE_CONFIRMED ||
        leg.call->inv->invite_tsx != nullptr ||
        pjmedia_sdp_neg_get_state(leg.call->inv->neg) != PJMEDIA_SDP_NEG_STATE_DONE)
        return false;
    pjsua_call_setting setting = leg.call->opt;
    pjsua_call_cleanup_flag(&setting);
    setting.flag |= PJSUA_CALL_SET_MEDIA_DIR;
    std::fill(std::begin(setting.media_dir), std::end(setting.media_dir), found->second);
    outstanding.insert(call_id);
    if (pjsua_call_reinvite2(call_id, &setting, nullptr) == PJ_SUCCESS)
        return true;
    outstanding.erase(call_id);
    return false;
}

std::vector<std::pair<int, int>> take_reinvites() { return std::exchange(ended, {}); }

void reinvite_may_have_ended(const pjsip_dialog *dialog, const pjsip_transaction *transaction) {
    if (outstanding.empty() || transaction->role != PJSIP_ROLE_UAC || transaction->method.id != PJSIP_INVITE_METHOD ||
        transaction->state < PJSIP_TSX_STATE_COMPLETED || transaction->status_code < 200)
        return;
    const auto *call = static_cast<const pjsua_call *>(dialog->mod_data[pjsua_var.mod.id]);
    // One that is sent again, with credentials or another session interval, has another transaction by now.
    if (call == nullptr || (call->inv != nullptr && call->inv->invite_tsx != nullptr) || outstanding.erase(call->index) == 0)
        return;
    ended.emplace_back(call->index, transaction->status_code);
}

std::vector<Closing> take_closing() { return std::exchange(closing, {}); }

void stack_may_have_sent_bye(const pjsip_dialog *dialog, const pjsip_transaction *transaction) {
    if (transaction->role != PJSIP_ROLE_UAC || transaction->method.id != PJSIP_BYE_METHOD ||
        transaction->state != PJSIP_TSX_STATE_CALLING)
        return;
    const auto *call = static_cast<const pjsua_call *>(dialog->mod_data[pjsua_var.mod.id]);
    if (call == nullptr || call->hanging_up || call->inv == nullptr || call->inv->cause < 300)
        return;
    closing.push_back({static_cast<int>(call->index), call->inv->cause, view(call->inv->cause_text) == kExpired});
}

} // namespace recorder
