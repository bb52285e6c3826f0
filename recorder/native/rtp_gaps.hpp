// Why a leg is not heard at some positions: what its packets tell of those that are missing, and the stretches for which
// no sound has come, joined.
//
// RtpLosses is the media thread's: what it tells goes the way of the packets. RtpGaps is the writer thread's.
#pragma once

#include "rtp_packet.hpp"

#include <cstdint>
#include <vector>

namespace recorder {

enum class GapCause : std::uint8_t {
    loss,          // packets were sent and never came, by their sequence numbers
    late,          // packets came when their turn was over
    event,         // a telephone event was sent instead (RFC 4733)
    dtx,           // the sender sent nothing, and no packet is missing: discontinuous transmission, comfort noise
    ring_full,     // nobody had read for as long as the ring is
    no_rtp,        // nothing came for 200 ms and more, and nothing says why
    never_started, // no packet ever came
};

// What a packet tells of those before it.
class RtpLosses {
  public:
    // Just before a packet come `lost` positions for which packets are missing, then `unsent` for which none is.
    struct Found {
        std::int64_t lost = 0;
        std::int64_t unsent = 0;
        GapCause why = GapCause::dtx; // these were not sent
    };

    // Rates as RtpClock has them.
    RtpLosses(unsigned rtp_rate_hz, unsigned position_rate_hz) : rtp_rate_(rtp_rate_hz), position_rate_(position_rate_hz) {}

    // A packet that has come for the first time; `step` is what RtpSequence says of it.
    void pass(int step, bool event) noexcept; // one without sound that could be placed: a telephone event, a stray one
    // One that lasts for `length`; none, if it is comfort noise. `began`: as RtpClock says.
    Found pass(const RtpPacket &packet, int step, bool began, std::int64_t length) noexcept;

    void set_rtp_rate(unsigned rtp_rate_hz) noexcept;

  private:
    std::int64_t rtp_rate_;
    const std::int64_t position_rate_;
    bool counting_ = false;
    std::uint32_t ssrc_ = 0;
    std::uint32_t ends_ = 0;    // the timestamp just past the newest packet with sound
    std::int64_t length_ = 0;   // of that packet
    std::int64_t missing_ = 0;  // packets missing since
    bool event_passed_ = false; // since
};

class RtpGaps {
  public:
    struct Gap {
        GapCause cause;
        std::int64_t start;
        std::int64_t length;
    };

    explicit RtpGaps(unsigned position_rate_hz) : position_rate_(position_rate_hz) {}

    // What is known of a stretch, in case there is no sound. Of one that has been told before, only that it is late.
    void explain(GapCause cause, std::int64_t start, std::int64_t stop);
    // What is known from `since` on belongs `by` samples earlier.
    void move(std::int64_t since, std::int64_t by);

    // In the order of the timeline, each once. Between the two there is nothing.
    void nothing_from(std::int64_t position) noexcept { open_ = open_ == kNone ? position : open_; }
    void sound_from(std::int64_t position);

    // The gaps that have ended, or been explained, since the last call; all before `read_to` has been told. One that is
    // late takes the place of what was said of the same stretch before.
    std::vector<Gap> take(std::int64_t read_to);
    // The same, and the timeline ends there, in whatever gap there is.
    std::vector<Gap> take_last(std::int64_t ends_at, bool ever_heard);

  private:
    static constexpr std::int64_t kNone = INT64_MAX;

    void tell(std::int64_t start, std::int64_t stop, std::size_t from);

    const std::int64_t position_rate_;
    std::int64_t open_ = kNone;       // where the stretch without sound begins that has not ended yet
    std::int64_t closed_ = INT64_MIN; // before this, all has been told
    std::vector<Gap> known_;
    std::vector<Gap> gaps_;
};

} // namespace recorder
