#include "rtp_ring.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace recorder {
namespace {

constexpr std::int16_t kQuiet = 256;           // 42 dB below full scale
constexpr std::size_t kLongestPayload = 1500;
constexpr std::size_t kBytesASecond = 16000;   // twice what G.711 takes
constexpr std::size_t kPacketsASecond = 100;
constexpr std::size_t kSpare = 64;             // packets, for a ring of next to no seconds
constexpr std::int64_t kNextSource = std::int64_t{1} << 33; // more than timestamps can be apart
constexpr std::int64_t kSlipHz = 8000;         // the clock moves by a sample of this rate at a time

bool is_quiet(const RtpPacket &packet, Codec codec) noexcept {
    if (codec != Codec::pcmu && codec != Codec::pcma)
        return !is_audio(codec);
    return std::all_of(packet.payload, packet.payload + packet.size, [codec](std::uint8_t code) {
        const int level = linear(codec, code);
        return level <= kQuiet && level >= -kQuiet;
    });
}

} // namespace

RtpRing::RtpRing(unsigned rate_hz, std::int64_t origin, std::size_t capacity, std::int64_t hold)
    : rate_hz_(rate_hz), origin_(origin), capacity_(static_cast<std::int64_t>(capacity)), hold_(hold),
      lookahead_(Resampler::longest_delay(rate_hz)), slot_count_(capacity * kPacketsASecond / rate_hz + kSpare),
      byte_count_(capacity * kBytesASecond / rate_hz + kSpare * kLongestPayload), slots_(new Slot[slot_count_]),
      bytes_(new std::uint8_t[byte_count_]), base_(origin), read_to_(origin) {}

// The media thread's side ---------------------------------------------------------------------------------------------

void RtpRing::put(const RtpPacket &packet, Codec codec, std::int64_t arrival) noexcept {
    if (arrival >= ended_.load(std::memory_order_acquire))
        return;
    packets_.fetch_add(1, std::memory_order_relaxed);
    if (codec > Codec::pcma)
        slow_.store(true, std::memory_order_relaxed);
    const unsigned rate = !is_audio(codec) && clock_ ? clock_rate_hz_ : rtp_clock_rate(codec);
    if (!clock_ || rate != clock_rate_hz_) {
        clock_.emplace(rate, rate_hz_);
        clock_rate_hz_ = rate;
    }
    count_sequence(packet);
    const bool quiet = clock_->moving() && is_quiet(packet, codec);
    const bool same_source = clock_->knows(packet.ssrc);
    // A telephone event's packets keep the timestamp of its beginning, however long it has lasted (RFC 4733, section 2.2).
    const bool event = codec == Codec::event && packet.size >= 4;
    const std::int64_t lasted = event ? (packet.payload[2] << 8 | packet.payload[3]) * rate_hz_ / clock_rate_hz_ : 0;
    const std::int64_t at = clock_->place(packet.ssrc, packet.timestamp, arrival - lasted, quiet);
    if (at == RtpClock::kNowhere)
        return;
    if (event)
        events_.note(at, at + lasted);
    if (!same_source) {
        ++source_;
        newest_order_ += kNextSource;
        newest_timestamp_ = packet.timestamp;
        newest_at_ = at;
    }
    const std::int64_t order = order_of(packet, at);
    // Telephone events and comfort noise move the clock on and are silence.
    const std::int64_t length =
        std::int64_t{duration_of(codec, packet.payload, packet.size)} * rate_hz_ / rtp_clock_rate(codec);
    if (length > 0)
        store(packet, codec, at, length, order);
}

// Timestamps without their wraps. One that is a second off its time is another clock's, as RtpClock has it.
std::int64_t RtpRing::order_of(const RtpPacket &packet, std::int64_t at) noexcept {
    const std::int64_t ahead = static_cast<std::int32_t>(packet.timestamp - newest_timestamp_);
    const std::int64_t expected = newest_at_ + ahead * rate_hz_ / clock_rate_hz_;
    std::int64_t order = newest_order_ + ahead;
    if (std::abs(at - expected) > rate_hz_ / 2) {
        ++source_;
        order = newest_order_ + kNextSource;
    }
    if (order > newest_order_) {
        newest_order_ = order;
        newest_timestamp_ = packet.timestamp;
        newest_at_ = at;
    }
    return order;
}

