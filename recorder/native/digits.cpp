#include "digits.hpp"

#include "pj.hpp"
#include "wake.hpp"

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
std::atomic<unsigned long> dropped{0};

// [media] pjsua2's own callback would call into Python here, on the media thread. Called once a digit, at its start.
void on_digit(pjsua_call_id call_id, const pjsua_dtmf_info *info) {
    if (info->method != PJSUA_DTMF_METHOD_RFC2833)
        return;
    const std::uint32_t place = head.fetch_add(1, std::memory_order_relaxed) % kSlots;
    const std::uint32_t value = (static_cast<std::uint32_t>(call_id) + 1) << 8 | (info->digit & 0xff);
    std::uint32_t free = 0;
    if (!slots[place].value.compare_exchange_strong(free, value, std::memory_order_release))
        dropped.fetch_add(1, std::memory_order_relaxed); // thousands of digits in one turn of the sip thread
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

bool send_digit(int call_id, char digit) {
    require_sip_thread();
    const pj_str_t digits{&digit, 1};
    return is_call_id(call_id) && pjsua_call_dial_dtmf(call_id, &digits) == PJ_SUCCESS;
}

unsigned long dropped_digits() { return dropped.load(std::memory_order_relaxed); }

} // namespace recorder
