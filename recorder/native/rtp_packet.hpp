// An RTP packet, taken apart (RFC 3550, section 5.1), and the numbers by which packets are counted.
#pragma once

#include <array>
#include <atomic>
#include <climits>
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

// Counts the packets of a leg by their sequence numbers (RFC 3550, appendix A.1 and A.3), each once. Packets of two
// sources may be mixed for a while, as around a transfer.
class RtpSequence {
  public:
    static constexpr int kAgain = INT_MIN;
    static constexpr int kStrange = INT_MIN + 1;

    // Rates as RtpClock has them.
    RtpSequence(unsigned rtp_rate_hz, unsigned position_rate_hz) : rtp_rate_(rtp_rate_hz), position_rate_(position_rate_hz) {}

    // [media] How many numbers a packet is ahead of the newest of its source; 0 for the first one of a source; less for
    // one that was overtaken. kAgain: it has been here. kStrange: neither, by number and timestamp, and not counted: a
    // stray, or its source counts anew, which the clock finds out; then `restart`.
    int take(const RtpPacket &packet, std::int64_t arrival) noexcept;
    void restart(const RtpPacket &packet, std::int64_t arrival) noexcept; // [media]

    std::uint64_t lost() const noexcept; // [any] by now; one that is merely overtaken is lost until it comes
    void set_rtp_rate(unsigned rtp_rate_hz) noexcept { rtp_rate_ = rtp_rate_hz; } // [media]
    void forget_lost() noexcept { forgotten_.store(lost_ever(), std::memory_order_relaxed); } // [any]

  private:
    static constexpr int kRemembered = 512;
    static constexpr int kDropout = 3000; // a longer jump is none

    struct Source {
        bool known = false;
        std::uint32_t ssrc = 0;
        std::uint16_t newest = 0;
        std::uint32_t newest_timestamp = 0;
        std::int64_t newest_arrival = 0;
        std::int64_t span = 1; // numbers from the oldest to the newest
        std::array<std::uint64_t, kRemembered / 64> seen{}; // a bit for each number, at the number mod kRemembered
    };

    std::uint64_t lost_ever() const noexcept;
    static int ahead(const Source &source, const RtpPacket &packet) noexcept {
        return static_cast<std::int16_t>(packet.sequence - source.newest);
    }
    bool mark(Source &source, std::uint16_t sequence) noexcept;

    std::int64_t rtp_rate_;
    const std::int64_t position_rate_;

    std::array<Source, 2> sources_; // the second is the one heard before the first
    std::atomic<std::uint64_t> expected_{0};
    std::atomic<std::uint64_t> received_{0};
    std::atomic<std::uint64_t> forgotten_{0};
};

} // namespace recorder
