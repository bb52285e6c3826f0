// The tone that somebody hears while another's phone rings, from pjmedia's own generator, which runs in the bridge. [sip]
#pragma once

#include <vector>

namespace recorder {

// The bridge's slot gets this to hear from now on: `hertz` holds one or two frequencies, `cadence_ms` how long they sound,
// how long they do not, and so on, up to eight pairs, over and over. Returns the tone's own slot, for `stop_ringback`.
int start_ringback(int slot, const std::vector<unsigned> &hertz, const std::vector<unsigned> &cadence_ms);
void stop_ringback(int tone);

} // namespace recorder
