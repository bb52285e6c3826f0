#include "rtp_clock.hpp"

#include <algorithm>

namespace recorder {
namespace {

// The first packets settle the offset, at once; later it moves in the next pause of the speaker or, when there is none
// for long, 1/8000 s a packet. Both count, packets and time: after a stall, any number comes at one moment.
constexpr unsigned kSettling = 15;
constexpr std::int64_t kSettlingMs = 300;
constexpr unsigned kWindow = 100;           // packets over which the least delay is looked for
constexpr std::int64_t kDeadBandMs = 5;     // the receiving thread's own jitter
constexpr unsigned kPatience = 250;         // packets to wait for a pause
constexpr std::int64_t kStrangeMs = 1000;   // a timestamp so far off its time is another clock, ...
constexpr unsigned kStrangeInARow = 3;      // ... if it comes again

} // namespace

RtpClock::RtpClock(unsigned rtp_rate_hz, unsigned position_rate_hz)
    : rtp_rate_(rtp_rate_hz), position_rate_(position_rate_hz), settling_time_(position_rate_ * kSettlingMs / 1000),
      dead_band_(position_rate_ * kDeadBandMs / 1000), strange_delay_(position_rate_ * kStrangeMs / 1000),
      step_(std::max<std::int64_t>(1, position_rate_ / 8000)) {}

void RtpClock::anchor(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) noexcept {
    anchored_ = true;
    ssrc_ = ssrc;
    newest_timestamp_ = timestamp;
    newest_ = timestamp;
    anchored_at_ = arrival;
    offset_ = target_ = arrival - in_positions(newest_);
    least_delay_ = INT64_MAX;
    window_ = settled_ = strange_ = waited_ = 0;
}

std::int64_t RtpClock::place(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival, bool quiet) noexcept {
    if (!knows(ssrc)) {
        anchor(ssrc, timestamp, arrival);
        return arrival;
    }
    const std::int64_t ahead = static_cast<std::int32_t>(timestamp - newest_timestamp_);
    const std::int64_t said = in_positions(newest_ + ahead);
    std::int64_t delay = arrival - (said + offset_);
    if (delay > strange_delay_ || delay < -strange_delay_) {
        if (++strange_ < kStrangeInARow)
            return kNowhere;
        anchor(ssrc, timestamp, arrival);
        return arrival;
    }
    strange_ = 0;
    if (ahead > 0) {
        newest_ += ahead;
        newest_timestamp_ = timestamp;
    }
    if (settled_ < kSettling || arrival - anchored_at_ < settling_time_) {
        ++settled_;
        if (delay < -dead_band_) { // nothing arrives before it is sent: the packets so far were late ones
            offset_ += delay;
            target_ = offset_;
            delay = 0;
        }
    }
    least_delay_ = std::min(least_delay_, delay);
    if (++window_ == kWindow) {
        if (least_delay_ > dead_band_ || least_delay_ < -dead_band_)
            target_ = offset_ + least_delay_;
        least_delay_ = INT64_MAX;
        window_ = 0;
    }
    if (offset_ == target_ || ahead <= 0) {
        waited_ = offset_ == target_ ? 0 : waited_;
    } else if (quiet) {
        offset_ = target_; // between words nobody hears it
    } else if (++waited_ > kPatience) {
        offset_ += std::clamp(target_ - offset_, -step_, step_);
    }
    return said + offset_;
}

} // namespace recorder
