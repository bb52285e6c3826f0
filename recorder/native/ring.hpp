// One leg's audio on its way from the bridge's clock to the writer: a bounded single-producer single-consumer ring.
//
// Threads: `put` belongs to the media thread (one at a time: pjmedia hands a port one frame a tick), `read`, `take_gaps`
// to the one writer thread, the gate to any thread. The media side is wait-free: no lock, no allocation, no system call.
//
// The timeline is counted in samples of the bridge's clock. Only sound takes room in the ring: silence, a jump in the
// bridge's timestamps, a frame dropped because the ring is full and a frame behind the shut gate just move `position`
// on, and the reader makes the zeros. So a gap of any length costs the media thread nothing, and what is behind the
// gate is never copied at all.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace recorder {

class Ring {
  public:
    using Span = std::pair<std::uint64_t, std::uint64_t>; // start position, length

    Ring(unsigned samples_per_frame, std::size_t capacity_samples);
    Ring(const Ring &) = delete;
    Ring &operator=(const Ring &) = delete;

    // [media] One frame that starts at `timestamp`; null or empty is `samples_per_frame` of silence.
    void put(std::uint64_t timestamp, const std::int16_t *samples, std::size_t count) noexcept;

    // [writer] How many samples `read` has for us now, and the position of the first.
    std::pair<std::uint64_t, std::size_t> available() const noexcept;
    // [writer] The next `count` samples, not more than `available` said.
    void read(std::int16_t *out, std::size_t count) noexcept;
    // [writer] Dropped stretches not taken yet; one that still grows comes in pieces.
    std::vector<Span> take_gaps();

    // [any] From the returned position on every sample is zero, also one of a `put` that runs at this moment.
    std::uint64_t close_gate() noexcept;
    // [any] Zero up to the returned position, sound from there.
    std::uint64_t open_gate(std::uint64_t after_samples) noexcept;

    bool gated() const noexcept;
    bool started() const noexcept { return origin_.load(std::memory_order_acquire) != kNone; }
    std::uint64_t origin() const noexcept { return origin_.load(std::memory_order_acquire); }
    std::uint64_t position() const noexcept { return position_.load(std::memory_order_acquire); }
    std::uint64_t dropped_samples() const noexcept { return dropped_.load(std::memory_order_relaxed); }
    unsigned samples_per_frame() const noexcept { return frame_; }

  private:
    static constexpr std::uint64_t kNone = UINT64_MAX;
    static constexpr std::uint64_t kShut = UINT64_MAX;
    static constexpr std::size_t kGapsKept = 256; // more are counted in dropped_samples only
    static constexpr std::size_t kCacheLine = 64;

    struct Slot {
        std::uint64_t start;
        std::uint64_t count;
    };
    struct Gap {
        std::uint64_t start;
        std::atomic<std::uint64_t> length;
    };

    void put_chunk(std::uint64_t start, const std::int16_t *samples, std::size_t count) noexcept;
    void note_dropped(std::uint64_t start, std::uint64_t length) noexcept;

    const unsigned frame_;
    const std::size_t slot_count_;
    std::vector<Slot> slots_;
    std::vector<std::int16_t> sound_; // slot i owns [i * frame_, (i + 1) * frame_)
    std::vector<Gap> gaps_;

    // Written by the media thread.
    alignas(kCacheLine) std::atomic<std::uint64_t> claim_{0}; // end of the frame being put, before its gate is looked at
    std::atomic<std::uint64_t> position_{0};                  // end of what is committed
    std::atomic<std::uint64_t> origin_{kNone};
    std::atomic<std::uint64_t> head_{0}; // slots ever filled
    std::atomic<std::uint64_t> dropped_{0};
    std::atomic<std::uint64_t> gap_head_{0};
    std::uint64_t next_ = 0;   // where the timeline ends
    std::uint64_t offset_ = 0; // what a clock that started again is behind
    std::size_t fill_index_ = 0;

    // Written by the writer thread.
    alignas(kCacheLine) std::atomic<std::uint64_t> tail_{0}; // slots ever emptied
    std::atomic<std::uint64_t> gap_tail_{0};
    std::uint64_t gap_taken_ = 0; // of the oldest gap, already handed out
    std::uint64_t read_position_ = kNone;
    std::size_t drain_index_ = 0;

    // Written by whoever moves the gate; the media thread only loads open_from_.
    alignas(kCacheLine) std::atomic<std::uint64_t> open_from_{0}; // sound passes from here on; kShut: nothing passes
    std::mutex control_;                                          // among gate movers alone, for nanoseconds
    std::uint64_t shut_from_ = 0;
    std::uint64_t opens_ = 0; // the last position promised
};

} // namespace recorder
