// What an audio line of an SDP body lists: payload types and the codecs that they stand for (RFC 8866, section 5.14).
#pragma once

#include "pj.hpp"

#include <string>
#include <vector>

namespace recorder {

struct Format {
    unsigned payload_type;
    std::string name; // encoding name of RFC 3551
    unsigned clock_rate_hz;
    unsigned channels;
    std::string parameters; // of a=fmtp, "" for none

    bool is_event() const; // RFC 4733
    bool is_same_codec(const Format &other) const;
};

using Formats = std::vector<Format>;

Formats formats_of(const pjmedia_sdp_media &media);
const Format *find(const Formats &formats, const Format &wanted); // null when there is none of that codec

// [sip] Have `media` list exactly these, in this order. What it needs is taken from `pool`.
void set_formats(pj_pool_t *pool, pjmedia_sdp_media &media, const Formats &formats);

// [sip] The audio line of a call's negotiated SDP, ours and the far end's; null before there is one.
const pjmedia_sdp_media *local_audio(int call_id);
const pjmedia_sdp_media *remote_audio(int call_id);

// [sip] The audio line of an SDP body that belongs to a call: the one it uses, or else the first; null for none.
pjmedia_sdp_media *audio_of(int call_id, const pjmedia_sdp_session *sdp);

} // namespace recorder
