#include "gate.hpp"

#include "malformed.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <initializer_list>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace recorder {
namespace {

constexpr std::size_t kMostRefused = 256; // that wait to be taken

std::vector<GateTrunk> trunks;
bool answers_strangers = true;
int retry_after = 0; // 0: not draining
Strangers strangers;
std::uint64_t challenges = 0;
std::deque<RefusedInvite> refused;

const GateTrunk *trunk = nullptr; // of the INVITE that is being handled
bool is_taken = false;            // Python knows of it, and will know of its end

// What the verified certificate of a connection's peer says, from its handshake to its end.
std::unordered_map<const pjsip_transport *, std::vector<std::string>> certificates;
pjsip_tp_state_callback next_state_callback = nullptr;

struct Problem {
    Problem(int code = 0, std::string_view phrase = {}, pjsip_hdr *header = nullptr)
        : code(code), phrase(phrase), header(header) {}
    int code;                // 0: there is none
    std::string_view phrase; // empty: the code's own
    pjsip_hdr *header;
};

bool equal(const pj_str_t &one, std::string_view other) {
    const pj_str_t text = borrow(other);
    return pj_stricmp(&one, &text) == 0;
}
pjsip_endpoint *endpoint() { return pjsua_get_pjsip_endpt(); }

template <class Visit> void each_header(const pjsip_msg *msg, Visit visit) {
    for (const pjsip_hdr *header = msg->hdr.next; header != &msg->hdr; header = header->next)
        visit(header);
}

std::string_view text_header(const pjsip_msg *msg, std::string_view name) {
    const pj_str_t key = borrow(name);
    const void *found = pjsip_msg_find_hdr_by_name(msg, &key, nullptr);
    return found == nullptr ? std::string_view{} : view(static_cast<const pjsip_generic_string_hdr *>(found)->hvalue);
}

// Where from ------------------------------------------------------------------------------------------------------------

bool comes_from(const GateTrunk &one, const Address &address) {
    return one.networks.empty() || std::any_of(one.networks.begin(), one.networks.end(),
                                               [&](const auto &network) { return holds(network, address); });
}

bool shows_certificate(const GateTrunk &one, const pjsip_transport *transport) {
    if (one.certificates.empty())
        return true;
    const auto peer = certificates.find(transport);
    if (peer == certificates.end())
        return false;
    return std::any_of(peer->second.begin(), peer->second.end(), [&](const std::string &name) {
        return std::any_of(one.certificates.begin(), one.certificates.end(),
                           [&](const std::string &wanted) { return equal(borrow(name), wanted); });
    });
}

// Whether it is known by more than what anybody could send.
bool is_known_peer(const GateTrunk &one) { return !one.networks.empty() || !one.certificates.empty(); }

// The host of a "sip:example.com" or "sip:user@example.com".
std::string_view host_of(std::string_view uri) {
    const std::size_t scheme = uri.find(':');
    if (scheme == std::string_view::npos)
        return {};
    uri.remove_prefix(scheme + 1);
    if (const std::size_t user = uri.find('@'); user != std::string_view::npos)
        uri.remove_prefix(user + 1);
    return uri.substr(0, uri.find_first_of(":;?"));
}

// RFC 5922, section 7.1: the subject alternative names; the common name only where there are none.
std::vector<std::string> names_in(const pj_ssl_cert_info &certificate) {
    std::vector<std::string> names;
    for (unsigned i = 0; i < certificate.subj_alt_name.cnt; ++i) {
        const auto &entry = certificate.subj_alt_name.entry[i];
        if (entry.type == PJ_SSL_CERT_NAME_DNS)
            names.emplace_back(view(entry.name));
        else if (entry.type == PJ_SSL_CERT_NAME_URI)
            names.emplace_back(host_of(view(entry.name)));
    }
    if (names.empty() && certificate.subject.cn.slen > 0)
        names.emplace_back(view(certificate.subject.cn));
    return names;
}

void on_transport_state(pjsip_transport *transport, pjsip_transport_state state, const pjsip_transport_state_info *info) {
    if (state == PJSIP_TP_STATE_CONNECTED && PJSIP_TRANSPORT_IS_SECURE(transport) && info->ext_info != nullptr) {
        const pj_ssl_sock_info *tls = static_cast<const pjsip_tls_state_info *>(info->ext_info)->ssl_sock_info;
        // A certificate that nobody vouches for says nothing.
        if (tls != nullptr && tls->verify_status == PJ_SSL_CERT_ESUCCESS && tls->remote_cert_info != nullptr)
            certificates[transport] = names_in(*tls->remote_cert_info);
    } else if (state == PJSIP_TP_STATE_DESTROY) {
        certificates.erase(transport);
    }
    if (next_state_callback != nullptr)
        next_state_callback(transport, state, info);
}

// Answers ---------------------------------------------------------------------------------------------------------------

// `decorate(response)` adds what this answer needs. RFC 3261, section 8.2.7: nothing is kept of it.
template <class Decorate> void reply(pjsip_rx_data *rdata, int code, std::string_view phrase, Decorate decorate) {
    pjsip_tx_data *response = nullptr;
    const pj_str_t text = borrow(phrase);
    if (pjsip_endpt_create_response(endpoint(), rdata, code, phrase.empty() ? nullptr : &text, &response) != PJ_SUCCESS)
        return;
    decorate(response);
    // "maddr" would have us send to an address, or look up a name, that the sender chose.
    pj_str_t &maddr = rdata->msg_info.via->maddr_param;
    const pj_ssize_t length = std::exchange(maddr.slen, 0);
    pjsip_response_addr to;
    const pj_status_t status = pjsip_get_response_addr(response->pool, rdata, &to);
    maddr.slen = length;
    if (status != PJ_SUCCESS || pjsip_endpt_send_response(endpoint(), &to, response, nullptr, nullptr) != PJ_SUCCESS)
        pjsip_tx_data_dec_ref(response);
}

void keep_refused(const pjsip_rx_data *rdata, int code, std::string_view phrase) {
    if (refused.size() >= kMostRefused)
        return;
    char source[PJ_INET6_ADDRSTRLEN + 10];
    pj_sockaddr_print(&rdata->pkt_info.src_addr, source, sizeof source, 3);
    refused.push_back({std::string(rdata->msg_info.msg_buf, static_cast<std::size_t>(rdata->msg_info.len)), source,
                       trunk != nullptr ? trunk->name : std::string(), code,
                       std::string(phrase.empty() ? view(*pjsip_get_status_text(code)) : phrase)});
}

void refuse(pjsip_rx_data *rdata, const Problem &problem, const GateTrunk *known) {
    const bool is_call = rdata->msg_info.msg->line.req.method.id == PJSIP_INVITE_METHOD &&
                         problem.code != PJSIP_SC_CALL_TSX_DOES_NOT_EXIST;
    if (known != nullptr && is_call) {
        // With a transaction, so that it is one call that was refused, however often it is sent.
        pjsip_hdr list;
        pj_list_init(&list);
        if (problem.header != nullptr)
            pj_list_push_back(&list, problem.header);
        const pj_str_t text = borrow(problem.phrase);
        if (pjsip_endpt_respond(endpoint(), nullptr, rdata, problem.code, problem.phrase.empty() ? nullptr : &text, &list,
                                nullptr, nullptr) == PJ_SUCCESS) {
            trunk = known;
            keep_refused(rdata, problem.code, problem.phrase);
            return;
        }
    }
    reply(rdata, problem.code, problem.phrase, [&](pjsip_tx_data *response) {
        if (problem.header != nullptr)
            pjsip_msg_add_hdr(response->msg, static_cast<pjsip_hdr *>(pjsip_hdr_clone(response->pool, problem.header)));
    });
}

void turn_away(pjsip_rx_data *rdata, Refusal reason) {
    const pjsip_msg *msg = rdata->msg_info.msg;
    strangers.note(address_of(rdata->pkt_info.src_addr), reason, view(msg->line.req.method.name),
                   text_header(msg, "User-Agent"));
    if (answers_strangers)
        reply(rdata, PJSIP_SC_FORBIDDEN, {}, [](pjsip_tx_data *) {});
}

// What a UAS can take (RFC 3261, section 8.2) -----------------------------------------------------------------------------

pjsip_hdr *allow(pj_pool_t *pool) {
    const pjsip_hdr *known = pjsip_endpt_get_capability(endpoint(), PJSIP_H_ALLOW, nullptr);
    return known == nullptr ? nullptr : static_cast<pjsip_hdr *>(pjsip_hdr_shallow_clone(pool, known));
}

Problem problem_of_method(const pjsip_rx_data *rdata) {
    constexpr std::array<std::string_view, 2> kTaken = {"INVITE", "OPTIONS"};
    constexpr std::array<std::string_view, 5> kOfDialogs = {"BYE", "CANCEL", "INFO", "PRACK", "UPDATE"};
    constexpr std::array<std::string_view, 6> kKnown = {"REGISTER", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH"};
    const std::string_view method = view(rdata->msg_info.msg->line.req.method.name);
    if (rdata->msg_info.to->tag.slen > 0 && method != "REGISTER")
        return {PJSIP_SC_CALL_TSX_DOES_NOT_EXIST}; // of a dialog, and there is none (section 12.2.2)
    const auto is_in = [method](const auto &list) { return std::find(list.begin(), list.end(), method) != list.end(); };
    if (is_in(kTaken))
        return {};
    if (is_in(kOfDialogs))
        return {PJSIP_SC_CALL_TSX_DOES_NOT_EXIST};
    return {is_in(kKnown) ? PJSIP_SC_METHOD_NOT_ALLOWED : PJSIP_SC_NOT_IMPLEMENTED, {}, allow(rdata->tp_info.pool)};
}

// Headers that may be there once.
bool repeats_itself(const pjsip_msg *msg) {
    int call_ids = 0, sequences = 0, from = 0, to = 0, hops = 0;
    long length = -1;
    bool lengths_differ = false;
    each_header(msg, [&](const pjsip_hdr *header) {
        call_ids += header->type == PJSIP_H_CALL_ID;
        sequences += header->type == PJSIP_H_CSEQ;
        from += header->type == PJSIP_H_FROM;
        to += header->type == PJSIP_H_TO;
        hops += header->type == PJSIP_H_MAX_FORWARDS;
        if (header->type == PJSIP_H_CONTENT_LENGTH) {
            const long found = reinterpret_cast<const pjsip_clen_hdr *>(header)->len;
            lengths_differ |= length >= 0 && found != length;
            length = found;
        }
    });
    return call_ids > 1 || sequences > 1 || from > 1 || to > 1 || hops > 1 || lengths_differ;
}

std::size_t body_length(const pjsip_rx_data *rdata) {
    const std::string_view packet(rdata->msg_info.msg_buf, static_cast<std::size_t>(rdata->msg_info.len));
    for (const std::string_view end : {"\r\n\r\n", "\n\n", "\r\r"})
        if (const std::size_t found = packet.find(end); found != std::string_view::npos)
            return packet.size() - found - end.size();
    return 0;
}

// A request that carries the branch of an INVITE that we have sent and that has no answer yet has come back to us.
bool is_our_own(const pjsip_rx_data *rdata) {
    bool ours = false;
    each_header(rdata->msg_info.msg, [&](const pjsip_hdr *header) {
        if (header->type != PJSIP_H_VIA || ours)
            return;
        const std::string key = "c$" + std::string(view(reinterpret_cast<const pjsip_via_hdr *>(header)->branch_param));
        const pj_str_t name = borrow(key);
        ours = pjsip_tsx_layer_find_tsx(&name, PJ_FALSE) != nullptr;
    });
    return ours;
}

pjsip_hdr *unsupported(const pjsip_rx_data *rdata) {
    pjsip_unsupported_hdr *found = nullptr;
    each_header(rdata->msg_info.msg, [&](const pjsip_hdr *header) {
        if (header->type != PJSIP_H_REQUIRE)
            return;
        const auto *require = reinterpret_cast<const pjsip_require_hdr *>(header);
        for (unsigned i = 0; i < require->count; ++i) {
            if (pjsip_endpt_has_capability(endpoint(), PJSIP_H_SUPPORTED, nullptr, &require->values[i]))
                continue;
            if (found == nullptr)
                found = pjsip_unsupported_hdr_create(rdata->tp_info.pool);
            if (found->count < PJSIP_GENERIC_ARRAY_MAX_COUNT)
                found->values[found->count++] = require->values[i];
        }
    });
    return reinterpret_cast<pjsip_hdr *>(found);
}

bool is_encoded(const pjsip_msg *msg) {
    const pj_str_t name = borrow("Content-Encoding"), compact = borrow("e");
    const auto *found = static_cast<const pjsip_generic_string_hdr *>(
        pjsip_msg_find_hdr_by_names(msg, &name, &compact, nullptr));
    return found != nullptr && !equal(found->hvalue, "identity");
}

pjsip_hdr *accept_encoding(pj_pool_t *pool) {
    const pj_str_t name = borrow("Accept-Encoding"), value = borrow("identity");
    return reinterpret_cast<pjsip_hdr *>(pjsip_generic_string_hdr_create(pool, &name, &value));
}

Problem problem_of(const pjsip_rx_data *rdata) {
    const pjsip_msg *msg = rdata->msg_info.msg;
    if (const Problem problem = problem_of_method(rdata); problem.code != 0)
        return problem;
    if (pjsip_method_cmp(&rdata->msg_info.cseq->method, &msg->line.req.method) != 0)
        return {PJSIP_SC_BAD_REQUEST, "CSeq names another method"};
    if (repeats_itself(msg))
        return {PJSIP_SC_BAD_REQUEST, "A header is there twice"};
    if (rdata->msg_info.clen != nullptr && rdata->msg_info.clen->len > static_cast<long>(body_length(rdata)))
        return {PJSIP_SC_BAD_REQUEST, "Content-Length is more than there is"};
    const pj_str_t scheme = *pjsip_uri_get_scheme(msg->line.req.uri);
    if (!equal(scheme, "sip") && !equal(scheme, "sips") && !equal(scheme, "tel"))
        return {PJSIP_SC_UNSUPPORTED_URI_SCHEME};
    if (!equal(scheme, "tel")) {
        const auto *uri = static_cast<const pjsip_sip_uri *>(pjsip_uri_get_uri(msg->line.req.uri));
        if (!pj_list_empty(&uri->header_param))
            return {PJSIP_SC_BAD_REQUEST, "The Request-URI has headers in it"};
    }
    const bool is_invite = msg->line.req.method.id == PJSIP_INVITE_METHOD;
    if (is_invite && is_our_own(rdata))
        return {PJSIP_SC_LOOP_DETECTED};
    // Section 11: OPTIONS may be answered all the same. To go on with a call would begin the count anew.
    if (is_invite && rdata->msg_info.max_fwd != nullptr && rdata->msg_info.max_fwd->ivalue == 0)
        return {PJSIP_SC_TOO_MANY_HOPS};
    if (pjsip_hdr *header = unsupported(rdata))
        return {PJSIP_SC_BAD_EXTENSION, {}, header};
    if (is_invite && is_encoded(msg))
        return {PJSIP_SC_UNSUPPORTED_MEDIA_TYPE, {}, accept_encoding(rdata->tp_info.pool)};
    return {};
}

// RFC 3261, section 18.3: in a datagram, what comes after Content-Length is not there.
void cut_body(pjsip_rx_data *rdata) {
    pjsip_msg_body *body = rdata->msg_info.msg->body;
    const pjsip_clen_hdr *length = rdata->msg_info.clen;
    if (body != nullptr && length != nullptr && length->len >= 0 && static_cast<unsigned>(length->len) < body->len)
        body->len = static_cast<unsigned>(length->len);
}

// Who -------------------------------------------------------------------------------------------------------------------

bool is_of_dialog(const pjsip_rx_data *rdata) {
    const auto &info = rdata->msg_info;
    const pj_str_t none = borrow(""); // the far side's first response may still be on its way
    return info.to->tag.slen > 0 &&
           (pjsip_ua_find_dialog(&info.cid->id, &info.to->tag, &info.from->tag, PJ_FALSE) != nullptr ||
            pjsip_ua_find_dialog(&info.cid->id, &info.to->tag, &none, PJ_FALSE) != nullptr);
}

void challenge(pjsip_rx_data *rdata, const std::vector<const Credentials *> &asked, bool stale) {
    ++challenges;
    reply(rdata, PJSIP_SC_UNAUTHORIZED, {}, [&](pjsip_tx_data *response) {
        std::vector<std::string_view> realms;
        for (const Credentials *credentials : asked)
            if (std::find(realms.begin(), realms.end(), credentials->realm) == realms.end()) {
                realms.push_back(credentials->realm);
                add_challenges(response, *credentials, stale);
            }
    });
}

// The trunk of the request; null when there is none and the request has been answered.
const GateTrunk *admit(pjsip_rx_data *rdata) {
    const Address from = address_of(rdata->pkt_info.src_addr);
    const bool is_options = rdata->msg_info.msg->line.req.method.id == PJSIP_OPTIONS_METHOD;
    const bool is_cancel = rdata->msg_info.msg->line.req.method.id == PJSIP_CANCEL_METHOD;
    std::vector<const GateTrunk *> possible;
    bool lacks_certificate = false;
    for (const GateTrunk &one : trunks) {
        if (!comes_from(one, from))
            continue;
        if (shows_certificate(one, rdata->tp_info.transport))
            possible.push_back(&one);
        else
            lacks_certificate = true;
    }
    if (possible.empty()) {
        turn_away(rdata, lacks_certificate ? Refusal::certificate : Refusal::source);
        return nullptr;
    }
    if (is_cancel)
        return possible.front(); // it cannot be challenged (section 22.1); the UA layer finds its INVITE, or answers 481
    if (const Problem problem = problem_of(rdata); problem.code != 0) {
        const auto known = std::find_if(possible.begin(), possible.end(),
                                        [](const GateTrunk *one) { return is_known_peer(*one); });
        refuse(rdata, problem, known == possible.end() ? nullptr : *known);
        return nullptr;
    }
    std::vector<const Credentials *> asked;
    bool stale = false, wrong = false;
    for (const GateTrunk *one : possible) {
        if (!one->credentials || (is_options && is_known_peer(*one)))
            return one;
        const Proof proof = prove(rdata, *one->credentials);
        if (proof == Proof::good)
            return one;
        stale |= proof == Proof::stale;
        wrong |= proof == Proof::wrong;
        asked.push_back(&*one->credentials);
    }
    if (wrong)
        turn_away(rdata, Refusal::credentials);
    else
        challenge(rdata, asked, stale);
    return nullptr;
}

// Comes after the transaction layer, which takes what is sent again, and before all that makes something of a request.
pj_bool_t on_rx_request(pjsip_rx_data *rdata) {
    trunk = nullptr;
    is_taken = false;
    const pjsip_msg *msg = rdata->msg_info.msg;
    if (PJSIP_TRANSPORT_IS_RELIABLE(rdata->tp_info.transport) == 0)
        cut_body(rdata);
    if (is_of_dialog(rdata))
        return PJ_FALSE;
    if (msg->line.req.method.id == PJSIP_ACK_METHOD)
        return PJ_TRUE; // of what we answered without keeping anything; nobody answers an ACK
    const GateTrunk *found = admit(rdata);
    if (found == nullptr)
        return PJ_TRUE;
    if (msg->line.req.method.id == PJSIP_OPTIONS_METHOD && retry_after > 0) {
        reply(rdata, PJSIP_SC_SERVICE_UNAVAILABLE, {}, [](pjsip_tx_data *response) {
            pjsip_msg_add_hdr(response->msg, reinterpret_cast<pjsip_hdr *>(
                                                 pjsip_retry_after_hdr_create(response->pool, retry_after)));
        });
        return PJ_TRUE;
    }
    trunk = found;
    return PJ_FALSE; // an OPTIONS is answered by pjsua
}

pj_status_t on_unload() {
    trunk = nullptr;
    trunks.clear();
    certificates.clear();
    return PJ_SUCCESS;
}

pjsip_module module = {
    nullptr, nullptr,                  // prev, next
    {const_cast<char *>("mod-recorder-gate"), 17},
    -1,                                // id
    PJSIP_MOD_PRIORITY_TSX_LAYER + 1,  // priority
    nullptr, nullptr, nullptr,         // load, start, stop
    &on_unload,                        // unload
    &on_rx_request,
    nullptr, nullptr, nullptr, nullptr, // on_rx_response, on_tx_request, on_tx_response, on_tsx_state
};

// What pjsip could not parse ----------------------------------------------------------------------------------------------

// The packet that `data` begins, or follows `skipped` bytes of. Null unless it is there: nothing else tells of a datagram's
// sender.
const pjsip_rx_data *received(const pjsip_tp_dropped_data &dropped, std::size_t skipped) {
    const char *packet = static_cast<const char *>(dropped.data) - skipped;
    const auto *rdata = reinterpret_cast<const pjsip_rx_data *>(packet - offsetof(pjsip_rx_data, pkt_info.packet));
    return rdata->tp_info.transport == dropped.tp && rdata->msg_info.msg_buf == dropped.data ? rdata : nullptr;
}

std::string fault_in(const pjsip_rx_data *rdata) {
    if (rdata == nullptr || rdata->msg_info.parse_err.next == nullptr || pj_list_empty(&rdata->msg_info.parse_err))
        return {};
    return std::string(view(rdata->msg_info.parse_err.next->hname));
}

void on_dropped(pjsip_tp_dropped_data *dropped) {
    // Newlines come before a message, or alone, to keep a NAT's binding.
    static const char *newlines = nullptr, *after_newlines = nullptr;
    if (dropped->status == PJ_EIGNORED) {
        newlines = static_cast<const char *>(dropped->data);
        after_newlines = newlines + dropped->len;
        return;
    }
    const auto skipped = static_cast<std::size_t>(dropped->data == after_newlines ? after_newlines - newlines : 0);
    if (dropped->status != PJSIP_EINVALIDMSG && dropped->status != PJSIP_EMISSINGHDR &&
        dropped->status != PJSIP_EINVALIDHDR && dropped->status != PJSIP_ERXOVERFLOW)
        return;
    const bool is_stream = PJSIP_TRANSPORT_IS_RELIABLE(dropped->tp);
    const pjsip_rx_data *rdata = is_stream ? nullptr : received(*dropped, skipped);
    if (!is_stream && rdata == nullptr)
        return;
    const pj_sockaddr &to = is_stream ? dropped->tp->key.rem_addr : rdata->pkt_info.src_addr;
    const std::string_view packet(static_cast<const char *>(dropped->data), dropped->len);
    const Address from = address_of(to);
    const bool known = std::any_of(trunks.begin(), trunks.end(), [&](const GateTrunk &one) {
        return is_known_peer(one) && comes_from(one, from) && shows_certificate(one, dropped->tp);
    });
    if (!known) {
        strangers.note(from, Refusal::malformed, method_of(packet), {});
        return;
    }
    const std::string response = answer_malformed(packet, fault_in(rdata));
    if (response.empty())
        return;
    pjsip_tpselector same{};
    same.type = PJSIP_TPSELECTOR_TRANSPORT;
    same.u.transport = dropped->tp;
    pjsip_tpmgr_send_raw(pjsip_endpt_get_tpmgr(endpoint()), static_cast<pjsip_transport_type_e>(dropped->tp->key.type), &same,
                         nullptr, response.data(), response.size(), &to, pj_sockaddr_get_len(&to), nullptr, nullptr);
}

// pjsua's own refusals: no audio, an unknown body, no Contact.
void on_rejected(const pjsua_on_rejected_incoming_call_param *rejected) {
    if (rejected->rdata != nullptr && trunk != nullptr && !is_taken)
        keep_refused(rejected->rdata, rejected->st_code, view(rejected->st_text));
}

} // namespace

void install_gate(std::vector<GateTrunk> table, bool answer_strangers) {
    require_sip_thread();
    begin_digest();
    trunks = std::move(table);
    answers_strangers = answer_strangers;
    retry_after = 0;
    strangers.clear();
    challenges = 0;
    refused.clear();
    certificates.clear();
    require(pjsip_endpt_register_module(endpoint(), &module), "cannot register the gate");
    pjsip_tpmgr *transports = pjsip_endpt_get_tpmgr(endpoint());
    pjsip_tpmgr_set_drop_data_cb(transports, &on_dropped);
    next_state_callback = pjsip_tpmgr_get_state_cb(transports);
    pjsip_tpmgr_set_state_cb(transports, &on_transport_state);
    pjsua_var.ua_cfg.cb.on_rejected_incoming_call = &on_rejected;
}

void drain_gate(int retry_after_s) { retry_after = retry_after_s; }

std::string trunk_of_invite() {
    if (trunk == nullptr)
        throw std::runtime_error("no INVITE is being handled");
    is_taken = true;
    return trunk->name;
}

void assign_account(const std::string &name, int account_id) {
    for (GateTrunk &one : trunks)
        if (one.name == name)
            one.account_id = account_id;
}

int account_of_invite() { return trunk == nullptr ? PJSUA_INVALID_ID : trunk->account_id; }

std::vector<RefusedInvite> take_refused_invites() {
    std::vector<RefusedInvite> taken(std::make_move_iterator(refused.begin()), std::make_move_iterator(refused.end()));
    refused.clear();
    return taken;
}

std::vector<Stranger> take_strangers() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return strangers.take(std::chrono::duration_cast<std::chrono::seconds>(now).count());
}

std::map<std::string, std::uint64_t> gate_counts() {
    std::map<std::string, std::uint64_t> counts{{"challenges", challenges}};
    for (std::size_t i = 0; i < kRefusalNames.size(); ++i)
        counts.emplace(kRefusalNames[i], strangers.count(static_cast<Refusal>(i)));
    return counts;
}

} // namespace recorder
