#include "rtp_gaps.hpp"

#include <algorithm>
#include <utility>

namespace recorder {
namespace {

constexpr std::int64_t kLongestPacketMs = 60;
constexpr std::int64_t kNoRtpMs = 200; // what is shorter, and no packet is missing in, is the clock being set

} // namespace

void RtpLosses::pass(int step, bool event) noexcept {
    if (step <= 0)
        return;
    missing_ += step - 1;
    event_passed_ = event_passed_ || event;
}

RtpLosses::Found RtpLosses::pass(const RtpPacket &packet, int step, bool began, std::int64_t length) noexcept {
    Found found;
    if (step < 0)
        return found; // it fills what has been found lost
    const std::int64_t gap =
        std::int64_t{static_cast<std::int32_t>(packet.timestamp - ends_)} * position_rate_ / rtp_rate_;
    if (step > 0 && counting_ && packet.ssrc == ssrc_ && !began && gap > 0) {
        // The lost packets' share: all, unless they would have been longer than packets are.
        const std::int64_t missing = missing_ + step - 1;
        const std::int64_t one = std::max(length_, length);
        found.lost = gap <= missing * position_rate_ * kLongestPacketMs / 1000 ? gap : std::min(gap, missing * one);
        found.unsent = gap - found.lost;
        found.why = event_passed_ ? GapCause::event : GapCause::dtx;
    }
    counting_ = true;
    ssrc_ = packet.ssrc;
    ends_ = packet.timestamp + static_cast<std::uint32_t>(length * rtp_rate_ / position_rate_);
    length_ = length;
    missing_ = 0;
    event_passed_ = false;
    return found;
}

void RtpLosses::set_rtp_rate(unsigned rtp_rate_hz) noexcept {
    rtp_rate_ = rtp_rate_hz;
    counting_ = false;
}

void RtpGaps::explain(GapCause cause, std::int64_t start, std::int64_t stop) {
    const std::int64_t told = std::min(stop, closed_);
    if (cause == GapCause::late && start < told) {
        gaps_.push_back({cause, start, told - start});
        start = told;
    }
    if (start < stop)
        known_.push_back({cause, start, stop - start});
}

void RtpGaps::move(std::int64_t since, std::int64_t by) {
    for (Gap &known : known_)
        if (known.start >= since)
            known.start -= by;
}

void RtpGaps::sound_from(std::int64_t position) {
    if (open_ == kNone)
        return;
    const std::int64_t start = std::exchange(open_, kNone);
    closed_ = position;
    // What the packets say goes before what the ring knows.
    std::stable_sort(known_.begin(), known_.end(), [](const Gap &one, const Gap &other) { return one.cause < other.cause; });
    const auto before = static_cast<std::ptrdiff_t>(gaps_.size());
    tell(start, position, 0);
    std::sort(gaps_.begin() + before, gaps_.end(), [](const Gap &one, const Gap &other) { return one.start < other.start; });
}

void RtpGaps::tell(std::int64_t start, std::int64_t stop, std::size_t from) {
    for (; from < known_.size(); ++from) {
        const Gap &known = known_[from];
        const std::int64_t first = std::max(start, known.start), last = std::min(stop, known.start + known.length);
        if (first >= last)
            continue;
        tell(start, first, from + 1);
        gaps_.push_back({known.cause, first, last - first});
        start = last;
    }
    if (stop - start >= kNoRtpMs * position_rate_ / 1000)
        gaps_.push_back({GapCause::no_rtp, start, stop - start});
}

std::vector<RtpGaps::Gap> RtpGaps::take(std::int64_t read_to) {
    const std::int64_t told = std::min(open_, read_to);
    std::erase_if(known_, [told](const Gap &known) { return known.start + known.length <= told; });
    return std::exchange(gaps_, {});
}

std::vector<RtpGaps::Gap> RtpGaps::take_last(std::int64_t ends_at, bool ever_heard) {
    if (!ever_heard && open_ < ends_at)
        return {{GapCause::never_started, open_, ends_at - open_}};
    sound_from(ends_at);
    return take(ends_at);
}

} // namespace recorder
