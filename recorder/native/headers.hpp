// What the far end of a leg says of the call beyond what the stack needs: the headers that are to be passed on.
//
// Everything here belongs to the sip thread; nothing is locked.
#pragma once

#include "pj.hpp"
#include "wire.hpp"

#include <string>
#include <vector>

namespace recorder {

// Names to look out for; one that ends in '*' stands for all that begin like it. Registers with the endpoint.
void pick_headers(const std::vector<std::string> &names);

// Watch a leg's dialog. Idempotent.
void watch_headers(pjsip_dialog *dialog);

// The picked headers of the last message of a call; empties the place.
Headers take_headers(int call_id);

// The call whose dialog this is, by its Call-ID, our tag and the far end's; -1 for none.
int find_call(const std::string &sip_call_id, const std::string &local_tag, const std::string &remote_tag);

// Take picked headers out of our last response to the call's INVITE: the stack makes the next one out of it.
void drop_headers(int call_id);

} // namespace recorder
