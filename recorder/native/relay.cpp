#include "relay.hpp"

#include "formats.hpp"
#include "media_clock.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

namespace recorder {
namespace {

constexpr std::uint8_t kDropped = 0xff;
constexpr std::uint8_t kComfortNoise = 13; // RFC 3389
constexpr std::size_t kLongestPacket = 1500;
constexpr std::uint8_t kSourceDescription = 202; // RFC 3550, section 12.1
constexpr std::size_t kNamedChunk = 16;          // an SSRC, a CNAME of eight characters, and zeros

using PayloadMap = std::array<std::uint8_t, 128>; // theirs to the other leg's; kDropped: not sent on

struct Leg {
    pjmedia_transport base; // first, so that pjmedia's pointer is ours
    pjmedia_transport *below = nullptr;
    bool owns_below = false;
    pj_pool_t *pool = nullptr;

    // The stream above, set while it is attached.
    void *stream = nullptr;
    void (*on_rtp)(void *, void *, pj_ssize_t) = nullptr;
    void (*on_rtp2)(pjmedia_tp_cb_param *) = nullptr;
    void (*on_rtcp)(void *, void *, pj_ssize_t) = nullptr;

    // [media] Where the far end's audio comes from; not what its SDP says when a NAT stands in between.
    pj_sockaddr source{};
    bool source_heard = false;
    unsigned strangers = 0; // packets from elsewhere since the last one from there

    // Held by the media worker while it handles one packet, by the sip thread to change a pointer: microseconds.
    std::mutex link;
    Leg *other = nullptr;
    PayloadMap payloads{};
    std::shared_ptr<RtpRing> ring;
    Payloads codecs = static_payloads(); // what the far end may send, for the ring
    std::atomic<bool> joined{false};

    int partner = PJSUA_INVALID_ID; // [sip]

