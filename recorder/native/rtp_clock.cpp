#include "rtp_clock.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace recorder {
namespace {

constexpr std::int64_t kStrangeMs = 240; // more than jitter ever is
constexpr std::int64_t kLongestStallMs = 1000;
constexpr std::int64_t kOnTimeMs = 20; // so exact is no other stream's clock by chance
// Both count, packets and time: after a stall, any number comes at one moment.
constexpr unsigned kSettlingPackets = 15;
constexpr std::int64_t kSettlingMs = 300;
constexpr unsigned kWindowPackets = 25; // over which the least delay is looked for
constexpr std::int64_t kWindowMs = 2000;
constexpr std::int64_t kDeadBandMs = 5; // the receiving thread's own jitter
constexpr std::int64_t kPatienceMs = 5000;
constexpr std::int64_t kSteps = 8000; // of which a second has so many

} // namespace

RtpClock::RtpClock(unsigned rtp_rate_hz, unsigned position_rate_hz)
    : rtp_rate_(rtp_rate_hz), position_rate_(position_rate_hz) {}

std::int64_t RtpClock::place(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival, bool quiet,
                             bool overtaken) noexcept {
    moved_ = {};
    waited_ = kNowhere;
    began_ = false;
    if (overtaken)
        return overtaken_at(ssrc, timestamp, arrival);
    const bool waits = std::exchange(waiting_.known, false);
    if (!resumes(before_, ssrc, timestamp, arrival) && fits(current_, ssrc, timestamp, arrival)) {
        const std::int64_t delayed = waits ? at(current_, waiting_.newest_timestamp) : kNowhere;
        if (delayed < arrival && delayed > arrival - ms(kLongestStallMs)) { // the first of a stall, whose end is here
            waited_ = delayed;
            waited_order_ = order(current_, waiting_.newest_timestamp);
        }
        return go_on(timestamp, arrival, quiet);
    }
    if (fits(before_, ssrc, timestamp, arrival)) { // what came in between was delayed, or is another source
        const bool stalled = ssrc == current_.ssrc && is_settling(current_, arrival);
        std::swap(current_, before_);
        if (stalled) {
            moved_ = {before_.number, before_.first, std::max<std::int64_t>(0, at(before_, timestamp) - at(current_, timestamp)),
                      order(current_, timestamp) - order(before_, timestamp)};
            before_ = {}; // there was no such stream: the next stall must not look like its return
        } else {
            current_.number = ++streams_; // it follows what came in between
        }
        return go_on(timestamp, arrival, quiet);
    }
    waiting_.known = waits;
    if (fits(waiting_, ssrc, timestamp, arrival)) {
        before_ = std::exchange(current_, std::exchange(waiting_, {}));
        current_.number = ++streams_;
        began_ = true;
        waited_ = current_.first;
        waited_order_ = order(current_, current_.newest_timestamp);
        return go_on(timestamp, arrival, quiet);
    }
    return begin(ssrc, timestamp, arrival);
}

std::int64_t RtpClock::overtaken_at(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) noexcept {
    for (const Stream *stream : {&current_, &before_}) {
        if (!stream->known || stream->ssrc != ssrc)
            continue;
        const std::int64_t position = at(*stream, timestamp);
        order_ = order(*stream, timestamp);
        return position < arrival + ms(kStrangeMs) ? position : kNowhere;
    }
    return kNowhere;
}

std::int64_t RtpClock::begin(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) noexcept {
    Stream stream;
    stream.known = true;
    stream.ssrc = ssrc;
    stream.newest = stream.newest_timestamp = timestamp;
    stream.offset = stream.target = arrival - in_positions(timestamp);
    stream.first = stream.settling_since = stream.window_since = arrival;
    if (current_.known && current_.ssrc == ssrc) {
        waiting_ = stream;
        return kNowhere;
    }
    stream.number = ++streams_;
    before_ = std::exchange(current_, stream);
    began_ = true;
    order_ = order(current_, timestamp);
    return arrival;
}

