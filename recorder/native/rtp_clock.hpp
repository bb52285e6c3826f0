// What turns the timestamps of one leg's RTP packets (RFC 3550) into positions on the timeline.
//
// A packet's position is its timestamp plus an offset that the first packets settle; afterwards the offset only follows
// the sender's clock, in the speaker's pauses or a little with each packet. So jitter, bursts and stalls of either end
// leave no trace: what was said in one moment stands in one place.
//
// All of it belongs to the thread that receives the packets. No lock, no allocation, no system call.
#pragma once

#include <cstdint>

namespace recorder {

class RtpClock {
  public:
    static constexpr std::int64_t kNowhere = INT64_MIN;

    // The timestamps count at `rtp_rate_hz` (RFC 3551, section 4.5: for G.722 8000, for Opus 48000), positions and
    // arrivals at `position_rate_hz`.
    RtpClock(unsigned rtp_rate_hz, unsigned position_rate_hz);

    // The position of the first sample of a packet that came in at `arrival`; kNowhere for one to be left out. `quiet`:
    // nobody would hear it if it moved a little. That counts only while the clock is `moving`.
    std::int64_t place(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival, bool quiet) noexcept;

    bool moving() const noexcept { return offset_ != target_; }

    // Whether `place` has seen a packet, and this is its source's number.
    bool knows(std::uint32_t ssrc) const noexcept { return anchored_ && ssrc == ssrc_; }

  private:
    void anchor(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) noexcept;
    std::int64_t in_positions(std::int64_t timestamp) const noexcept { return timestamp * position_rate_ / rtp_rate_; }

    const std::int64_t rtp_rate_;
    const std::int64_t position_rate_;
    const std::int64_t settling_time_;
    const std::int64_t dead_band_;
    const std::int64_t strange_delay_;
    const std::int64_t step_;

    bool anchored_ = false;
    std::uint32_t ssrc_ = 0;
    std::uint32_t newest_timestamp_ = 0;
    std::int64_t newest_ = 0; // newest_timestamp_ without its wraps
    std::int64_t offset_ = 0; // position of a sample less its timestamp
    std::int64_t target_ = 0; // what offset_ moves to
    std::int64_t anchored_at_ = 0;
    std::int64_t least_delay_ = 0;
    unsigned window_ = 0;
    unsigned settled_ = 0;
    unsigned strange_ = 0;
    unsigned waited_ = 0;
};

} // namespace recorder
