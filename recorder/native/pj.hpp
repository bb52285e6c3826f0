// pjproject's headers and what every file here that calls it needs.
//
// The SWIG module pjsua2 and this extension link the same shared libraries, so `pjsua_var` is one and the same. Calls
// and bridge slots are plain integers on both sides.
#pragma once

#include "network.hpp"

#include <pjsua-lib/pjsua.h>
#include <pjsua-lib/pjsua_internal.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace recorder {

// From libInit to where libDestroy takes the bridge down.
bool is_pjsua_up();

// Throws std::runtime_error unless pjsua is up and this thread is one that pjlib knows: the sip thread.
void require_sip_thread();

// Throws std::runtime_error with pjproject's own text for `status`, unless it is success.
void require(pj_status_t status, const char *what);

bool is_call_id(int call_id);

Address address_of(const pj_sockaddr &address);

// pjlib's strings and ours. What is viewed or borrowed has to outlive its use.
inline std::string_view view(const pj_str_t &text) {
    return {text.ptr, static_cast<std::size_t>(std::max<pj_ssize_t>(text.slen, 0))};
}
inline std::string text(const pj_str_t &from) { return std::string(view(from)); }
inline pj_str_t borrow(std::string_view text) {
    return {const_cast<char *>(text.data()), static_cast<pj_ssize_t>(text.size())};
}

// Adds a header to a message; name and value are copied.
void add_header(pjsip_tx_data *tdata, std::string_view name, std::string_view value);

// A call's dialog, locked for as long as this lives. Both are null when there is no such call.
class LockedCall {
  public:
    LockedCall(const char *purpose, int call_id) {
        if (!is_call_id(call_id) || acquire_call(purpose, call_id, &call, &dialog) != PJ_SUCCESS)
            call = nullptr, dialog = nullptr;
    }
    ~LockedCall() {
        if (dialog != nullptr)
            pjsip_dlg_dec_lock(dialog);
    }
    LockedCall(const LockedCall &) = delete;
    LockedCall &operator=(const LockedCall &) = delete;

    pjsua_call *call = nullptr;
    pjsip_dialog *dialog = nullptr;
};

} // namespace recorder
