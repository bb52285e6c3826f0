#include "rtp_packet.hpp"

namespace recorder {

bool parse_rtp(const std::uint8_t *bytes, std::size_t size, RtpPacket &packet) noexcept {
    if (size < 12 || bytes[0] >> 6 != 2)
        return false;
    std::size_t begin = 12 + 4 * std::size_t(bytes[0] & 0x0f);
    if (bytes[0] & 0x10) { // a header extension (section 5.3.1)
        if (size < begin + 4)
            return false;
        begin += 4 + 4 * (std::size_t(bytes[begin + 2]) << 8 | bytes[begin + 3]);
    }
    const std::size_t padding = bytes[0] & 0x20 ? bytes[size - 1] : 0;
    if (begin + padding > size)
        return false;
    packet.payload_type = bytes[1] & 0x7f;
    packet.sequence = static_cast<std::uint16_t>(bytes[2] << 8 | bytes[3]);
    packet.timestamp = std::uint32_t(bytes[4]) << 24 | std::uint32_t(bytes[5]) << 16 | std::uint32_t(bytes[6]) << 8 | bytes[7];
    packet.ssrc = std::uint32_t(bytes[8]) << 24 | std::uint32_t(bytes[9]) << 16 | std::uint32_t(bytes[10]) << 8 | bytes[11];
    packet.payload = bytes + begin;
    packet.size = size - begin - padding;
    return true;
}

} // namespace recorder
