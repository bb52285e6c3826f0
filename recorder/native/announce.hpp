// What our SDP says of the recording to a far end that understands it (RFC 7866, section 6.1.2): a=record.
//
// Everything here belongs to the sip thread; nothing is locked.
#pragma once

#include "pj.hpp"

namespace recorder {

// From now on the call's SDP says that it is recorded, or nothing of it; what is prepared and not sent yet does so, too.
void announce_recording(int call_id, bool recorded);

// [offer.cpp] Says so in SDP that is being made, where the far end has told that it is "record-aware".
void say_whether_recorded(int call_id, pj_pool_t *pool, pjmedia_sdp_media &media);

} // namespace recorder
