#include "digits.hpp"

#include "formats.hpp"
#include "wake.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

namespace recorder {
namespace {

struct Slot {
    std::atomic<std::uint32_t> value{0}; // call id and digit, 0: free
};

constexpr std::uint32_t kSlots = 4096;
std::array<Slot, kSlots> slots;
std::atomic<std::uint32_t> head{0}; // places ever claimed, by media threads
std::uint32_t tail = 0;             // places ever emptied, by the sip thread

// [media] pjsua2's own callback would call into Python here, on the media thread. Called once a digit, at its start.
void on_digit(pjsua_call_id call_id, const pjsua_dtmf_info *info) {
    if (info->method != PJSUA_DTMF_METHOD_RFC2833)
        return;
    const std::uint32_t place = head.fetch_add(1, std::memory_order_relaxed) % kSlots;
    const std::uint32_t value = (static_cast<std::uint32_t>(call_id) + 1) << 8 | (info->digit & 0xff);
    std::uint32_t free = 0;
    // Where none is free there have been thousands in one turn of the sip thread: nobody has pressed these.
    slots[place].value.compare_exchange_strong(free, value, std::memory_order_release);
    wake();
}

} // namespace

void install_digits() {
    pjsua_var.ua_cfg.cb.on_dtmf_event = nullptr;
    pjsua_var.ua_cfg.cb.on_dtmf_digit = nullptr;
    pjsua_var.ua_cfg.cb.on_dtmf_digit2 = &on_digit;
}

std::vector<std::pair<int, char>> take_digits() {
    std::vector<std::pair<int, char>> taken;
    while (tail != head.load(std::memory_order_acquire)) {
        const std::uint32_t value = slots[tail % kSlots].value.exchange(0, std::memory_order_acquire);
        if (value == 0)
            break; // claimed, not written yet
        ++tail;
        taken.emplace_back(static_cast<int>(value >> 8) - 1, static_cast<char>(value & 0xff));
    }
    return taken;
}

bool takes_events(int call_id) {
    require_sip_thread();
    const pjmedia_sdp_media *media = is_call_id(call_id) ? remote_audio(call_id) : nullptr;
    if (media == nullptr)
        return false;
    const Formats formats = formats_of(*media);
    return std::any_of(formats.begin(), formats.end(), [](const Format &format) { return format.is_event(); });
}

bool send_digit(int call_id, char digit) {
    require_sip_thread();
    if (!is_call_id(call_id))
        return false;
    pjsua_call_send_dtmf_param param;
    pjsua_call_send_dtmf_param_default(&param);
    param.digits = {&digit, 1};
    param.method = takes_events(call_id) ? PJSUA_DTMF_METHOD_RFC2833 : PJSUA_DTMF_METHOD_SIP_INFO;
    return pjsua_call_send_dtmf(call_id, &param) == PJ_SUCCESS;
}

} // namespace recorder
