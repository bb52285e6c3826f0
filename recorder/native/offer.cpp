#include "offer.hpp"

#include "announce.hpp"
#include "formats.hpp"
#include "relay.hpp"

#include <pjmedia-codec/g722.h>

#include <algorithm>
#include <utility>

namespace recorder {
namespace {

constexpr unsigned kFirstDynamic = 96; // RFC 3551, section 6
constexpr unsigned kLastDynamic = 127;

bool transcoding_allowed = true;
int offer_as = PJSUA_INVALID_ID;
std::optional<bool> offer_events;

bool has_codec(const Formats &formats) {
    return std::any_of(formats.begin(), formats.end(), [](const Format &format) { return !format.is_event(); });
}

// Those of `theirs` that we know too: their payload types, order and parameters under our spelling.
Formats common(const Formats &theirs, const Formats &ours) {
    Formats result;
    for (const Format &format : theirs) {
        const Format *known = find(ours, format);
        // pjmedia takes every number below 96 for the codec that RFC 3551 gives it to.
        const bool is_usable = known != nullptr && (format.payload_type >= kFirstDynamic ||
                                                    format.payload_type == known->payload_type);
        if (is_usable && find(result, format) == nullptr) {
            result.push_back(format);
            result.back().name = known->name;
        }
    }
    return result;
}

// A payload type that nothing in `formats` has; `wanted` if that can be.
unsigned free_payload_type(const Formats &formats, unsigned wanted) {
    const auto is_free = [&formats](unsigned number) {
        return std::none_of(formats.begin(), formats.end(),
                            [number](const Format &format) { return format.payload_type == number; });
    };
    for (unsigned number = kFirstDynamic; !is_free(wanted) && number <= kLastDynamic; ++number)
        if (is_free(number))
            wanted = number;
    return wanted;
}

void append(Formats &formats, const Formats &more, bool events) {
    for (const Format &format : more) {
        if (format.is_event() != events || find(formats, format) != nullptr)
            continue;
        const unsigned number = free_payload_type(formats, format.payload_type);
        formats.push_back(format);
        formats.back().payload_type = number;
    }
}

// Telephone events last, and one for each clock rate that a codec has (RFC 4733, section 2.5.1.2), if any at all.
void settle_events(Formats &formats, const Formats &ours, std::optional<bool> wanted) {
    const bool had = std::any_of(formats.begin(), formats.end(), [](const Format &format) { return format.is_event(); });
    std::stable_partition(formats.begin(), formats.end(), [](const Format &format) { return !format.is_event(); });
    if (wanted.value_or(had)) {
        append(formats, ours, true);
        std::erase_if(formats, [&formats = std::as_const(formats)](const Format &event) {
            return event.is_event() && event.clock_rate_hz != 8000 &&
                   std::none_of(formats.begin(), formats.end(), [&event](const Format &format) {
                       return !format.is_event() && format.clock_rate_hz == event.clock_rate_hz;
                   });
        });
    } else {
        std::erase_if(formats, [](const Format &format) { return format.is_event(); });
    }
}

// RFC 8866, section 6.4: how much sound they would like in a packet, passed on as they said it.
void copy_packet_times(pj_pool_t *pool, const pjmedia_sdp_media &from, pjmedia_sdp_media &to) {
    for (const char *name : {"ptime", "maxptime"}) {
        pjmedia_sdp_media_remove_all_attr(&to, name);
        if (const pjmedia_sdp_attr *said = pjmedia_sdp_media_find_attr2(&from, name, nullptr))
            pjmedia_sdp_media_add_attr(&to, pjmedia_sdp_attr_clone(pool, said));
    }
}

// What a call's far end can be sent: what it offers, or what has been agreed.
struct Wishes {
    const pjmedia_sdp_media *media = nullptr;
    Formats formats;
};

Wishes wishes_of(int call_id) {
    Wishes wishes;
    const pjsip_inv_session *invite = pjsua_var.calls[call_id].inv;
    const pjmedia_sdp_session *offered = nullptr;
    if (invite == nullptr || invite->neg == nullptr)
        return wishes;
    const pjmedia_sdp_neg_state state = pjmedia_sdp_neg_get_state(invite->neg);
    if ((state == PJMEDIA_SDP_NEG_STATE_REMOTE_OFFER || state == PJMEDIA_SDP_NEG_STATE_WAIT_NEGO) &&
        pjmedia_sdp_neg_get_neg_remote(invite->neg, &offered) == PJ_SUCCESS) {
        wishes.media = audio_of(call_id, offered);
        if (wishes.media != nullptr)
            wishes.formats = formats_of(*wishes.media);
        return wishes;
    }
    const pjmedia_sdp_media *local = local_audio(call_id);
    wishes.media = remote_audio(call_id);
    if (wishes.media == nullptr || local == nullptr)
        return Wishes{};
    const Formats remote = formats_of(*wishes.media);
    for (const Format &agreed : formats_of(*local))
        if (const Format *theirs = find(remote, agreed))
            wishes.formats.push_back(*theirs);
    return wishes;
}

void shape_offer(pj_pool_t *pool, pjmedia_sdp_media &media, const Wishes &wishes, std::optional<bool> events) {
    const Formats ours = formats_of(media);
    Formats formats = common(wishes.formats, ours);
    if (transcoding_allowed || !has_codec(formats))
        append(formats, ours, false);
    settle_events(formats, ours, events);
    set_formats(pool, media, formats);
    copy_packet_times(pool, *wishes.media, media);
}

// What the other leg has agreed to and no more, in its order; where these lack all of that, the first of them we know.
void shape_answer(pjsip_inv_session &invite, pj_pool_t *pool, pjmedia_sdp_media &media, const pjmedia_sdp_media &offered,
                  const Wishes &other, std::optional<bool> events) {
    const Formats ours = formats_of(media), theirs = formats_of(offered);
    Formats formats = common(other.formats, ours);
    std::erase_if(formats, [&theirs](const Format &format) { return find(theirs, format) == nullptr; });
    const bool agrees = has_codec(formats);
    if (!agrees)
        append(formats, ours, false);
    pjmedia_sdp_neg_set_prefer_remote_codec_order(invite.neg, agrees ? PJ_FALSE : PJ_TRUE);
    pjmedia_sdp_neg_set_answer_multiple_codecs(invite.neg, agrees ? PJ_TRUE : PJ_FALSE);
    settle_events(formats, ours, events);
    set_formats(pool, media, formats);
    copy_packet_times(pool, *other.media, media);
}

// [sip] pjsua's hook, for every SDP body that it makes.
void on_sdp_created(pjsua_call_id call_id, pjmedia_sdp_session *sdp, pj_pool_t *pool,
                    const pjmedia_sdp_session *remote) {
    pjmedia_sdp_media *media = audio_of(call_id, sdp);
    if (media == nullptr || media->desc.port == 0)
        return;
    // RFC 5576: what is relayed has the SSRC of the other leg's far end, not the one that pjsua would announce.
    pjmedia_sdp_media_remove_all_attr(media, "ssrc");
    say_whether_recorded(call_id, pool, *media);
    // Within a call it is the other leg that is followed. The first answer has to wait until there is one.
    const int other = is_call_id(offer_as) ? offer_as : joined_to(call_id);
    const Wishes wishes = is_call_id(other) ? wishes_of(other) : Wishes{};
    if (wishes.media == nullptr)
        return;
    pjsip_inv_session *invite = pjsua_var.calls[call_id].inv;
    const pjmedia_sdp_media *offered = remote != nullptr ? audio_of(call_id, remote) : nullptr;
    if (remote == nullptr)
        shape_offer(pool, *media, wishes, offer_events);
    else if (offered != nullptr && invite != nullptr && invite->neg != nullptr)
        shape_answer(*invite, pool, *media, *offered, wishes, std::nullopt);
}

} // namespace

void install_offer(bool transcoding) {
    transcoding_allowed = transcoding;
    offer_as = PJSUA_INVALID_ID;
    // By pjmedia's own choice, 2, what others encode (FFmpeg, for one) comes out twice as loud as it went in.
    pjmedia_codec_g722_set_pcm_shift(1);
    pjsua_var.ua_cfg.cb.on_call_sdp_created = &on_sdp_created;
}

void offer_like(int call_id, std::optional<bool> events) {
    require_sip_thread();
    offer_as = call_id;
    offer_events = events;
}

bool answer_like(int call_id, int other, std::optional<bool> events) {
    require_sip_thread();
    if (!is_call_id(call_id) || !is_call_id(other))
        return false;
    pjsip_inv_session *invite = pjsua_var.calls[call_id].inv;
    const pjmedia_sdp_session *prepared = nullptr, *offered = nullptr;
    if (invite == nullptr || invite->neg == nullptr)
        return false;
    const pjmedia_sdp_neg_state state = pjmedia_sdp_neg_get_state(invite->neg);
    const bool is_offer = state == PJMEDIA_SDP_NEG_STATE_LOCAL_OFFER; // their INVITE had none
    if ((!is_offer && state != PJMEDIA_SDP_NEG_STATE_WAIT_NEGO) ||
        pjmedia_sdp_neg_get_neg_local(invite->neg, &prepared) != PJ_SUCCESS)
        return false;
    pjmedia_sdp_media *media = audio_of(call_id, prepared); // the negotiator's own copy, which it has not used yet
    const Wishes answered = wishes_of(other);
    if (media == nullptr || media->desc.port == 0 || answered.media == nullptr)
        return false;

    if (is_offer) {
        shape_offer(invite->pool_prov, *media, answered, events);
        return true;
    }
    if (pjmedia_sdp_neg_get_neg_remote(invite->neg, &offered) != PJ_SUCCESS)
        return false;
    const pjmedia_sdp_media *asked = audio_of(call_id, offered);
    if (asked == nullptr)
        return false;
    shape_answer(*invite, invite->pool_prov, *media, *asked, answered, events);
    return true;
}

} // namespace recorder