    std::atomic<std::uint32_t> heard{0}; // packets of RTP that have come in
    std::uint32_t heard_before = 0;      // [sip] for take_silent
    std::int64_t quiet_since_ms = 0;     // [sip] 0: not watched yet
    bool is_told = false;                // [sip]
};

Leg *leg_of(pjmedia_transport *transport) { return reinterpret_cast<Leg *>(transport); }

// [media] A packet has come in from the far end.
void relay(Leg &leg, const void *bytes, pj_ssize_t size) {
    RtpPacket packet;
    if (size <= 0 || !parse_rtp(static_cast<const std::uint8_t *>(bytes), static_cast<std::size_t>(size), packet))
        return;
    leg.heard.fetch_add(1, std::memory_order_relaxed);
    const std::lock_guard lock(leg.link);
    if (leg.ring)
        leg.ring->put(packet, leg.codecs[packet.payload_type], media_clock(leg.ring->rate_hz()));
    if (leg.other == nullptr || static_cast<std::size_t>(size) > kLongestPacket)
        return;
    const std::uint8_t payload_type = leg.payloads[packet.payload_type];
    if (payload_type == kDropped)
        return;
    if (payload_type == packet.payload_type) {
        pjmedia_transport_send_rtp(leg.other->below, bytes, static_cast<pj_size_t>(size));
        return;
    }
    std::uint8_t changed[kLongestPacket];
    std::memcpy(changed, bytes, static_cast<std::size_t>(size));
    changed[1] = static_cast<std::uint8_t>((changed[1] & 0x80) | payload_type);
    pjmedia_transport_send_rtp(leg.other->below, changed, static_cast<pj_size_t>(size));
}

// [media] Whether a packet is the far end's: whoever guesses the port must not be heard nor recorded. The rule is that of
// pjmedia's stream, which decides where we send to: another address is believed before the known one has been heard, and
// once that has been silent for a while.
bool is_from_far_end(Leg &leg, const pj_sockaddr_t *source, bool stream_switched) {
    if (source == nullptr)
        return true;
    if (pj_sockaddr_has_addr(&leg.source) && pj_sockaddr_cmp(&leg.source, source) == 0) {
        leg.source_heard = true;
        leg.strangers = 0;
        return true;
    }
    if (!stream_switched && leg.source_heard && ++leg.strangers < PJMEDIA_RTP_NAT_PROBATION_CNT)
        return false;
    pj_sockaddr_cp(&leg.source, source);
    leg.source_heard = true;
    leg.strangers = 0;
    return true;
}

void on_rtp(pjmedia_tp_cb_param *param) {
    Leg &leg = *static_cast<Leg *>(param->user_data);
    // The stream goes on counting for the statistics, and finds out when the far end's address changes.
    if (leg.on_rtp2 != nullptr) {
        pjmedia_tp_cb_param above = *param;
        above.user_data = leg.stream;
        leg.on_rtp2(&above);
        param->rem_switch = above.rem_switch;
    } else if (leg.on_rtp != nullptr) {
        leg.on_rtp(leg.stream, param->pkt, param->size);
    }
    if (is_from_far_end(leg, param->src_addr, param->rem_switch))
        relay(leg, param->pkt, param->size);
}

void on_rtcp(void *user_data, void *bytes, pj_ssize_t size) {
    Leg &leg = *static_cast<Leg *>(user_data);
    if (size > 0) {
        std::uint8_t changed[kLongestPacket];
        const std::size_t length =
            hide_names(static_cast<const std::uint8_t *>(bytes), static_cast<std::size_t>(size), changed, sizeof changed);
        const std::lock_guard lock(leg.link);
        if (leg.other != nullptr && length > 0)
            pjmedia_transport_send_rtcp(leg.other->below, changed, length);
    }
    if (leg.on_rtcp != nullptr)
        leg.on_rtcp(leg.stream, bytes, size);
}

// The transport's operations: most just go on to the one below -----------------------------------------------------

pj_status_t get_info(pjmedia_transport *tp, pjmedia_transport_info *info) {
    return pjmedia_transport_get_info(leg_of(tp)->below, info);
}

pj_status_t attach2(pjmedia_transport *tp, pjmedia_transport_attach_param *param) {
    Leg &leg = *leg_of(tp);
    leg.stream = param->user_data;
    leg.on_rtp = param->rtp_cb;
    leg.on_rtp2 = param->rtp_cb2;
    leg.on_rtcp = param->rtcp_cb;
    leg.source = param->rem_addr;
    leg.source_heard = false;
    leg.strangers = 0;
    param->user_data = &leg;
    param->rtp_cb = nullptr;
    param->rtp_cb2 = &on_rtp;
    param->rtcp_cb = &on_rtcp;
    const pj_status_t status = pjmedia_transport_attach2(leg.below, param);
    if (status != PJ_SUCCESS)
        leg.stream = nullptr, leg.on_rtp = nullptr, leg.on_rtp2 = nullptr, leg.on_rtcp = nullptr;
    return status;
}

void detach(pjmedia_transport *tp, void *) {
    Leg &leg = *leg_of(tp);
    if (leg.stream == nullptr)
        return;
    pjmedia_transport_detach(leg.below, &leg);
    leg.stream = nullptr, leg.on_rtp = nullptr, leg.on_rtp2 = nullptr, leg.on_rtcp = nullptr;
}

// While the leg is joined the far end hears the other leg, and not what our own stream makes of nothing.
pj_status_t send_rtp(pjmedia_transport *tp, const void *packet, pj_size_t size) {
    Leg &leg = *leg_of(tp);
    return leg.joined.load(std::memory_order_relaxed) ? PJ_SUCCESS : pjmedia_transport_send_rtp(leg.below, packet, size);
}

pj_status_t send_rtcp(pjmedia_transport *tp, const void *packet, pj_size_t size) {
    Leg &leg = *leg_of(tp);
    return leg.joined.load(std::memory_order_relaxed) ? PJ_SUCCESS : pjmedia_transport_send_rtcp(leg.below, packet, size);
}

pj_status_t send_rtcp2(pjmedia_transport *tp, const pj_sockaddr_t *address, unsigned length, const void *packet,
                       pj_size_t size) {
    Leg &leg = *leg_of(tp);
    return leg.joined.load(std::memory_order_relaxed)
               ? PJ_SUCCESS
               : pjmedia_transport_send_rtcp2(leg.below, address, length, packet, size);
}

pj_status_t media_create(pjmedia_transport *tp, pj_pool_t *pool, unsigned options, const pjmedia_sdp_session *remote,
                         unsigned index) {
    return pjmedia_transport_media_create(leg_of(tp)->below, pool, options, remote, index);
}

pj_status_t encode_sdp(pjmedia_transport *tp, pj_pool_t *pool, pjmedia_sdp_session *local,
                       const pjmedia_sdp_session *remote, unsigned index) {
    return pjmedia_transport_encode_sdp(leg_of(tp)->below, pool, local, remote, index);
}

pj_status_t media_start(pjmedia_transport *tp, pj_pool_t *pool, const pjmedia_sdp_session *local,
                        const pjmedia_sdp_session *remote, unsigned index) {
    return pjmedia_transport_media_start(leg_of(tp)->below, pool, local, remote, index);
}

pj_status_t media_stop(pjmedia_transport *tp) { return pjmedia_transport_media_stop(leg_of(tp)->below); }

pj_status_t simulate_lost(pjmedia_transport *tp, pjmedia_dir direction, unsigned percent) {
    return pjmedia_transport_simulate_lost(leg_of(tp)->below, direction, percent);
}

// `silent`: what the other leg's own stream has to say is kept from its far end as before, until it is joined again.
void unlink(Leg &leg, bool silent = false) {
    Leg *other = nullptr;
    {
        const std::lock_guard lock(leg.link);
        std::swap(other, leg.other);
        leg.joined.store(false, std::memory_order_relaxed);
    }
    if (other == nullptr)
        return;
    const std::lock_guard lock(other->link); // waits for a packet that is on its way to `leg`
    other->other = nullptr;
    if (!silent)
        other->joined.store(false, std::memory_order_relaxed);
}

// [sip] Whether the bridge has a call's stream send. It makes sound of nothing, encodes it and hands it to us to be dropped
// for every leg that is in the bridge, listened to or not.
void let_stream_send(int call_id, bool whether) {
    const int slot = is_call_id(call_id) ? pjsua_call_get_conf_port(call_id) : PJSUA_INVALID_ID;
    if (slot != PJSUA_INVALID_ID) // one that is about to go is refused
        pjmedia_conf_configure_port(pjsua_var.mconf, static_cast<unsigned>(slot),
                                    whether ? PJMEDIA_PORT_ENABLE : PJMEDIA_PORT_DISABLE, PJMEDIA_PORT_NO_CHANGE);
}

// [sip] End what a call is joined to; the streams of both speak again.
void unlink_call(Leg &leg, int call_id) {
    if (leg.other != nullptr) // changed by this thread only
        let_stream_send(leg.partner, true);
    let_stream_send(call_id, true);
    unlink(leg);
}

pj_status_t destroy(pjmedia_transport *tp) {
    Leg &leg = *leg_of(tp);
    unlink(leg, true);
    {
        const std::lock_guard lock(leg.link);
        leg.ring.reset();
    }
    pjmedia_transport *below = leg.owns_below ? leg.below : nullptr;
    // The memory goes with the last reference to the lock, which a packet that is being handled may hold.
    pj_grp_lock_t *lock = leg.base.grp_lock;
    if (below != nullptr)
        pjmedia_transport_close(below);
    pj_grp_lock_dec_ref(lock);
    return PJ_SUCCESS;
}

// [the thread that drops the last reference]
void on_destroy(void *argument) {
    Leg *leg = static_cast<Leg *>(argument);
    pj_pool_t *pool = leg->pool;
    leg->~Leg();
    pj_pool_release(pool);
}

pjmedia_transport_op operations = {
    &get_info, nullptr,     &detach,     &send_rtp,      &send_rtcp, &send_rtcp2, &media_create,
    &encode_sdp, &media_start, &media_stop, &simulate_lost, &destroy,   &attach2,
};

// [sip] pjsua's hook: put a Leg on top of what pjsua has made (and of SRTP, so that what is relayed here is clear).
pjmedia_transport *on_create(pjsua_call_id, unsigned, pjmedia_transport *below, unsigned flags) {
    if (below->grp_lock == nullptr)
        return below;
    pj_pool_t *pool = pjsua_pool_create("relay", 1024, 512);
    if (pool == nullptr)
        return nullptr;
    Leg *leg = new (pj_pool_alloc(pool, sizeof(Leg))) Leg();
    leg->base = {};
    leg->pool = pool;
    leg->below = below;
    leg->owns_below = (flags & PJSUA_MED_TP_CLOSE_MEMBER) != 0;
    pj_ansi_snprintf(leg->base.name, sizeof leg->base.name, "relay%p", static_cast<void *>(leg));
    leg->base.type = static_cast<pjmedia_transport_type>(PJMEDIA_TRANSPORT_TYPE_USER + 1);
    leg->base.op = &operations;
    leg->base.grp_lock = below->grp_lock;
    pj_grp_lock_add_ref(below->grp_lock);
    pj_grp_lock_add_handler(below->grp_lock, pool, leg, &on_destroy);
    return &leg->base;
}

Leg *find(int call_id) {
    if (!is_call_id(call_id))
        return nullptr;
    const pjsua_call &call = pjsua_var.calls[call_id];
    if (call.audio_idx < 0 || static_cast<unsigned>(call.audio_idx) >= call.med_cnt)
        return nullptr;
    pjmedia_transport *transport = call.media[call.audio_idx].tp;
    return transport != nullptr && transport->op == &operations ? leg_of(transport) : nullptr;
}

// The codec that a line begins with is the one in use (RFC 3264, section 6.1).
const Format *codec_of(const Formats &formats) {
    const auto found =
        std::find_if(formats.begin(), formats.end(), [](const Format &format) { return !format.is_event(); });
    return found == formats.end() ? nullptr : &*found;
}

pjmedia_dir direction_of(int call_id) { return pjsua_var.calls[call_id].media[pjsua_var.calls[call_id].audio_idx].dir; }

// From what the far end of one leg may send to us, to what the far end of the other wants it to be called.
PayloadMap payload_map(int call_from, const Formats &from, int call_to, const Formats &to) {
    PayloadMap map;
    map.fill(kDropped);
    // RFC 3264, section 8.4: nothing is sent to a leg that has said that it will not listen.
    if ((direction_of(call_from) & PJMEDIA_DIR_DECODING) == 0 || (direction_of(call_to) & PJMEDIA_DIR_ENCODING) == 0)
        return map;
    map[kComfortNoise] = kComfortNoise;
    for (const Format &format : from)
        if (const Format *theirs = find(to, format))
            map[format.payload_type] = static_cast<std::uint8_t>(theirs->payload_type);
    return map;
}

void set_link(Leg &leg, Leg &other, const PayloadMap &payloads) {
    const std::lock_guard lock(leg.link);
    leg.other = &other;
    leg.payloads = payloads;
    leg.joined.store(true, std::memory_order_relaxed);
}

} // namespace

void install_relay() { pjsua_var.ua_cfg.cb.on_create_media_transport = &on_create; }

bool join(int call_a, int call_b) {
    require_sip_thread();
    Leg *a = find(call_a), *b = find(call_b);
    if (a != nullptr)
        unlink_call(*a, call_a);
    if (b != nullptr)
        unlink_call(*b, call_b);
    if (a != nullptr)
        a->partner = call_b;
    if (b != nullptr)
        b->partner = call_a;
    if (a == nullptr || b == nullptr || a == b)
        return false;
    const pjmedia_sdp_media *local_a = local_audio(call_a), *remote_a = remote_audio(call_a);
    const pjmedia_sdp_media *local_b = local_audio(call_b), *remote_b = remote_audio(call_b);
    if (local_a == nullptr || remote_a == nullptr || local_b == nullptr || remote_b == nullptr)
        return false;
    const Formats from_a = formats_of(*local_a), from_b = formats_of(*local_b);
    const Format *codec_a = codec_of(from_a), *codec_b = codec_of(from_b);
    if (codec_a == nullptr || codec_b == nullptr || !codec_a->is_same_codec(*codec_b))
        return false;
    set_link(*a, *b, payload_map(call_a, from_a, call_b, formats_of(*remote_b)));
    set_link(*b, *a, payload_map(call_b, from_b, call_a, formats_of(*remote_a)));
    let_stream_send(call_a, false);
    let_stream_send(call_b, false);
    return true;
}

void part(int call_id) {
    require_sip_thread();
    if (Leg *leg = find(call_id)) {
        unlink_call(*leg, call_id);
        leg->partner = PJSUA_INVALID_ID; // whose number may be another call's later
    }
}

std::vector<int> take_silent(unsigned timeout_ms) {
    require_sip_thread();
    const std::int64_t now_ms = media_clock(1000);
    std::vector<int> silent;
    for (int call_id = 0; is_call_id(call_id); ++call_id) {
        const pjsip_inv_session *invite = pjsua_var.calls[call_id].inv;
        Leg *leg = invite != nullptr && invite->state == PJSIP_INV_STATE_CONFIRMED ? find(call_id) : nullptr;
        if (leg == nullptr)
            continue;
        const std::uint32_t heard = leg->heard.load(std::memory_order_relaxed);
        const bool must_speak = leg->stream != nullptr && direction_of(call_id) == PJMEDIA_DIR_ENCODING_DECODING;
        if (heard != leg->heard_before || !must_speak || leg->quiet_since_ms == 0) {
            leg->heard_before = heard;
            leg->quiet_since_ms = now_ms;
            leg->is_told = false;
        } else if (!leg->is_told && now_ms - leg->quiet_since_ms >= timeout_ms) {
            leg->is_told = true;
            silent.push_back(call_id);
        }
    }
    return silent;
}

int joined_to(int call_id) {
    const Leg *leg = find(call_id);
    return leg != nullptr ? leg->partner : PJSUA_INVALID_ID;
}

bool tap_rtp(int call_id, std::shared_ptr<RtpRing> ring) {
    require_sip_thread();
    Leg *leg = find(call_id);
    if (leg == nullptr)
        return false;
    const pjmedia_sdp_media *local = local_audio(call_id);
    const Formats formats = local != nullptr ? formats_of(*local) : Formats();
    const std::lock_guard lock(leg->link);
    for (const Format &format : formats) // packets of what was agreed on before may still be on their way
        leg->codecs[format.payload_type] = codec_named(format.name);
    leg->ring.swap(ring);
    return true;
}

std::size_t hide_names(const std::uint8_t *in, std::size_t size, std::uint8_t *out, std::size_t room) noexcept {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::size_t at = 0, written = 0;
    while (at < size) {
        if (size - at < 4 || in[at] >> 6 != 2)
            return 0;
        const std::size_t end = at + 4 * (std::size_t(in[at + 2] << 8 | in[at + 3]) + 1);
        if (end > size)
            return 0;
        if (in[at + 1] != kSourceDescription) {
            if (room - written < end - at)
                return 0;
            std::memcpy(out + written, in + at, end - at);
            written += end - at;
            at = end;
            continue;
        }
        const std::size_t header = written;
        const unsigned chunks = in[at] & 0x1f;
        if (room - written < 4 + chunks * kNamedChunk)
            return 0;
        written += 4;
        std::size_t chunk = at + 4;
        for (unsigned i = 0; i < chunks; ++i) {
            if (end - chunk < 8)
                return 0;
            std::memset(out + written, 0, kNamedChunk);
            std::memcpy(out + written, in + chunk, 4);
            out[written + 4] = 1; // CNAME
            out[written + 5] = 8;
            for (unsigned digit = 0; digit < 8; ++digit)
                out[written + 6 + digit] = static_cast<std::uint8_t>(kDigits[in[chunk + digit / 2] >> (digit % 2 ? 0 : 4) & 0xf]);
            written += kNamedChunk;
            std::size_t item = chunk + 4;
            while (item < end && in[item] != 0) {
                if (end - item < 2 || end - item < 2 + std::size_t(in[item + 1]))
                    return 0;
                item += 2 + std::size_t(in[item + 1]);
            }
            chunk = std::min(end, at + 4 + (item + 4 - (at + 4)) / 4 * 4); // past the zero, to the next word
        }
        const std::size_t words = (written - header) / 4 - 1;
        out[header] = static_cast<std::uint8_t>(0x80 | chunks);
        out[header + 1] = kSourceDescription;
        out[header + 2] = static_cast<std::uint8_t>(words >> 8);
        out[header + 3] = static_cast<std::uint8_t>(words);
        at = end;
    }
    return written;
}

} // namespace recorder
