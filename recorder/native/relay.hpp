// RTP below pjmedia's streams: every packet of a leg goes to its tap and, while two legs are joined, straight to the
// other leg, neither decoded nor delayed. A media transport of our own, put on each leg's by pjsua's own hook.
//
// Threads: the media worker receives and sends; the sip thread makes, joins, taps and destroys.
#pragma once

#include "rtp_ring.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace recorder {

void install_relay(); // [sip] after Endpoint.libInit

// [sip] Have what two calls send relayed to each other. False when they do not speak the same codec, or have no such
// transport: then the bridge has to join them. Ends what either was joined to before.
bool join(int call_a, int call_b);
void part(int call_id); // [sip]
int joined_to(int call_id); // [sip] what `join` was last told of this call, whoever carries their media; -1: nothing

// [sip] Have a call's RTP put into `ring` as well; null ends that. False when the call has no such transport.
bool tap_rtp(int call_id, std::shared_ptr<RtpRing> ring);

} // namespace recorder
