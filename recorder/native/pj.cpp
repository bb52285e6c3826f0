#include "pj.hpp"

#include <stdexcept>
#include <string>

namespace recorder {

void require_sip_thread() {
    // pj_thread_is_registered may only be asked once pjlib has been initialised. While libDestroy runs, calls still end.
    if (!is_pjsua_up())
        throw std::runtime_error("pjsua is not running: call this after Endpoint.libInit and before libDestroy");
    if (!pj_thread_is_registered())
        throw std::runtime_error("pjlib does not know this thread: call this on the sip thread");
}

void require(pj_status_t status, const char *what) {
    if (status == PJ_SUCCESS)
        return;
    char text[PJ_ERR_MSG_SIZE];
    const pj_str_t message = pj_strerror(status, text, sizeof text);
    throw std::runtime_error(std::string(what) + ": " + std::string(view(message)));
}

bool is_pjsua_up() { return pjsua_get_state() >= PJSUA_STATE_INIT && pjsua_var.mconf != nullptr; }

void add_header(pjsip_tx_data *tdata, std::string_view name, std::string_view value) {
    const pj_str_t n = borrow(name), v = borrow(value);
    auto *header = pjsip_generic_string_hdr_create(tdata->pool, &n, &v);
    pjsip_msg_add_hdr(tdata->msg, reinterpret_cast<pjsip_hdr *>(header));
}

Address address_of(const pj_sockaddr &from) {
    if (from.addr.sa_family == pj_AF_INET())
        return mapped(reinterpret_cast<const std::uint8_t *>(&from.ipv4.sin_addr));
    Address address;
    std::copy_n(reinterpret_cast<const std::uint8_t *>(&from.ipv6.sin6_addr), address.size(), address.begin());
    return address;
}

bool is_call_id(int call_id) { return call_id >= 0 && call_id < static_cast<int>(pjsua_var.ua_cfg.max_calls); }

} // namespace recorder
