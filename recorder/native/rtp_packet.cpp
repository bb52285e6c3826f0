#include "rtp_packet.hpp"

#include <cstdlib>
#include <utility>

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

int RtpSequence::take(const RtpPacket &packet, std::int64_t arrival) noexcept {
    const auto distance = [&packet](const Source &source) {
        return source.known && source.ssrc == packet.ssrc ? std::abs(ahead(source, packet)) : INT_MAX;
    };
    if (distance(sources_[1]) < distance(sources_[0]))
        std::swap(sources_[0], sources_[1]);
    Source &source = sources_[0];
    if (!source.known || source.ssrc != packet.ssrc) {
        restart(packet, arrival);
        return 0;
    }
    const int ahead = RtpSequence::ahead(source, packet);
    const std::int64_t age = static_cast<std::int32_t>(source.newest_timestamp - packet.timestamp);
    const std::int64_t late = age + (arrival - source.newest_arrival) * rtp_rate_ / position_rate_;
    if (ahead > kDropout || ahead <= -kRemembered || (ahead <= 0 && (age < 0 || late > rtp_rate_)))
        return kStrange;
    if (ahead > 0) {
        if (ahead >= kRemembered)
            source.seen.fill(0);
        for (int number = 1; number <= ahead && ahead < kRemembered; ++number) {
            const unsigned bit = static_cast<std::uint16_t>(source.newest + number) % kRemembered;
            source.seen[bit / 64] &= ~(std::uint64_t{1} << bit % 64);
        }
        source.newest = packet.sequence;
        source.newest_timestamp = packet.timestamp;
        source.newest_arrival = arrival;
        source.span += ahead;
        expected_.fetch_add(static_cast<std::uint64_t>(ahead), std::memory_order_relaxed);
    } else if (-ahead >= source.span) { // the first packet to come had overtaken it
        expected_.fetch_add(static_cast<std::uint64_t>(1 - ahead - source.span), std::memory_order_relaxed);
        source.span = 1 - ahead;
    }
    if (!mark(source, packet.sequence))
        return kAgain;
    received_.fetch_add(1, std::memory_order_relaxed);
    return ahead;
}

void RtpSequence::restart(const RtpPacket &packet, std::int64_t arrival) noexcept {
    sources_[1] = sources_[0];
    sources_[0] = {true, packet.ssrc, packet.sequence, packet.timestamp, arrival, 1, {}};
    mark(sources_[0], packet.sequence);
    expected_.fetch_add(1, std::memory_order_relaxed);
    received_.fetch_add(1, std::memory_order_relaxed);
}

bool RtpSequence::mark(Source &source, std::uint16_t sequence) noexcept {
    const unsigned bit = sequence % kRemembered;
    const std::uint64_t mask = std::uint64_t{1} << bit % 64;
    const bool is_new = (source.seen[bit / 64] & mask) == 0;
    source.seen[bit / 64] |= mask;
    return is_new;
}

std::uint64_t RtpSequence::lost() const noexcept {
    const std::uint64_t forgotten = forgotten_.load(std::memory_order_relaxed), ever = lost_ever();
    return ever > forgotten ? ever - forgotten : 0;
}

std::uint64_t RtpSequence::lost_ever() const noexcept {
    const std::uint64_t received = received_.load(std::memory_order_relaxed); // first: it never passes what is expected
    const std::uint64_t expected = expected_.load(std::memory_order_relaxed);
    return expected > received ? expected - received : 0;
}

} // namespace recorder
