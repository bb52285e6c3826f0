// RTP below pjmedia's streams: every packet of a leg goes to its tap and, while two legs are joined, straight to the
// other leg, neither decoded nor delayed. A media transport of our own, put on each leg's by pjsua's own hook.
//
// Threads: the media worker receives and sends; the sip thread makes, joins, taps and destroys.
#pragma once

#include "rtp_ring.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace recorder {

void install_relay(); // [sip] after Endpoint.libInit

// [sip] Have what two calls send relayed to each other. False when they do not speak the same codec, or have no such
// transport: then the bridge has to join them. Ends what either was joined to before.
bool join(int call_a, int call_b);
void part(int call_id); // [sip]
int joined_to(int call_id); // [sip] what `join` was last told of this call, whoever carries their media; -1: nothing

// [sip] Have a call's RTP put into `ring` as well; null ends that. Again when other codecs have been agreed on. False when
// the call has no such transport.
bool tap_rtp(int call_id, std::shared_ptr<RtpRing> ring);

// [sip] Calls whose far end has sent no RTP for `timeout_ms`, each told once a silence. Asked about once a second. A call
// that is held, either way, may be silent.
std::vector<int> take_silent(unsigned timeout_ms);

// RFC 3550, section 6.5: a source description names the sender's user and host. A copy of an RTCP packet that keeps the
// SSRCs and has names made of them. Returns its size, 0 for what cannot be read or does not fit into `room`.
std::size_t hide_names(const std::uint8_t *in, std::size_t size, std::uint8_t *out, std::size_t room) noexcept;

} // namespace recorder
