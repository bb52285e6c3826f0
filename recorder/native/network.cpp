#include "network.hpp"

#include <algorithm>
#include <stdexcept>

#include <arpa/inet.h>

namespace recorder {
namespace {

constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr int kMappedBits = 8 * static_cast<int>(kMapped.size());

bool is_mapped(const Address &address) { return std::equal(kMapped.begin(), kMapped.end(), address.begin()); }

} // namespace

Address mapped(const std::uint8_t *ipv4) {
    Address address;
    std::copy_n(ipv4, 4, std::copy(kMapped.begin(), kMapped.end(), address.begin()));
    return address;
}

std::string to_text(const Address &address) {
    char text[INET6_ADDRSTRLEN] = "";
    if (is_mapped(address))
        inet_ntop(AF_INET, address.data() + kMapped.size(), text, sizeof text);
    else
        inet_ntop(AF_INET6, address.data(), text, sizeof text);
    return text;
}

Network parse_network(const std::string &text) {
    const std::size_t slash = text.find('/');
    const std::string host = text.substr(0, slash);
    Network network;
    std::uint8_t ipv4[4];
    int longest = 128;
    if (inet_pton(AF_INET, host.c_str(), ipv4) == 1) {
        network.address = mapped(ipv4);
        longest = 32;
    } else if (inet_pton(AF_INET6, host.c_str(), network.address.data()) != 1) {
        throw std::invalid_argument("'" + text + "' is no network");
    }
    const int prefix = slash == std::string::npos ? longest : std::stoi(text.substr(slash + 1));
    if (prefix < 0 || prefix > longest)
        throw std::invalid_argument("'" + text + "' has no such prefix");
    network.prefix = prefix + 128 - longest;
    return network;
}

bool holds(const Network &network, const Address &address) {
    if (network.prefix < kMappedBits && is_mapped(address))
        return false;
    const int whole = network.prefix / 8, rest = network.prefix % 8;
    return std::equal(address.begin(), address.begin() + whole, network.address.begin()) &&
           (rest == 0 || ((address[whole] ^ network.address[whole]) >> (8 - rest)) == 0);
}

} // namespace recorder
