#include "resolver.hpp"

#include "pj.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace recorder {
namespace {

struct Pending {
    void *token;
    pjsip_resolver_callback *callback;
};

QuestionHandler handler;
std::map<std::uint64_t, Pending> pending;
std::uint64_t last_token = 0;
std::optional<std::pair<std::string, ServerAddress>> pinned;

bool same_host(const std::string &one, const std::string &other) {
    const pj_str_t a = borrow(one), b = borrow(other);
    return pj_stricmp(&a, &b) == 0;
}

const char *name_of(int type, unsigned flag) {
    switch (type & ~PJSIP_TRANSPORT_IPV6) {
    case PJSIP_TRANSPORT_TLS:
        return "tls";
    case PJSIP_TRANSPORT_TCP:
        return "tcp";
    case PJSIP_TRANSPORT_UDP:
        return "udp";
    default:
        return (flag & PJSIP_TRANSPORT_SECURE) != 0 ? "tls" : "";
    }
}

int type_of(const std::string &transport) {
    return transport == "tls" ? PJSIP_TRANSPORT_TLS : transport == "tcp" ? PJSIP_TRANSPORT_TCP : PJSIP_TRANSPORT_UDP;
}

bool put(pjsip_server_addresses &addresses, const ServerAddress &address) {
    if (addresses.count >= PJ_ARRAY_SIZE(addresses.entry))
        return false;
    auto &entry = addresses.entry[addresses.count];
    const int family = address.ip.find(':') == std::string::npos ? pj_AF_INET() : pj_AF_INET6();
    const pj_str_t ip = borrow(address.ip);
    int type = type_of(address.transport);
    if (family == pj_AF_INET6())
        type |= PJSIP_TRANSPORT_IPV6;
    entry = {};
    entry.type = static_cast<pjsip_transport_type_e>(type);
    const int port = address.port != 0 ? address.port : pjsip_transport_get_default_port_for_type(entry.type);
    if (pj_sockaddr_init(family, &entry.addr, &ip, static_cast<pj_uint16_t>(port)) != PJ_SUCCESS)
        return false;
    entry.addr_len = pj_sockaddr_get_len(&entry.addr);
    ++addresses.count;
    return true;
}

bool is_address(const std::string &host) {
    pj_in6_addr any{};
    const pj_str_t source = borrow(host);
    return pj_inet_pton(pj_AF_INET(), &source, &any) == PJ_SUCCESS ||
           pj_inet_pton(pj_AF_INET6(), &source, &any) == PJ_SUCCESS;
}

void finish(const Pending &asked, const std::vector<ServerAddress> &found) {
    pjsip_server_addresses addresses{};
    for (const ServerAddress &address : found)
        put(addresses, address);
    // The transaction makes 502 of this status.
    if (addresses.count == 0)
        asked.callback(PJ_ERESOLVE, asked.token, nullptr);
    else
        asked.callback(PJ_SUCCESS, asked.token, &addresses);
}

void resolve(pjsip_resolver_t *, pj_pool_t *, const pjsip_host_info *target, void *token,
             pjsip_resolver_callback *callback) {
    const Pending asked{token, callback};
    Question question;
    question.host = text(target->addr.host);
    question.port = target->addr.port;
    question.transport = name_of(target->type, target->flag);
    if (is_address(question.host)) {
        finish(asked, {{question.host, question.port, question.transport}});
    } else if (pinned && same_host(pinned->first, question.host)) {
        finish(asked, {pinned->second});
    } else if (handler) {
        question.token = ++last_token;
        pending.emplace(question.token, asked);
        handler(question);
    } else {
        finish(asked, {});
    }
}

pjsip_ext_resolver resolver{&resolve};

} // namespace

void install_resolver(QuestionHandler new_handler) {
    require_sip_thread();
    handler = std::move(new_handler);
    require(pjsip_endpt_set_ext_resolver(pjsua_get_pjsip_endpt(), &resolver), "pjsip_endpt_set_ext_resolver");
}

void uninstall_resolver() {
    handler = nullptr;
    pinned.reset();
    for (const auto &[token, asked] : std::exchange(pending, {}))
        finish(asked, {}); // so that the transactions that wait for it end
}

bool answer_question(std::uint64_t token, const std::vector<ServerAddress> &addresses) {
    require_sip_thread();
    const auto found = pending.find(token);
    if (found == pending.end())
        return false;
    const Pending asked = found->second;
    pending.erase(found); // the answer may send something that asks again
    finish(asked, addresses);
    return true;
}

void pin(std::string host, ServerAddress address) { pinned.emplace(std::move(host), std::move(address)); }

void unpin() { pinned.reset(); }

} // namespace recorder
