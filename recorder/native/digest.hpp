// Digest authentication of requests from outside (RFC 3261, section 22; RFC 8760). Belongs to the sip thread.
#pragma once

#include "pj.hpp"

#include <string>
#include <vector>

namespace recorder {

struct Credentials {
    std::string username;
    std::string password;
    std::string realm;
    std::vector<pjsip_auth_algorithm_type> algorithms; // the preferred one first
};

enum class Proof {
    none,  // nothing for this realm
    stale, // a nonce that has run out, or a count that was used before
    wrong, // not this user, or not this password
    good,
};

pjsip_auth_algorithm_type algorithm_of(const std::string &name); // "MD5" or "SHA-256"; throws std::invalid_argument

// A new secret: every nonce given out before becomes stale.
void begin_digest();

// Checks the Authorization header of the realm. A good one uses up its nonce count.
Proof prove(const pjsip_rx_data *rdata, const Credentials &credentials);

// Adds a WWW-Authenticate header for each algorithm.
void add_challenges(pjsip_tx_data *response, const Credentials &credentials, bool stale);

} // namespace recorder
