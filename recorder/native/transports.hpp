// Which way a message goes and what address it shows: the account that a caller belongs to, the listener a dialog keeps
// to, our public address towards the outside, and the address that a far side behind a NAT really has.
#pragma once

#include "network.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace recorder {

// A trunk's network: whose account its calls are, and whether what it says of its own addresses is to be believed.
struct Peer {
    Network network;
    int account_id = -1;
    bool behind_nat = false;
};

// What a listener is called from outside; port 0: as inside.
struct PublicName {
    int transport_id = -1;
    std::string host;
    unsigned port = 0;
};

struct Paths {
    std::vector<Peer> peers; // the first that fits
    int other_account = -1;  // of a caller that is nobody's
    std::vector<Network> local;
    std::vector<PublicName> names;
    std::string media_address; // bound for audio, where the family fits; "" for the listener's
    std::string public_media;  // shown for audio to the outside; "" for what is bound
};

// [sip] After the listeners and accounts are there. A UDP message that is too long stays UDP from now on.
void install_paths(Paths paths);

// [sip] Have the next call of this account leave through this listener, its audio by IPv6 or IPv4. `sips`: its target is a sips URI.
void aim(int account_id, int transport_id, bool ipv6, bool sips);

// [sip] Let a call's dialog choose any listener, when the far side's address asks for another kind than the one it has.
void loosen(int call_id);

} // namespace recorder
