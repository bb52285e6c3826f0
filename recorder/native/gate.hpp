// Who may call: sees each request that belongs to no transaction before a dialog, a call or Python does. What it turns away
// costs a stateless response and nothing that stays. Belongs to the sip thread.
//
// A request of a dialog that exists passes: its tags and Call-ID say enough (RFC 3261, section 12.2.2). Any other has to
// come from a trunk, then to be one that a UAS can take (section 8.2), then to prove itself where the trunk asks for it.
#pragma once

#include "digest.hpp"
#include "strangers.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace recorder {

// All that it says must hold: one of the networks, where there are any; one of the certificate's names, where there are
// any; the credentials, where there are any.
struct GateTrunk {
    std::string name;
    std::vector<Network> networks;
    std::vector<std::string> certificates;
    std::optional<Credentials> credentials;
    int account_id = -1; // pjsua's, with its credentials and encryption towards us
};

// An INVITE of a trunk that was answered with an error before it could become a call.
struct RefusedInvite {
    std::string message;
    std::string source; // address:port
    std::string trunk;
    int status;
    std::string phrase;
};

// `answer_strangers`: 403 for who belongs to no trunk, otherwise silence. Once, after libInit.
void install_gate(std::vector<GateTrunk> trunks, bool answer_strangers);

// From now on OPTIONS is answered 503 with this Retry-After, so that trunks send their calls elsewhere.
void drain_gate(int retry_after_s);

// The trunk of the INVITE that is being handled: to be asked in onIncomingCall. From then on it is the call's.
std::string trunk_of_invite();

// Whose account the calls of a trunk belong to; without it they go by their address.
void assign_account(const std::string &trunk, int account_id);
int account_of_invite(); // -1 where there is none

std::vector<RefusedInvite> take_refused_invites();
std::vector<Stranger> take_strangers();
std::map<std::string, std::uint64_t> gate_counts();

} // namespace recorder
