#include "transports.hpp"

#include "gate.hpp"
#include "pj.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string_view>

namespace recorder {
namespace {

Paths paths; // set once, before the first message

const Peer *peer_at(const pj_sockaddr &from) {
    const Address address = address_of(from);
    const auto found = std::find_if(paths.peers.begin(), paths.peers.end(),
                                    [&address](const Peer &peer) { return holds(peer.network, address); });
    return found == paths.peers.end() ? nullptr : &*found;
}

bool is_outside(const pj_sockaddr &to) {
    const Address address = address_of(to);
    return std::none_of(paths.local.begin(), paths.local.end(),
                        [&address](const Network &network) { return holds(network, address); });
}

bool is_transport_id(int id) {
    return id >= 0 && id < static_cast<int>(PJ_ARRAY_SIZE(pjsua_var.tpdata)) && pjsua_var.tpdata[id].data.ptr != nullptr;
}

// The listener that a message goes through; -1 for none of ours.
int transport_id_of(const pjsip_transport *transport) {
    for (int id = 0; id < static_cast<int>(PJ_ARRAY_SIZE(pjsua_var.tpdata)); ++id) {
        const void *ours = pjsua_var.tpdata[id].data.ptr;
        if (ours != nullptr && (ours == transport || (transport->factory != nullptr && ours == transport->factory)))
            return id;
    }
    return PJSUA_INVALID_ID;
}

bool is_ipv6(std::string_view host) { return host.find(':') != std::string_view::npos; }

// Accounts ---------------------------------------------------------------------------------------------------------

// Audio is bound to the configured address where its family fits, otherwise to that of the listener, which is one that
// the far side reaches; to every address where that is.
void prepare_media(pjsua_acc &account, int transport_id, bool ipv6) {
    static const std::string none;
    pj_str_t bound = borrow(none);
    if (!paths.media_address.empty() && is_ipv6(std::string_view(paths.media_address)) == ipv6) {
        bound = borrow(paths.media_address);
    } else if (is_transport_id(transport_id)) {
        const pjsua_transport_data &listener = pjsua_var.tpdata[transport_id];
        const bool datagram = (pjsip_transport_get_flag_from_type(listener.type) & PJSIP_TRANSPORT_DATAGRAM) != 0;
        const pj_sockaddr &local = datagram ? listener.data.tp->local_addr : listener.data.factory->local_addr;
        const bool specific = pj_sockaddr_has_addr(&local);
        if (specific && (local.addr.sa_family == pj_AF_INET6()) == ipv6)
            bound = datagram ? listener.data.tp->local_name.host : listener.data.factory->addr_name.host;
    }
    account.cfg.rtp_cfg.bound_addr = bound;
    account.cfg.ipv6_media_use = ipv6 ? PJSUA_IPV6_ENABLED_USE_IPV6_ONLY : PJSUA_IPV6_DISABLED;
    // Each account would count through the ports by itself, and give up after a hundred that another one holds.
    static int last_account = PJSUA_INVALID_ID;
    if (pjsua_acc_is_valid(last_account))
        account.next_rtp_port = pjsua_var.acc[last_account].next_rtp_port;
    last_account = account.index;
}

bool wants_ipv6(const pjsip_rx_data *rdata) {
    const pjsip_msg_body *body = rdata->msg_info.msg->body;
    if (body == nullptr || body->data == nullptr)
        return rdata->pkt_info.src_addr.addr.sa_family == pj_AF_INET6();
    const std::string_view text(static_cast<const char *>(body->data), body->len);
    return text.find("c=IN IP6 ") != std::string_view::npos;
}

// [sip] pjsua asks whose call it is that comes in, just before it makes the call.
void find_account(const pjsip_rx_data *rdata, pjsua_acc_id *id) {
    const Peer *peer = peer_at(rdata->pkt_info.src_addr);
    const int known = account_of_invite(); // a trunk may be known by more than its address
    const int account = known >= 0 ? known : peer != nullptr ? peer->account_id : paths.other_account;
    if (!pjsua_acc_is_valid(account))
        return;
    *id = account;
    const int transport = transport_id_of(rdata->tp_info.transport);
    pjsua_var.acc[account].cfg.transport_id = transport; // the dialog, our BYE too, keeps to the listener
    pjsua_var.acc[account].is_sips = PJSIP_URI_SCHEME_IS_SIPS(rdata->msg_info.msg->line.req.uri);
    prepare_media(pjsua_var.acc[account], transport, wants_ipv6(rdata));
}

// Our public address -----------------------------------------------------------------------------------------------

const PublicName *public_name(int transport_id) {
    for (const PublicName &name : paths.names)
        if (name.transport_id == transport_id)
            return &name;
    return nullptr;
}

// Whether host and port are what this listener shows of itself.
bool is_ours(const pj_str_t &host, int port, const pjsip_transport *transport, int transport_id) {
    const pjsua_transport_data &listener = pjsua_var.tpdata[transport_id];
    const bool datagram = (pjsip_transport_get_flag_from_type(listener.type) & PJSIP_TRANSPORT_DATAGRAM) != 0;
    const pjsip_host_port &name = datagram ? listener.data.tp->local_name : listener.data.factory->addr_name;
    const int shown = port != 0 ? port : pjsip_transport_get_default_port_for_type(listener.type);
    return shown == name.port && (pj_stricmp(&host, &name.host) == 0 || pj_stricmp(&host, &transport->local_name.host) == 0);
}

void show_public_connection(pjmedia_sdp_conn *connection) {
    if (connection == nullptr || pj_stricmp2(&connection->addr_type, is_ipv6(paths.public_media) ? "IP6" : "IP4") != 0 ||
        pj_strcmp2(&connection->addr, "0.0.0.0") == 0) // on hold, the old way (RFC 2543)
        return;
    connection->addr = borrow(paths.public_media);
}

// "a=rtcp:20001 IN IP4 192.0.2.1" (RFC 3605)
void show_public_rtcp(pj_pool_t *pool, pjmedia_sdp_attr *attribute) {
    const std::string_view value = view(attribute->value);
    const std::string family = is_ipv6(paths.public_media) ? " IN IP6 " : " IN IP4 ";
    const std::size_t at = value.find(family);
    if (at == std::string_view::npos)
        return;
    const std::string changed = std::string(value.substr(0, at)) + family + paths.public_media;
    const pj_str_t text = borrow(changed);
    pj_strdup(pool, &attribute->value, &text);
}

void show_public_media(pjsip_tx_data *tdata) {
    pjsip_msg_body *body = tdata->msg->body;
    if (paths.public_media.empty() || body == nullptr || pj_stricmp2(&body->content_type.type, "application") != 0 ||
        pj_stricmp2(&body->content_type.subtype, "sdp") != 0 || body->print_body == &pjsip_print_text_body)
        return;
    auto *sdp = static_cast<pjmedia_sdp_session *>(body->data); // the message's own copy
    show_public_connection(sdp->conn);
    if (pj_stricmp2(&sdp->origin.addr_type, is_ipv6(paths.public_media) ? "IP6" : "IP4") == 0)
        sdp->origin.addr = borrow(paths.public_media);
    for (unsigned i = 0; i < sdp->media_count; ++i) {
        show_public_connection(sdp->media[i]->conn);
        for (unsigned k = 0; k < sdp->media[i]->attr_count; ++k)
            if (pj_strcmp2(&sdp->media[i]->attr[k]->name, "rtcp") == 0)
                show_public_rtcp(tdata->pool, sdp->media[i]->attr[k]);
    }
}

void show_public_contact(pjsip_tx_data *tdata, const PublicName &name) {
    auto *contact = static_cast<pjsip_contact_hdr *>(pjsip_msg_find_hdr(tdata->msg, PJSIP_H_CONTACT, nullptr));
    if (contact == nullptr || contact->star || contact->uri == nullptr)
        return;
    auto *uri = static_cast<pjsip_sip_uri *>(pjsip_uri_get_uri(contact->uri));
    if (!PJSIP_URI_SCHEME_IS_SIP(uri) && !PJSIP_URI_SCHEME_IS_SIPS(uri))
        return;
    if (!is_ours(uri->host, uri->port, tdata->tp_info.transport, name.transport_id))
        return;
    // The dialog holds the same URI: this copy alone is for the outside.
    auto *copy = static_cast<pjsip_contact_hdr *>(pjsip_hdr_clone(tdata->pool, contact));
    uri = static_cast<pjsip_sip_uri *>(pjsip_uri_get_uri(copy->uri));
    uri->host = borrow(name.host);
    if (name.port != 0)
        uri->port = static_cast<int>(name.port);
    pj_list_insert_before(contact, copy);
    pj_list_erase(contact);
}

// [sip] Everything that is sent passes here once its way is known.
pj_status_t on_tx(pjsip_tx_data *tdata) {
    if (paths.names.empty() && paths.public_media.empty())
        return PJ_SUCCESS;
    if (tdata->tp_info.transport == nullptr || !is_outside(tdata->tp_info.dst_addr))
        return PJ_SUCCESS;
    if (const PublicName *name = public_name(transport_id_of(tdata->tp_info.transport))) {
        if (tdata->msg->type == PJSIP_REQUEST_MSG) {
            auto *via = static_cast<pjsip_via_hdr *>(pjsip_msg_find_hdr(tdata->msg, PJSIP_H_VIA, nullptr));
            if (via != nullptr && is_ours(via->sent_by.host, via->sent_by.port, tdata->tp_info.transport, name->transport_id)) {
                via->sent_by.host = borrow(name->host);
                if (name->port != 0)
                    via->sent_by.port = static_cast<int>(name->port);
            }
        }
        show_public_contact(tdata, *name);
    }
    show_public_media(tdata);
    pjsip_tx_data_invalidate_msg(tdata);
    return PJ_SUCCESS;
}

// A far side behind a NAT -------------------------------------------------------------------------------------------

// [sip] Have requests within the dialog go to where the message really came from, and not to a private address.
void believe_source(pjsip_rx_data *rdata) {
    pjsip_msg *msg = rdata->msg_info.msg;
    if (pjsip_msg_find_hdr(msg, PJSIP_H_RECORD_ROUTE, nullptr) != nullptr)
        return; // a proxy in between knows the way
    auto *contact = static_cast<pjsip_contact_hdr *>(pjsip_msg_find_hdr(msg, PJSIP_H_CONTACT, nullptr));
    if (contact == nullptr || contact->star || contact->uri == nullptr)
        return;
    auto *uri = static_cast<pjsip_sip_uri *>(pjsip_uri_get_uri(contact->uri));
    if (!PJSIP_URI_SCHEME_IS_SIP(uri) && !PJSIP_URI_SCHEME_IS_SIPS(uri))
        return;
    pj_strdup2(rdata->tp_info.pool, &uri->host, rdata->pkt_info.src_name);
    uri->port = rdata->pkt_info.src_port;
    uri->maddr_param.slen = 0;
}

pj_bool_t on_rx_request(pjsip_rx_data *rdata) {
    const Peer *peer = peer_at(rdata->pkt_info.src_addr);
    if (peer == nullptr || !peer->behind_nat)
        return PJ_FALSE;
    rdata->msg_info.via->rport_param = rdata->pkt_info.src_port; // RFC 3581, even where it was not asked for
    if (rdata->msg_info.via->recvd_param.slen == 0)
        pj_strdup2(rdata->tp_info.pool, &rdata->msg_info.via->recvd_param, rdata->pkt_info.src_name);
    if (rdata->msg_info.msg->line.req.method.id != PJSIP_REGISTER_METHOD)
        believe_source(rdata);
    return PJ_FALSE;
}

pj_bool_t on_rx_response(pjsip_rx_data *rdata) {
    const Peer *peer = peer_at(rdata->pkt_info.src_addr);
    const int code = rdata->msg_info.msg->line.status.code;
    if (peer != nullptr && peer->behind_nat && code > 100 && code < 300) // a 3xx names other places
        if (rdata->msg_info.cseq->method.id == PJSIP_INVITE_METHOD)
            believe_source(rdata);
    return PJ_FALSE;
}

// Before the transaction layer on the way in, after it on the way out.
pjsip_module module = {
    nullptr, nullptr, {const_cast<char *>("mod-recorder-paths"), 18}, -1, PJSIP_MOD_PRIORITY_TSX_LAYER - 2,
    nullptr, nullptr, nullptr, nullptr, &on_rx_request, &on_rx_response, &on_tx, &on_tx, nullptr,
};

bool has_kind(const pjsip_uri *any, pjsip_transport_type_e type) {
    const auto *uri = static_cast<const pjsip_sip_uri *>(pjsip_uri_get_uri(any));
    if (!PJSIP_URI_SCHEME_IS_SIP(uri) && !PJSIP_URI_SCHEME_IS_SIPS(uri))
        return false;
    const bool ipv6 = (type & PJSIP_TRANSPORT_IPV6) != 0;
    pj_sockaddr address;
    if (pj_sockaddr_parse(pj_AF_UNSPEC(), 0, &uri->host, &address) == PJ_SUCCESS &&
        pj_sockaddr_has_addr(&address) && (address.addr.sa_family == pj_AF_INET6()) != ipv6)
        return false;
    const unsigned kind = type & ~PJSIP_TRANSPORT_IPV6;
    if (PJSIP_URI_SCHEME_IS_SIPS(uri))
        return kind == PJSIP_TRANSPORT_TLS;
    return uri->transport_param.slen == 0 ||
           kind == static_cast<unsigned>(pjsip_transport_get_type_from_name(&uri->transport_param));
}

} // namespace

void install_paths(Paths new_paths) {
    require_sip_thread();
    paths = std::move(new_paths);
    // A trunk that was given as UDP may have no TCP: a long message is left to IP fragments (RFC 3261, 18.1.1, says TCP).
    pjsip_cfg()->endpt.disable_tcp_switch = PJ_TRUE;
    pjsua_var.ua_cfg.cb.on_acc_find_for_incoming = &find_account;
    if (module.id < 0) // a new endpoint: the old one took it out when it was destroyed
        require(pjsip_endpt_register_module(pjsua_get_pjsip_endpt(), &module), "cannot register the paths' module");
}

void aim(int account_id, int transport_id, bool ipv6, bool sips) {
    require_sip_thread();
    if (!pjsua_acc_is_valid(account_id) || !is_transport_id(transport_id))
        throw std::invalid_argument("no such account or listener");
    pjsua_acc &account = pjsua_var.acc[account_id];
    account.cfg.transport_id = transport_id;
    account.is_sips = sips; // as the target, so the Contact (RFC 5630, section 5.1.1.1)
    prepare_media(account, transport_id, ipv6);
}

void loosen(int call_id) {
    require_sip_thread();
    if (!is_call_id(call_id) || pjsua_var.calls[call_id].inv == nullptr)
        return;
    pjsip_dialog *dialog = pjsua_var.calls[call_id].inv->dlg;
    pjsip_transport_type_e type;
    if (dialog->tp_sel.type == PJSIP_TPSELECTOR_TRANSPORT)
        type = static_cast<pjsip_transport_type_e>(dialog->tp_sel.u.transport->key.type);
    else if (dialog->tp_sel.type == PJSIP_TPSELECTOR_LISTENER)
        type = dialog->tp_sel.u.listener->type;
    else
        return;
    const pjsip_uri *next = pj_list_empty(&dialog->route_set) ? dialog->target : dialog->route_set.next->name_addr.uri;
    if (next == nullptr || has_kind(next, type))
        return;
    pjsip_tpselector any;
    pj_bzero(&any, sizeof any);
    pjsip_dlg_set_transport(dialog, &any);
}

} // namespace recorder
