#include "formats.hpp"

#include <algorithm>
#include <cctype>

namespace recorder {
namespace {

constexpr const char *kEvent = "telephone-event";

struct Static {
    unsigned payload_type;
    const char *name;
};

// RFC 3551, table 4: those that need no a=rtpmap. G.722 counts 8000 a second there, by a mistake that has stayed.
constexpr Static kStatic[] = {{0, "PCMU"}, {3, "GSM"}, {8, "PCMA"}, {9, "G722"}, {13, "CN"}, {18, "G729"}};

bool same_text(const std::string &a, const std::string &b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
        return std::tolower(x) == std::tolower(y);
    });
}

void add_attribute(pj_pool_t *pool, pjmedia_sdp_media &media, const char *name, const std::string &value) {
    const pj_str_t borrowed = borrow(value);
    pjmedia_sdp_attr *attribute = pjmedia_sdp_attr_create(pool, name, nullptr);
    pj_strdup_with_null(pool, &attribute->value, &borrowed);
    pjmedia_sdp_media_add_attr(&media, attribute);
}

} // namespace

bool Format::is_event() const { return same_text(name, kEvent); }

bool Format::is_same_codec(const Format &other) const {
    return same_text(name, other.name) && clock_rate_hz == other.clock_rate_hz && channels == other.channels;
}

Formats formats_of(const pjmedia_sdp_media &media) {
    Formats formats;
    for (unsigned i = 0; i < media.desc.fmt_count; ++i) {
        const pj_str_t &number = media.desc.fmt[i];
        if (number.slen < 1 || number.slen > 3 || !pj_isdigit(*number.ptr))
            continue;
        Format format{static_cast<unsigned>(pj_strtoul(&number)), {}, 8000, 1, {}};
        for (const Static &known : kStatic) // whatever is said of them: G729A/8000 and G722/16000 occur
            if (known.payload_type == format.payload_type)
                format.name = known.name;
        pjmedia_sdp_rtpmap map;
        const pjmedia_sdp_attr *rtpmap = pjmedia_sdp_media_find_attr2(&media, "rtpmap", &number);
        if (format.name.empty() && rtpmap != nullptr && pjmedia_sdp_attr_get_rtpmap(rtpmap, &map) == PJ_SUCCESS) {
            format.name = text(map.enc_name);
            format.clock_rate_hz = map.clock_rate;
            format.channels = map.param.slen > 0 ? static_cast<unsigned>(pj_strtoul(&map.param)) : 1;
        }
        if (format.name.empty() || format.payload_type > 127)
            continue;
        pjmedia_sdp_fmtp parameters;
        const pjmedia_sdp_attr *fmtp = pjmedia_sdp_media_find_attr2(&media, "fmtp", &number);
        if (fmtp != nullptr && pjmedia_sdp_attr_get_fmtp(fmtp, &parameters) == PJ_SUCCESS)
            format.parameters = text(parameters.fmt_param);
        formats.push_back(std::move(format));
    }
    return formats;
}

const Format *find(const Formats &formats, const Format &wanted) {
    const auto found = std::find_if(formats.begin(), formats.end(),
                                    [&wanted](const Format &format) { return format.is_same_codec(wanted); });
    return found == formats.end() ? nullptr : &*found;
}

void set_formats(pj_pool_t *pool, pjmedia_sdp_media &media, const Formats &formats) {
    pjmedia_sdp_media_remove_all_attr(&media, "rtpmap");
    pjmedia_sdp_media_remove_all_attr(&media, "fmtp");
    media.desc.fmt_count = 0;
    for (const Format &format : formats) {
        if (media.desc.fmt_count == PJMEDIA_MAX_SDP_FMT)
            return;
        const std::string number = std::to_string(format.payload_type);
        const pj_str_t borrowed = borrow(number);
        pj_strdup_with_null(pool, &media.desc.fmt[media.desc.fmt_count++], &borrowed);
        std::string map = number + " " + format.name + "/" + std::to_string(format.clock_rate_hz);
        if (format.channels > 1)
            map += "/" + std::to_string(format.channels);
        add_attribute(pool, media, "rtpmap", map);
        if (!format.parameters.empty())
            add_attribute(pool, media, "fmtp", number + " " + format.parameters);
    }
}

pjmedia_sdp_media *audio_of(int call_id, const pjmedia_sdp_session *sdp) {
    if (sdp == nullptr)
        return nullptr;
    const auto is_audio = [](const pjmedia_sdp_media *media) {
        return pj_stricmp2(&media->desc.media, "audio") == 0;
    };
    const int used = pjsua_var.calls[call_id].audio_idx;
    if (used >= 0 && static_cast<unsigned>(used) < sdp->media_count && is_audio(sdp->media[used]))
        return sdp->media[used];
    for (unsigned i = 0; i < sdp->media_count; ++i)
        if (is_audio(sdp->media[i]) && sdp->media[i]->desc.port != 0)
            return sdp->media[i];
    return nullptr;
}

const pjmedia_sdp_media *local_audio(int call_id) {
    const pjsip_inv_session *invite = pjsua_var.calls[call_id].inv;
    const pjmedia_sdp_session *sdp = nullptr;
    if (invite == nullptr || invite->neg == nullptr ||
        pjmedia_sdp_neg_get_active_local(invite->neg, &sdp) != PJ_SUCCESS)
        return nullptr;
    return audio_of(call_id, sdp);
}

const pjmedia_sdp_media *remote_audio(int call_id) {
    const pjsip_inv_session *invite = pjsua_var.calls[call_id].inv;
    const pjmedia_sdp_session *sdp = nullptr;
    if (invite == nullptr || invite->neg == nullptr ||
        pjmedia_sdp_neg_get_active_remote(invite->neg, &sdp) != PJ_SUCCESS)
        return nullptr;
    return audio_of(call_id, sdp);
}

} // namespace recorder
