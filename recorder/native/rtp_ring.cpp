#include "rtp_ring.hpp"

#include <pjmedia/alaw_ulaw.h>

#include <algorithm>
#include <array>

namespace recorder {
namespace {

constexpr std::uint8_t kPcmu = 0;
constexpr std::uint8_t kPcma = 8;
constexpr std::int16_t kQuiet = 256; // 42 dB below full scale

using Table = std::array<std::int16_t, 256>;

Table make_table(bool mu_law) {
    Table table;
    for (unsigned code = 0; code < table.size(); ++code)
        table[code] = static_cast<std::int16_t>(mu_law ? pjmedia_ulaw2linear(code) : pjmedia_alaw2linear(code));
    return table;
}

const Table mu_law = make_table(true);
const Table a_law = make_table(false);

bool is_quiet(const RtpPacket &packet) noexcept {
    const Table &table = packet.payload_type == kPcmu ? mu_law : a_law;
    return (packet.payload_type != kPcmu && packet.payload_type != kPcma) ||
           std::all_of(packet.payload, packet.payload + packet.size,
                       [&table](std::uint8_t code) { return table[code] <= kQuiet && table[code] >= -kQuiet; });
}

} // namespace

RtpRing::RtpRing(std::int64_t origin, std::size_t capacity, std::int64_t hold)
    : origin_(origin), capacity_(static_cast<std::int64_t>(capacity)), hold_(hold),
      sound_(new std::atomic<std::int16_t>[capacity]()), read_to_(origin) {}

void RtpRing::put(const RtpPacket &packet, std::int64_t arrival) noexcept {
    if (arrival >= ended_.load(std::memory_order_acquire))
        return;
    packets_.fetch_add(1, std::memory_order_relaxed);
    count_sequence(packet);
    const bool quiet = clock_.moving() && is_quiet(packet);
    const std::int64_t at = clock_.place(packet.ssrc, packet.timestamp, arrival, quiet);
    if (at == RtpClock::kNowhere)
        return;
    if (packet.payload_type == kPcmu)
        place(at, packet.payload, packet.size, mu_law.data());
    else if (packet.payload_type == kPcma)
        place(at, packet.payload, packet.size, a_law.data());
    // Telephone events and comfort noise move the clock on and are silence.
}

void RtpRing::place(std::int64_t at, const std::uint8_t *payload, std::size_t count, const std::int16_t *table) noexcept {
    const std::int64_t length = static_cast<std::int64_t>(count);
    const std::int64_t read_to = read_to_.load(std::memory_order_acquire);
    const std::int64_t shut_from = shut_from_.load(std::memory_order_acquire);
    const std::int64_t open_from = open_from_.load(std::memory_order_acquire);
    if (length == 0)
        return;
    if (at + length > read_to + capacity_) { // nobody has read for as long as the ring is
        dropped_.fetch_add(count, std::memory_order_relaxed);
        if (drop_stop_.load(std::memory_order_relaxed) != at)
            drop_start_.store(at, std::memory_order_relaxed);
        drop_stop_.store(at + length, std::memory_order_release);
        return;
    }
    if (at == end_of_sound_ + 1) // the offset has just moved by a sample
        sound_[static_cast<std::size_t>(end_of_sound_ % capacity_)].store(table[payload[0]], std::memory_order_relaxed);
    end_of_sound_ = std::max(end_of_sound_, at + length);
    std::int64_t from = std::max(at, read_to);
    const std::int64_t to = at + length;
    late_.fetch_add(static_cast<std::uint64_t>(std::min(from, to) - at), std::memory_order_relaxed);
    std::int64_t slot = from % capacity_;
    for (; from < to; ++from) {
        if (from < shut_from || from >= open_from)
            sound_[static_cast<std::size_t>(slot)].store(table[payload[from - at]], std::memory_order_relaxed);
        if (++slot == capacity_)
            slot = 0;
    }
}

void RtpRing::count_sequence(const RtpPacket &packet) noexcept { // RFC 3550, appendix A.1 and A.3, made simple
    if (!clock_.knows(packet.ssrc)) {
        expected_before_.store(expected_before_.load() + expected_.load(), std::memory_order_relaxed);
        sequence_cycles_ = 0;
        newest_sequence_ = packet.sequence;
        first_sequence_ = packet.sequence;
        expected_.store(1, std::memory_order_relaxed);
        return;
    }
    const auto ahead = static_cast<std::int16_t>(packet.sequence - newest_sequence_);
    if (ahead <= 0)
        return;
    if (packet.sequence < newest_sequence_)
        sequence_cycles_ += 1u << 16;
    newest_sequence_ = packet.sequence;
    expected_.store(sequence_cycles_ + newest_sequence_ - first_sequence_ + 1, std::memory_order_relaxed);
}

std::uint64_t RtpRing::lost() const noexcept {
    const std::uint64_t expected = expected_.load(std::memory_order_relaxed) + expected_before_.load(std::memory_order_relaxed);
    const std::uint64_t received = packets();
    return expected > received ? expected - received : 0; // duplicates may hide a loss
}

std::int64_t RtpRing::position(std::int64_t now) const noexcept {
    const std::int64_t ended = ended_.load(std::memory_order_acquire);
    return std::max(origin_, ended == INT64_MAX ? now - hold_ : ended);
}

std::pair<std::int64_t, std::size_t> RtpRing::available(std::int64_t now) const noexcept {
    const std::int64_t from = read_to_.load(std::memory_order_relaxed);
    return {from, static_cast<std::size_t>(std::max<std::int64_t>(0, position(now) - from))};
}

void RtpRing::read(std::int16_t *out, std::size_t count) noexcept {
    const std::int64_t from = read_to_.load(std::memory_order_relaxed);
    const std::int64_t to = from + static_cast<std::int64_t>(count);
    read_to_.store(to, std::memory_order_release); // from now on the media thread leaves this stretch alone
    // The ring holds no more than its capacity: what is before its last stretch has been dropped.
    const std::int64_t held = std::min(to, from + capacity_);
    std::int64_t slot = from % capacity_;
    for (std::int64_t position = from; position < held; ++position) {
        out[position - from] = sound_[static_cast<std::size_t>(slot)].load(std::memory_order_relaxed);
        sound_[static_cast<std::size_t>(slot)].store(0, std::memory_order_relaxed);
        if (++slot == capacity_)
            slot = 0;
    }
    std::fill(out + (held - from), out + count, std::int16_t{0});
    const std::lock_guard lock(gate_);
    for (const auto &[shut, open] : shut_) {
        const std::int64_t first = std::max(shut, from), last = std::min(open, to);
        if (first < last)
            std::fill(out + (first - from), out + (last - from), std::int16_t{0});
    }
    std::erase_if(shut_, [to](const Span &span) { return span.second <= to; });
}

std::vector<RtpRing::Span> RtpRing::take_gaps() {
    const std::int64_t stop = drop_stop_.load(std::memory_order_acquire);
    if (stop <= drop_taken_)
        return {};
    const std::int64_t start = std::max(drop_start_.load(std::memory_order_relaxed), drop_taken_);
    drop_taken_ = stop;
    return {{start, stop - start}};
}

std::int64_t RtpRing::close_gate(std::int64_t now) noexcept {
    const std::lock_guard lock(gate_);
    if (!shut_.empty() && shut_.back().second > now) { // shut already, or about to open: it stays shut
        shut_.back().second = INT64_MAX;
        open_from_.store(INT64_MAX, std::memory_order_release);
        return shut_.back().first;
    }
    open_from_.store(INT64_MAX, std::memory_order_release);
    shut_from_.store(now, std::memory_order_release);
    shut_.emplace_back(now, INT64_MAX);
    return now;
}

std::int64_t RtpRing::open_gate(std::int64_t now, std::int64_t after) noexcept {
    const std::lock_guard lock(gate_);
    if (shut_.empty() || shut_.back().second != INT64_MAX)
        return now;
    opens_ = std::max(opens_, now + after); // a gate shut again meanwhile opens no earlier than was promised first
    shut_.back().second = opens_;
    open_from_.store(opens_, std::memory_order_release);
    return opens_;
}

bool RtpRing::gated(std::int64_t now) const noexcept {
    const std::lock_guard lock(gate_);
    return !shut_.empty() && shut_.back().second > now;
}

void RtpRing::end(std::int64_t now) noexcept {
    std::int64_t running = INT64_MAX;
    ended_.compare_exchange_strong(running, now, std::memory_order_acq_rel);
}

} // namespace recorder