void RtpRing::store(const RtpPacket &packet, Codec codec, std::int64_t at, std::int64_t length,
                    std::int64_t order) noexcept {
    const std::int64_t end = at + length;
    const std::int64_t read_to = read_to_.load(std::memory_order_acquire);
    const std::int64_t shut_from = shut_from_.load(std::memory_order_acquire);
    const std::int64_t open_from = open_from_.load(std::memory_order_acquire);
    const std::uint64_t packets = filled_.load(std::memory_order_relaxed);
    std::uint64_t payload = bytes_used_;
    if (byte_count_ - payload % byte_count_ < packet.size) // a payload does not go round the end
        payload += byte_count_ - payload % byte_count_;
    const std::uint64_t freed = payload + packet.size;
    if (end > read_to + capacity_ || // nobody has read for as long as the ring is
        packets - emptied_.load(std::memory_order_acquire) == slot_count_ ||
        freed - bytes_freed_.load(std::memory_order_acquire) > byte_count_ || packet.size > kLongestPayload) {
        note_dropped(at, length);
        return;
    }
    late_.fetch_add(static_cast<std::uint64_t>(std::clamp<std::int64_t>(read_to - at, 0, length)),
                    std::memory_order_relaxed);
    if (end <= read_to || (at >= shut_from && end <= open_from))
        return;
    std::memcpy(&bytes_[payload % byte_count_], packet.payload, packet.size);
    slots_[packets % slot_count_] = {at, length, order, payload, freed, source_,
                                     static_cast<std::uint16_t>(packet.size), codec};
    bytes_used_ = freed;
    filled_.store(packets + 1, std::memory_order_release);
}

void RtpRing::note_dropped(std::int64_t at, std::int64_t length) noexcept {
    dropped_.fetch_add(static_cast<std::uint64_t>(length), std::memory_order_relaxed);
    if (drop_stop_.load(std::memory_order_relaxed) != at)
        drop_start_.store(at, std::memory_order_relaxed);
    drop_stop_.store(at + length, std::memory_order_release);
}

