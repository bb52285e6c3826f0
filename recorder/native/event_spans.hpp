// When keys were pressed, by the telephone events (RFC 4733) in a leg's packets: on its way from the media thread to the
// writer. Which keys they were is not kept.
//
// One producer, one consumer, wait-free for both. When nobody takes them for long the newest span grows over what there
// is no room for: too much counts as pressed, never too little.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace recorder {

class EventSpans {
  public:
    using Span = std::pair<std::int64_t, std::int64_t>; // start position, length

    // [media] An event's packets say again and again where it began, and how long it has lasted by now.
    void note(std::int64_t start, std::int64_t end) noexcept {
        const std::uint64_t head = head_.load(std::memory_order_relaxed);
        if (head > 0) {
            Event &newest = events_[(head - 1) % kKept]; // which the writer never removes
            const std::int64_t apart = start - newest.start.load(std::memory_order_relaxed);
            const bool full = head - tail_.load(std::memory_order_acquire) == kKept;
            if (full || (apart > -kSame && apart < kSame)) {
                newest.end.store(std::max(end, newest.end.load(std::memory_order_relaxed)), std::memory_order_release);
                return;
            }
        }
        Event &event = events_[head % kKept];
        event.start.store(start, std::memory_order_relaxed);
        event.end.store(end, std::memory_order_relaxed);
        head_.store(head + 1, std::memory_order_release);
    }

    // [writer] What is new since the last call; an event that goes on comes again, from its start.
    std::vector<Span> take() {
        std::vector<Span> spans;
        const std::uint64_t head = head_.load(std::memory_order_acquire);
        for (std::uint64_t tail = tail_.load(std::memory_order_relaxed); tail != head; ++tail) {
            const Event &event = events_[tail % kKept];
            const std::int64_t start = event.start.load(std::memory_order_relaxed);
            const std::int64_t end = event.end.load(std::memory_order_acquire);
            if (tail + 1 != taken_ || end > taken_end_)
                spans.emplace_back(start, end - start);
            taken_ = tail + 1;
            taken_end_ = end;
        }
        if (head > 0)
            tail_.store(head - 1, std::memory_order_release);
        return spans;
    }

  private:
    static constexpr std::size_t kKept = 64;
    static constexpr std::int64_t kSame = 80; // the clock may have moved a little since the event's first packet

    struct Event {
        std::atomic<std::int64_t> start{0}, end{0};
    };

    std::array<Event, kKept> events_;
    std::atomic<std::uint64_t> head_{0}; // events ever
    std::atomic<std::uint64_t> tail_{0}; // removed
    std::uint64_t taken_ = 0;            // [writer] events handed out, the last one until here:
    std::int64_t taken_end_ = 0;
};

} // namespace recorder
