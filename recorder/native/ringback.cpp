#include "ringback.hpp"

#include "bridge.hpp"
#include "pj.hpp"

#include <pjmedia/tonegen.h>

#include <array>
#include <stdexcept>

namespace recorder {
namespace {

constexpr std::size_t kMostTones = 8;
constexpr unsigned kLongestMs = 30000; // pjmedia keeps it in 16 bits
constexpr unsigned kHighestHz = 3400;
// ITU-T E.180: about -13 dBm0 in all; a sine at full scale is +3.14 dBm0.
constexpr short kVolumeOfOne = 5100;
constexpr short kVolumeOfTwo = 3600;

} // namespace

int start_ringback(int slot, const std::vector<unsigned> &hertz, const std::vector<unsigned> &cadence_ms) {
    require_sip_thread();
    if (slot < 0 || hertz.empty() || hertz.size() > 2 || cadence_ms.empty() || cadence_ms.size() % 2 != 0 ||
        cadence_ms.size() > 2 * kMostTones)
        throw std::invalid_argument("a ringback tone has one or two frequencies and up to eight pairs of on and off");
    for (const unsigned frequency : hertz)
        if (frequency == 0 || frequency > kHighestHz)
            throw std::invalid_argument("a ringback tone's frequencies are from 1 to 3400 Hz");
    for (const unsigned length_ms : cadence_ms)
        if (length_ms == 0 || length_ms > kLongestMs)
            throw std::invalid_argument("a ringback tone's parts last from 1 to 30000 ms");
    std::array<pjmedia_tone_desc, kMostTones> tones{};
    const std::size_t count = cadence_ms.size() / 2;
    for (std::size_t i = 0; i < count; ++i) {
        tones[i].freq1 = static_cast<short>(hertz.front());
        tones[i].freq2 = static_cast<short>(hertz.size() == 2 ? hertz.back() : 0);
        tones[i].on_msec = static_cast<short>(cadence_ms[2 * i]);
        tones[i].off_msec = static_cast<short>(cadence_ms[2 * i + 1]);
        tones[i].volume = hertz.size() == 2 ? kVolumeOfTwo : kVolumeOfOne;
    }
    const pjsua_media_config &media = pjsua_var.media_cfg;
    const unsigned samples = media.clock_rate * media.audio_frame_ptime / 1000;
    pj_pool_t *pool = pjsua_pool_create("ringback", 512, 512);
    if (pool == nullptr)
        throw std::runtime_error("no memory for a ringback tone");
    pjmedia_port *port = nullptr;
    int tone = PJSUA_INVALID_ID;
    keep_python_off_the_media_thread();
    pj_status_t status = pjmedia_tonegen_create2(pool, nullptr, media.clock_rate, 1, samples, 16, 0, &port);
    if (status == PJ_SUCCESS)
        status = pjmedia_tonegen_play(port, static_cast<unsigned>(count), tones.data(), PJMEDIA_TONEGEN_LOOP);
    if (status == PJ_SUCCESS)
        status = pjsua_conf_add_port(pool, port, &tone);
    // The generator and its place in the bridge have memory of their own; the bridge holds the generator from here on.
    if (port != nullptr)
        pjmedia_port_destroy(port);
    pj_pool_release(pool);
    require(status, "cannot make a ringback tone");
    try {
        connect(tone, slot);
    } catch (...) {
        stop_ringback(tone);
        throw;
    }
    return tone;
}

void stop_ringback(int tone) {
    require_sip_thread();
    if (tone < 0)
        return;
    keep_python_off_the_media_thread();
    pjsua_conf_remove_port(tone); // and all that it was connected to
}

} // namespace recorder