void RtpRing::count_sequence(const RtpPacket &packet) noexcept { // RFC 3550, appendix A.1 and A.3, made simple
    if (!clock_->knows(packet.ssrc)) {
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

// The writer thread's side --------------------------------------------------------------------------------------------

std::int64_t RtpRing::position(std::int64_t now) const noexcept {
    const std::int64_t ended = ended_.load(std::memory_order_acquire);
    return std::max(origin_, ended == INT64_MAX ? now - hold_ : ended);
}

std::pair<std::int64_t, std::size_t> RtpRing::available(std::int64_t now) const noexcept {
    const std::int64_t from = read_to_.load(std::memory_order_relaxed);
    return {from, static_cast<std::size_t>(std::max<std::int64_t>(0, position(now) - from))};
}

void RtpRing::read(std::int16_t *out, std::size_t count) {
    const std::int64_t from = base_;
    const std::int64_t to = from + static_cast<std::int64_t>(count);
    read_to_.store(to, std::memory_order_release); // what comes for this stretch from now on is late
    {
        const std::lock_guard lock(gate_);
        shut_now_ = shut_;
    }
    decode_up_to(to);
    composed_.resize(std::max(composed_.size(), count));
    std::copy_n(composed_.begin(), count, out);
    composed_.erase(composed_.begin(), composed_.begin() + static_cast<std::ptrdiff_t>(count));
    base_ = to;

    const std::lock_guard lock(gate_);
    shut_now_ = shut_; // it may have been shut meanwhile
    blank_shut(from, rate_hz_, out, count);
    for (const auto &[shut, open] : shut_)
        if (open <= to)
            opened_ = open;
    std::erase_if(shut_, [to](const Span &span) { return span.second <= to; });
}

void RtpRing::decode_up_to(std::int64_t to) {
    const std::int64_t limit = to + lookahead_; // what stands before `to` is resampled with some of what follows
    const std::uint64_t filled = filled_.load(std::memory_order_acquire);
    for (; seen_ < filled; ++seen_)
        waiting_.push_back(seen_);
    const auto slot = [this](std::uint64_t packet) -> const Slot & { return slots_[packet % slot_count_]; };
    std::sort(waiting_.begin(), waiting_.end(), [&slot](std::uint64_t one, std::uint64_t two) {
        return std::pair(slot(one).order, one) < std::pair(slot(two).order, two);
    });
    std::erase_if(waiting_, [&](std::uint64_t packet) {
        const bool due = slot(packet).at < limit;
        if (due)
            decode(slot(packet));
        return due;
    });
    if (run_written_ < to) // nothing follows
        finish_run();
    const std::uint64_t oldest = waiting_.empty() ? seen_ : *std::min_element(waiting_.begin(), waiting_.end());
    if (oldest > emptied_.load(std::memory_order_relaxed)) {
        bytes_freed_.store(slot(oldest - 1).freed, std::memory_order_release);
        emptied_.store(oldest, std::memory_order_release);
    }
}

void RtpRing::decode(const Slot &slot) {
    if (slot.order <= last_order_) { // it came twice, or so late that the decoder has gone on
        if (slot.order < last_order_)
            late_.fetch_add(static_cast<std::uint64_t>(slot.length), std::memory_order_relaxed);
        return;
    }
    last_order_ = slot.order;
    const bool fresh = is_another_voice(slot);
    if (fresh) {
        finish_run();
        decoder_ = make_decoder(slot.codec, rate_hz_);
        codec_ = slot.codec;
        decoded_source_ = slot.source;
    }
    last_at_ = slot.at;

    const std::int64_t slip = slot.at - run_end_;
    if (std::abs(slip) > rate_hz_ / kSlipHz) {
        if (slip > 0 && !fresh)
            decoder_->miss(static_cast<std::size_t>(slip * decoder_->rate_hz() / rate_hz_));
        finish_run();
    }
    if (running_) {
        if (slip > 0) // the clock has just moved: no hole
            put_down(std::vector<std::int16_t>(static_cast<std::size_t>(slip), newest_sample_));
        else
            run_written_ += slip;
    } else {
        running_ = true;
        run_written_ = slot.at;
        if (decoder_->rate_hz() != rate_hz_)
            resampler_.emplace(decoder_->rate_hz(), rate_hz_);
    }
    run_end_ = slot.at + slot.length;

    decoded_.clear();
    decoder_->decode(&bytes_[slot.payload % byte_count_], slot.size, decoded_);
    decoded_.resize(static_cast<std::size_t>(slot.length * decoder_->rate_hz() / rate_hz_));
    blank_shut(slot.at, decoder_->rate_hz(), decoded_.data(), decoded_.size());
    if (!resampler_) {
        put_down(decoded_);
        return;
    }
    resampled_.clear();
    resampler_->resample(decoded_, resampled_);
    put_down(resampled_);
}

// Another codec, another source, or what a shut gate came before: nothing of what was may be heard in what follows.
bool RtpRing::is_another_voice(const Slot &slot) const {
    if (!decoder_ || slot.codec != codec_ || slot.source != decoded_source_ || opened_ > last_at_)
        return true;
    return std::any_of(shut_now_.begin(), shut_now_.end(),
                       [&](const Span &span) { return span.first <= slot.at && span.second > last_at_; });
}

// Zeros where the gate was shut in what begins at position `at`.
void RtpRing::blank_shut(std::int64_t at, unsigned rate_hz, std::int16_t *samples, std::size_t count) const {
    const std::int64_t end = at + static_cast<std::int64_t>(count) * rate_hz_ / rate_hz;
    for (const auto &[shut, open] : shut_now_) {
        const std::int64_t first = (std::clamp(shut, at, end) - at) * rate_hz / rate_hz_;
        const std::int64_t last = ((std::clamp(open, at, end) - at) * rate_hz + rate_hz_ - 1) / rate_hz_;
        if (first < last)
            std::fill(samples + first, samples + last, std::int16_t{0});
    }
}

// The run goes on with these; they take their place in what is read next.
void RtpRing::put_down(const std::vector<std::int16_t> &samples) {
    const auto count = static_cast<std::int64_t>(samples.size());
    const std::int64_t past = std::clamp<std::int64_t>(base_ - run_written_, 0, count); // read already
    const std::int64_t begin = run_written_ + past - base_;
    if (past < count) {
        composed_.resize(std::max(composed_.size(), static_cast<std::size_t>(begin + count - past)));
        std::copy(samples.begin() + past, samples.end(), composed_.begin() + begin);
        newest_sample_ = samples.back();
    }
    run_written_ += count;
}

void RtpRing::finish_run() {
    if (running_ && resampler_) {
        resampled_.clear();
        resampler_->flush(resampled_);
        put_down(resampled_);
    }
    resampler_.reset();
    running_ = false;
}

std::vector<RtpRing::Span> RtpRing::take_gaps() {
    const std::int64_t stop = drop_stop_.load(std::memory_order_acquire);
    if (stop <= drop_taken_)
        return {};
    const std::int64_t start = std::max(drop_start_.load(std::memory_order_relaxed), drop_taken_);
    drop_taken_ = stop;
    return {{start, stop - start}};
}

// The gate ------------------------------------------------------------------------------------------------------------

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
