#include "rtp_ring.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace recorder {
namespace {

constexpr std::int16_t kQuiet = 256;           // 42 dB below full scale
constexpr std::size_t kBytesASecond = 10000;   // G.711 and G.722 take 8000
constexpr std::size_t kPacketsASecond = 100;
constexpr std::size_t kSparePackets = 64;      // for a ring of next to no seconds
constexpr std::size_t kSpareBytes = 16000;
constexpr std::uint8_t kComfortNoise = 13;     // RFC 3389
constexpr std::int64_t kLongestWayS = 2;       // of a packet through network and stalls
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
    : rate_hz_(rate_hz), capacity_(static_cast<std::int64_t>(capacity)), hold_(hold),
      lookahead_(Resampler::longest_delay(rate_hz)), slot_count_(capacity * kPacketsASecond / rate_hz + kSparePackets),
      byte_count_(capacity * kBytesASecond / rate_hz + kSpareBytes), slots_(new Slot[slot_count_]),
      bytes_(new std::uint8_t[byte_count_]), clock_(kNarrow, rate_hz), sequence_(kNarrow, rate_hz),
      losses_(kNarrow, rate_hz), base_(origin), gaps_(rate_hz), origin_(origin), read_to_(origin) {}

// The media thread's side ---------------------------------------------------------------------------------------------

void RtpRing::put(const RtpPacket &packet, Codec codec, std::int64_t arrival) noexcept {
    if (arrival >= ended_.load(std::memory_order_acquire))
        return;
    packets_.fetch_add(1, std::memory_order_relaxed);
    if (codec > Codec::pcma)
        slow_.store(true, std::memory_order_relaxed);
    if (codec == Codec::event)
        put_event(packet, arrival);
    int step = sequence_.take(packet, arrival);
    if (step == RtpSequence::kAgain)
        return;
    if (!is_audio(codec) && packet.payload_type != kComfortNoise) {
        losses_.pass(step, codec == Codec::event);
        return;
    }
    if (is_audio(codec) && rtp_clock_rate(codec) != clock_rate_hz_)
        set_rtp_rate(rtp_clock_rate(codec));
    const bool strange = step == RtpSequence::kStrange;
    const bool quiet = clock_.moving() && is_quiet(packet, codec);
    const std::int64_t at = clock_.place(packet.ssrc, packet.timestamp, arrival, quiet, step < 0 && !strange);
    if (clock_.waited() != RtpClock::kNowhere)
        store(waits_.payload.data(), waits_.size, waits_.codec, clock_.waited(), clock_.waited_order());
    if (const RtpClock::Move &move = clock_.moved(); move.stream != 0)
        say(Kind::moved, move.since, move.by, move.order, GapCause::loss, static_cast<std::uint64_t>(move.stream));
    const std::size_t size = std::min(packet.size, kLongestPayload);
    if (at == RtpClock::kNowhere) {
        losses_.pass(step, false);
        std::copy_n(packet.payload, size, waits_.payload.begin());
        waits_.size = size;
        waits_.codec = codec;
        return;
    }
    if (strange) {
        sequence_.restart(packet, arrival);
        step = 0;
    }
    const std::int64_t length =
        std::int64_t{duration_of(codec, packet.payload, size)} * rate_hz_ / rtp_clock_rate(codec);
    const RtpLosses::Found found = losses_.pass(packet, step, clock_.began(), length);
    say_absent(GapCause::loss, at - found.unsent - found.lost, found.lost);
    say_absent(found.why, at - found.unsent, found.unsent);
    comfort_from_.store(length == 0 ? at : INT64_MAX, std::memory_order_relaxed);
    store(packet.payload, size, codec, at, clock_.order());
}

// A telephone event's packets keep the timestamp of its beginning, however long it has lasted (RFC 4733, section 2.2).
void RtpRing::put_event(const RtpPacket &packet, std::int64_t arrival) noexcept {
    if (packet.size < 4)
        return;
    const std::int64_t lasted = (packet.payload[2] << 8 | packet.payload[3]) * std::int64_t{rate_hz_} / clock_rate_hz_;
    const std::int64_t by_arrival = arrival - lasted;
    const std::int64_t at = clock_.look_up(packet.ssrc, packet.timestamp, by_arrival);
    // An event may count by another clock than the sound (telephone-event/8000 beside opus/48000): that says nothing here.
    const bool same_clock = std::abs(at - by_arrival) < kLongestWayS * rate_hz_;
    events_.note(same_clock ? at : by_arrival, (same_clock ? at : by_arrival) + lasted);
}

void RtpRing::set_rtp_rate(unsigned rate_hz) noexcept {
    clock_rate_hz_ = rate_hz;
    clock_.set_rtp_rate(rate_hz);
    sequence_.set_rtp_rate(rate_hz);
    losses_.set_rtp_rate(rate_hz);
}

void RtpRing::store(const std::uint8_t *bytes, std::size_t size, Codec codec, std::int64_t at,
                    std::int64_t order) noexcept {
    const std::int64_t length = std::int64_t{duration_of(codec, bytes, size)} * rate_hz_ / rtp_clock_rate(codec);
    if (length == 0 || !started_.load(std::memory_order_acquire))
        return;
    const std::int64_t end = at + length;
    const std::int64_t read_to = read_to_.load(std::memory_order_acquire);
    const std::int64_t shut_from = shut_from_.load(std::memory_order_acquire);
    const std::int64_t open_from = open_from_.load(std::memory_order_acquire);
    const std::int64_t late_from = std::max(at, origin());
    late_.fetch_add(static_cast<std::uint64_t>(std::max<std::int64_t>(0, std::min(read_to, end) - late_from)),
                    std::memory_order_relaxed);
    if (end <= read_to) {
        say_absent(GapCause::late, late_from, end - late_from);
        return;
    }
    if (end > read_to + capacity_) { // nobody has read for as long as the ring is
        note_dropped(at, length, read_to);
        return;
    }
    if (at >= shut_from && end <= open_from) {
        say(Kind::muted, at, length, order, GapCause::loss);
        return;
    }
    const std::uint64_t packets = filled_.load(std::memory_order_relaxed);
    std::uint64_t payload = bytes_used_;
    if (byte_count_ - payload % byte_count_ < size) // a payload does not go round the end
        payload += byte_count_ - payload % byte_count_;
    const std::uint64_t freed = payload + size;
    if (packets - emptied_.load(std::memory_order_acquire) == slot_count_ ||
        freed - bytes_freed_.load(std::memory_order_acquire) > byte_count_) {
        note_dropped(at, length, read_to);
        return;
    }
    std::memcpy(&bytes_[payload % byte_count_], bytes, size);
    bytes_used_ = freed;
    slots_[packets % slot_count_] = {at, length, order, payload, freed, static_cast<std::uint16_t>(size), codec,
                                     Kind::sound, GapCause::loss};
    filled_.store(packets + 1, std::memory_order_release);
}

// Says it behind the packets so far. Where there is no room it is not known later, and nothing else is lost.
void RtpRing::say(Kind kind, std::int64_t at, std::int64_t length, std::int64_t order, GapCause cause,
                  std::uint64_t stream) noexcept {
    const std::uint64_t packets = filled_.load(std::memory_order_relaxed);
    if (packets - emptied_.load(std::memory_order_acquire) == slot_count_)
        return;
    slots_[packets % slot_count_] = {at, length, order, stream, bytes_used_, 0, Codec::none, kind, cause};
    filled_.store(packets + 1, std::memory_order_release);
}

void RtpRing::say_absent(GapCause cause, std::int64_t start, std::int64_t length) noexcept {
    if (length > 0 && started_.load(std::memory_order_acquire))
        say(Kind::absent, start, length, 0, cause);
}

void RtpRing::note_dropped(std::int64_t at, std::int64_t length, std::int64_t read_to) noexcept {
    dropped_.fetch_add(static_cast<std::uint64_t>(length), std::memory_order_relaxed);
    const std::int64_t stop = drop_stop_.load(std::memory_order_relaxed);
    if (stop <= read_to) // the reader is past the stretch before, and has seen it
        drop_start_.store(at, std::memory_order_relaxed);
    drop_stop_.store(std::max(stop, at + length), std::memory_order_release);
}

void RtpRing::start(std::int64_t position) noexcept {
    sequence_.forget_lost();
    origin_.store(position, std::memory_order_relaxed);
    base_ = position;
    read_to_.store(position, std::memory_order_release);
    started_.store(true, std::memory_order_release);
}

// The writer thread's side --------------------------------------------------------------------------------------------

std::int64_t RtpRing::position(std::int64_t now) const noexcept {
    const std::int64_t ended = ended_.load(std::memory_order_acquire);
    return std::max(origin(), ended == INT64_MAX ? now - hold_ : ended);
}

std::pair<std::int64_t, std::size_t> RtpRing::available(std::int64_t now) const noexcept {
    const std::int64_t from = read_to_.load(std::memory_order_relaxed);
    return {from, static_cast<std::size_t>(std::max<std::int64_t>(0, position(now) - from))};
}

void RtpRing::read(std::int16_t *out, std::size_t count) {
    const std::int64_t from = base_;
    const std::int64_t to = from + static_cast<std::int64_t>(count);
    const std::int64_t drop_stop = drop_stop_.load(std::memory_order_acquire);
    const std::int64_t drop_start = drop_start_.load(std::memory_order_relaxed);
    read_to_.store(to, std::memory_order_release); // what comes for this stretch from now on is late
    {
        const std::lock_guard lock(gate_);
        shut_now_ = shut_;
    }
    decode_up_to(to);
    gaps_.explain(GapCause::ring_full, std::max(drop_start, from), std::min(drop_stop, to));
    note_silence(from, to);
    composed_.resize(std::max(composed_.size(), count));
    std::copy_n(composed_.begin(), count, out);
    // What has been read may turn out to be sensitive: it does not stay in memory.
    std::copy(composed_.begin() + static_cast<std::ptrdiff_t>(count), composed_.end(), composed_.begin());
    std::fill(composed_.end() - static_cast<std::ptrdiff_t>(count), composed_.end(), std::int16_t{0});
    composed_.resize(composed_.size() - count);
    std::fill(decoded_.begin(), decoded_.end(), std::int16_t{0});
    std::fill(resampled_.begin(), resampled_.end(), std::int16_t{0});
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
        take_in(seen_);
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

// What a slot says is done at once; a packet waits for its turn.
void RtpRing::take_in(std::uint64_t packet) {
    const Slot &slot = slots_[packet % slot_count_];
    if (slot.kind == Kind::absent) {
        gaps_.explain(slot.cause, slot.at, slot.at + slot.length);
    } else if (slot.kind == Kind::moved) {
        const auto stream = static_cast<std::int64_t>(slot.payload);
        gaps_.move(slot.at, slot.length);
        for (const std::uint64_t other : waiting_) {
            Slot &moved = slots_[other % slot_count_];
            if (RtpClock::stream_of(moved.order) != stream)
                continue;
            moved.at -= slot.length;
            moved.order += slot.order;
        }
        if (slot.order != 0 && RtpClock::stream_of(last_order_) == stream)
            last_order_ = INT64_MIN; // what has been decoded of it says nothing about what comes now
    } else {
        waiting_.push_back(packet);
    }
}

// Tells of the sound and the gaps between two positions.
void RtpRing::note_silence(std::int64_t from, std::int64_t to) {
    std::sort(heard_.begin(), heard_.end());
    for (const auto &[start, end] : heard_) {
        if (start >= to)
            break;
        if (start > from)
            gaps_.nothing_from(from);
        gaps_.sound_from(std::max(start, from));
        from = std::max(from, end);
    }
    if (from < to)
        gaps_.nothing_from(from);
    std::erase_if(heard_, [to](const Span &span) { return span.second <= to; });
}

std::vector<RtpGaps::Gap> RtpRing::take_last_gaps() {
    if (const std::int64_t comfort = comfort_from_.load(std::memory_order_relaxed); comfort < base_)
        gaps_.explain(GapCause::dtx, comfort, base_);
    return gaps_.take_last(base_, packets() > 0);
}

void RtpRing::decode(const Slot &slot) {
    const std::int64_t end = slot.at + slot.length;
    if (slot.kind == Kind::sound && slot.order <= last_order_) { // it came so late that the decoder has gone on
        late_.fetch_add(static_cast<std::uint64_t>(slot.length), std::memory_order_relaxed);
        gaps_.explain(GapCause::late, std::max(slot.at, origin()), end);
        return;
    }
    if (slot.at < base_)
        gaps_.explain(GapCause::late, std::max(slot.at, origin()), std::min(end, base_));
    if (end > base_)
        heard_.emplace_back(slot.at, end);
    if (slot.kind == Kind::muted)
        return;
    last_order_ = slot.order;
    const bool fresh = is_another_voice(slot);
    if (fresh) {
        finish_run();
        decoder_ = make_decoder(slot.codec, rate_hz_);
        codec_ = slot.codec;
        decoded_stream_ = RtpClock::stream_of(slot.order);
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
    if (!decoder_ || slot.codec != codec_ || RtpClock::stream_of(slot.order) != decoded_stream_ || opened_ > last_at_)
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
