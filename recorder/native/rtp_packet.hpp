// An RTP packet, taken apart (RFC 3550, section 5.1).
#pragma once

#include <cstddef>
#include <cstdint>

namespace recorder {

struct RtpPacket {
    std::uint8_t payload_type;
    std::uint16_t sequence;
    std::uint32_t timestamp;
    std::uint32_t ssrc;
    const std::uint8_t *payload;
    std::size_t size;
};

// False when it is none.
bool parse_rtp(const std::uint8_t *bytes, std::size_t size, RtpPacket &packet) noexcept;

} // namespace recorder