// A packet of the current stream.
std::int64_t RtpClock::go_on(std::uint32_t timestamp, std::int64_t arrival, bool quiet) noexcept {
    Stream &stream = current_;
    const bool returned = moved_.stream != 0;
    const std::int64_t delay = arrival - at(stream, timestamp);
    const std::int64_t ahead = static_cast<std::int32_t>(timestamp - stream.newest_timestamp);
    const std::int64_t said = in_positions(stream.newest + ahead);
    order_ = order(stream, timestamp);
    if (ahead > 0) {
        stream.newest += ahead;
        stream.newest_timestamp = timestamp;
    }
    if (!is_settling(stream, arrival))
        follow(stream, delay, arrival);
    else if (!returned)
        settle(stream, delay, arrival);
    if (stream.offset == stream.target) {
        stream.waiting_since = kNone;
    } else if (ahead > 0) {
        stream.waiting_since = std::min(stream.waiting_since, arrival);
        const std::int64_t way = stream.target - stream.offset;
        const std::int64_t step = std::max<std::int64_t>(1, position_rate_ / kSteps);
        if (quiet) // between words nobody hears it
            shift(stream, way);
        else if (arrival - stream.waiting_since > ms(kPatienceMs))
            shift(stream, std::clamp(way, -step, step));
    }
    const std::int64_t position = said + stream.offset;
    if (!before_.known)
        stream.first = std::min(stream.first, position);
    return position;
}

std::int64_t RtpClock::at(const Stream &stream, std::uint32_t timestamp) const noexcept {
    return in_positions(counted(stream, timestamp)) + stream.offset;
}

std::int64_t RtpClock::look_up(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t otherwise) const noexcept {
    return current_.known && current_.ssrc == ssrc ? at(current_, timestamp) : otherwise;
}

void RtpClock::set_rtp_rate(unsigned rtp_rate_hz) noexcept {
    rtp_rate_ = rtp_rate_hz;
    current_ = before_ = waiting_ = {};
}

bool RtpClock::fits(const Stream &stream, std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) const noexcept {
    if (!stream.known || stream.ssrc != ssrc)
        return false;
    const std::int64_t delay = arrival - at(stream, timestamp);
    return delay <= ms(kStrangeMs) && delay >= -ms(is_settling(stream, arrival) ? kLongestStallMs : kStrangeMs);
}

// Whether it is on time for the stream before, though a stall made its last packets look like another stream.
bool RtpClock::resumes(const Stream &stream, std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) const noexcept {
    return stream.known && stream.ssrc == ssrc && current_.ssrc == ssrc && is_settling(current_, arrival) &&
           std::abs(arrival - at(stream, timestamp)) <= ms(kOnTimeMs);
}

bool RtpClock::is_settling(const Stream &stream, std::int64_t arrival) const noexcept {
    return stream.settling_packets < kSettlingPackets || arrival - stream.settling_since < ms(kSettlingMs);
}

void RtpClock::settle(Stream &stream, std::int64_t delay, std::int64_t arrival) noexcept {
    ++stream.settling_packets;
    stream.window_since = arrival;
    if (delay >= -ms(kDeadBandMs))
        return;
    // Nothing arrives before it is sent: the packets so far were late ones.
    shift(stream, delay);
    stream.target = stream.offset;
    moved_ = {stream.number, stream.first, -delay, 0};
    stream.first += delay;
    stream.settling_since = arrival;
    stream.settling_packets = 0;
}

void RtpClock::follow(Stream &stream, std::int64_t delay, std::int64_t arrival) noexcept {
    stream.least_delay = std::min(stream.least_delay, delay);
    if (++stream.window_packets < kWindowPackets || arrival - stream.window_since < ms(kWindowMs))
        return;
    // An earlier arrival is a fact. A later one may be chance: it has to last.
    if (stream.least_delay < -ms(kDeadBandMs))
        stream.target = stream.offset + stream.least_delay;
    else if (stream.least_delay_before != kNone && std::min(stream.least_delay, stream.least_delay_before) > ms(kDeadBandMs))
        stream.target = stream.offset + std::min(stream.least_delay, stream.least_delay_before);
    stream.least_delay_before = stream.least_delay;
    stream.least_delay = kNone;
    stream.window_packets = 0;
    stream.window_since = arrival;
}

void RtpClock::shift(Stream &stream, std::int64_t by) const noexcept {
    stream.offset += by;
    if (stream.least_delay != kNone)
        stream.least_delay -= by;
    if (stream.least_delay_before != kNone)
        stream.least_delay_before -= by;
}

} // namespace recorder
