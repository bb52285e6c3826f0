// IP addresses and networks of both families in one shape. Pure: no pjproject.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace recorder {

// An IPv6 address, or an IPv4 one as RFC 4291, section 2.5.5.2, maps it.
using Address = std::array<std::uint8_t, 16>;

struct Network {
    Address address{};
    int prefix = 0; // of 128 bits
};

Address mapped(const std::uint8_t *ipv4); // four bytes in network order
std::string to_text(const Address &address);

// "192.0.2.0/24", "2001:db8::/32", or one address. Throws std::invalid_argument.
Network parse_network(const std::string &text);

// No IPv4 address is in an IPv6 network, not even in ::/0.
bool holds(const Network &network, const Address &address);

} // namespace recorder
