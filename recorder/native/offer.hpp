// What each leg is offered and answered: the codecs of the other leg, so that both agree and packets can be relayed.
//
// pjsua makes an SDP body of all that is enabled; these shape it before it is used. No Python runs on the way.
#pragma once

#include <optional>

namespace recorder {

// [sip] After Endpoint.libInit. `transcoding`: a leg is offered our other codecs as well, after the far side's own.
void install_offer(bool transcoding);

// [sip] The next SDP offer that is made lists what this call's far end has offered or agreed to, in its order and by its
// payload types; -1 ends that. `events`: whether telephone events are in it; none: as the call has them.
void offer_like(int call_id, std::optional<bool> events);

// [sip] Have `call_id`, not answered yet, agree to what `other`'s far end has answered. Where the two have no codec in
// common it keeps its own. False when there is nothing to be decided (any more).
bool answer_like(int call_id, int other, std::optional<bool> events);

} // namespace recorder
