#include "ring.hpp"

#include <algorithm>
#include <cstring>

namespace recorder {

Ring::Ring(unsigned samples_per_frame, std::size_t capacity_samples)
    : frame_(samples_per_frame),
      slot_count_(std::max<std::size_t>(1, (capacity_samples + samples_per_frame - 1) / samples_per_frame)),
      slots_(slot_count_), sound_(slot_count_ * samples_per_frame), gaps_(kGapsKept) {}

void Ring::put(std::uint64_t timestamp, const std::int16_t *samples, std::size_t count) noexcept {
    if (samples == nullptr || count == 0) {
        samples = nullptr;
        count = frame_;
    }
    std::uint64_t start = timestamp + offset_;
    if (origin_.load(std::memory_order_relaxed) == kNone) {
        next_ = start;
        origin_.store(start, std::memory_order_release);
    } else if (start < next_) {
        // The bridge's clock started again (its master port was replaced). The recording goes on where it was: a
        // position never comes twice.
        offset_ += next_ - start;
        start = next_;
    }
    // The bridge always sends whole frames; only a caller without a bridge takes the loop twice.
    while (count > frame_) {
        put_chunk(start, samples, frame_);
        start += frame_;
        samples = samples == nullptr ? nullptr : samples + frame_;
        count -= frame_;
    }
    put_chunk(start, samples, count);
}

void Ring::put_chunk(std::uint64_t start, const std::int16_t *samples, std::size_t count) noexcept {
    const std::uint64_t end = start + count;
    next_ = end;
    // The order of these two lines is the promise of close_gate, which does the reverse: it shuts, then looks at
    // claim_. All four are seq_cst, so they have one order that all threads agree on. If this frame still found the
    // gate open, its load came before the store that shut it, hence its claim too, and close_gate returns `end` or
    // more. If not, nothing of it is copied.
    claim_.store(end, std::memory_order_seq_cst);
    const std::uint64_t open_from = open_from_.load(std::memory_order_seq_cst);

    if (samples != nullptr && open_from < end) {
        const std::size_t skip = open_from > start ? static_cast<std::size_t>(open_from - start) : 0;
        const std::uint64_t head = head_.load(std::memory_order_relaxed);
        if (head - tail_.load(std::memory_order_acquire) < slot_count_) {
            slots_[fill_index_] = {start + skip, count - skip};
            std::memcpy(&sound_[fill_index_ * frame_], samples + skip, (count - skip) * sizeof(std::int16_t));
            fill_index_ = fill_index_ + 1 == slot_count_ ? 0 : fill_index_ + 1;
            head_.store(head + 1, std::memory_order_release);
        } else {
            note_dropped(start + skip, count - skip);
        }
    }
    position_.store(end, std::memory_order_release);
}

void Ring::note_dropped(std::uint64_t start, std::uint64_t length) noexcept {
    dropped_.fetch_add(length, std::memory_order_relaxed);
    const std::uint64_t head = gap_head_.load(std::memory_order_relaxed);
    if (head > 0) {
        // The reader never removes the newest gap, so it may grow in place.
        Gap &newest = gaps_[(head - 1) % kGapsKept];
        const std::uint64_t so_far = newest.length.load(std::memory_order_relaxed);
        if (newest.start + so_far == start) {
            newest.length.store(so_far + length, std::memory_order_release);
            return;
        }
    }
    if (head - gap_tail_.load(std::memory_order_acquire) < kGapsKept) {
        Gap &gap = gaps_[head % kGapsKept];
        gap.start = start;
        gap.length.store(length, std::memory_order_relaxed);
        gap_head_.store(head + 1, std::memory_order_release);
    }
}

std::pair<std::uint64_t, std::size_t> Ring::available() const noexcept {
    const std::uint64_t end = position_.load(std::memory_order_acquire);
    const std::uint64_t origin = origin_.load(std::memory_order_acquire);
    if (origin == kNone)
        return {0, 0};
    const std::uint64_t start = read_position_ == kNone ? origin : read_position_;
    return {start, end > start ? static_cast<std::size_t>(end - start) : 0};
}

void Ring::read(std::int16_t *out, std::size_t count) noexcept {
    if (count == 0)
        return;
    if (read_position_ == kNone)
        read_position_ = origin_.load(std::memory_order_acquire);
    std::uint64_t cursor = read_position_;
    const std::uint64_t end = read_position_ + count;
    const auto silence_up_to = [&](std::uint64_t position) {
        std::memset(out, 0, (position - cursor) * sizeof(std::int16_t));
        out += position - cursor;
        cursor = position;
    };

    const std::uint64_t head = head_.load(std::memory_order_acquire);
    std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    while (tail != head && slots_[drain_index_].start < end) {
        const Slot slot = slots_[drain_index_];
        silence_up_to(std::max(slot.start, cursor));
        const std::size_t skip = cursor - slot.start; // what the read before this one took of the slot
        const std::size_t taken = std::min<std::uint64_t>(slot.count - skip, end - cursor);
        std::memcpy(out, &sound_[drain_index_ * frame_ + skip], taken * sizeof(std::int16_t));
        out += taken;
        cursor += taken;
        if (skip + taken < slot.count)
            break;
        drain_index_ = drain_index_ + 1 == slot_count_ ? 0 : drain_index_ + 1;
        ++tail;
    }
    silence_up_to(end);
    read_position_ = end;
    tail_.store(tail, std::memory_order_release);
}

std::vector<Ring::Span> Ring::take_gaps() {
    std::vector<Span> spans;
    const std::uint64_t head = gap_head_.load(std::memory_order_acquire);
    std::uint64_t tail = gap_tail_.load(std::memory_order_relaxed);
    for (; tail != head; ++tail) {
        const Gap &gap = gaps_[tail % kGapsKept];
        const std::uint64_t length = gap.length.load(std::memory_order_acquire);
        if (length > gap_taken_)
            spans.emplace_back(gap.start + gap_taken_, length - gap_taken_);
        if (tail + 1 == head) {
            gap_taken_ = length; // it stays, because it may still grow
            break;
        }
        gap_taken_ = 0;
    }
    gap_tail_.store(tail, std::memory_order_release);
    return spans;
}

std::uint64_t Ring::close_gate() noexcept {
    const std::lock_guard lock(control_);
    const std::uint64_t was_open_from = open_from_.exchange(kShut, std::memory_order_seq_cst);
    if (was_open_from != kShut) {
        const std::uint64_t end_of_claimed = claim_.load(std::memory_order_seq_cst);
        // Opened for a position that was not reached: shut all along, so the older position still holds.
        if (end_of_claimed > was_open_from)
            shut_from_ = end_of_claimed;
    }
    return shut_from_;
}

std::uint64_t Ring::open_gate(std::uint64_t after_samples) noexcept {
    const std::lock_guard lock(control_);
    const std::uint64_t open_from = open_from_.load(std::memory_order_relaxed);
    if (open_from != kShut)
        return open_from;
    const std::uint64_t frames = (after_samples + frame_ - 1) / frame_;
    // A frame put between these two lines is silence although it lies past the result: late, never early.
    // Never before a position that an earlier call promised silence up to, though the gate was shut again meanwhile.
    opens_ = std::max(opens_, claim_.load(std::memory_order_seq_cst) + frames * frame_);
    open_from_.store(opens_, std::memory_order_seq_cst);
    return opens_;
}

bool Ring::gated() const noexcept {
    return open_from_.load(std::memory_order_seq_cst) > position_.load(std::memory_order_acquire);
}

} // namespace recorder
