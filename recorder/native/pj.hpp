// pjproject's headers and what every file here that calls it needs.
//
// The SWIG module pjsua2 and this extension link the same shared libraries, so `pjsua_var` is one and the same. Calls
// and bridge slots are plain integers on both sides.
#pragma once

#include <pjsua-lib/pjsua.h>
#include <pjsua-lib/pjsua_internal.h>

namespace recorder {

// From libInit to where libDestroy takes the bridge down.
bool is_pjsua_up();

// Throws std::runtime_error unless pjsua is up and this thread is one that pjlib knows: the sip thread.
void require_sip_thread();

// Throws std::runtime_error with pjproject's own text for `status`, unless it is success.
void require(pj_status_t status, const char *what);

bool is_call_id(int call_id);

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
