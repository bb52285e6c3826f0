// One leg's G.711 audio, put on the timeline by its RTP timestamps (RFC 3550), on its way to the writer.
//
// RtpClock says where a packet stands. Loss and discontinuous transmission are silence of the right length.
//
// Threads: `put` belongs to the media thread, `read` and `take_gaps` to the one writer thread, the gate and `end` to any.
#pragma once

#include "rtp_clock.hpp"
#include "rtp_packet.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace recorder {

class RtpRing {
  public:
    using Span = std::pair<std::int64_t, std::int64_t>;

    static constexpr unsigned kRate = 8000; // G.711

    // `origin`: position of the first sample. `hold`: how late a packet may come and still be kept.
    RtpRing(std::int64_t origin, std::size_t capacity, std::int64_t hold);
    RtpRing(const RtpRing &) = delete;
    RtpRing &operator=(const RtpRing &) = delete;

    void put(const RtpPacket &packet, std::int64_t arrival) noexcept; // [media]

    std::int64_t position(std::int64_t now) const noexcept; // [any] just past what may be read
    // [writer] Up to `count` samples, none past position(now); returns how many, and the position of the first.
    std::pair<std::int64_t, std::size_t> available(std::int64_t now) const noexcept;
    void read(std::int16_t *out, std::size_t count) noexcept;
    std::vector<Span> take_gaps();

    std::int64_t close_gate(std::int64_t now) noexcept;
    std::int64_t open_gate(std::int64_t now, std::int64_t after) noexcept;
    bool gated(std::int64_t now) const noexcept;

    void end(std::int64_t now) noexcept; // nothing that comes later is kept, and nothing is waited for any more

    std::int64_t origin() const noexcept { return origin_; }
    std::uint64_t dropped_samples() const noexcept { return dropped_.load(std::memory_order_relaxed); }
    std::uint64_t late_samples() const noexcept { return late_.load(std::memory_order_relaxed); }
    std::uint64_t packets() const noexcept { return packets_.load(std::memory_order_relaxed); }
    std::uint64_t lost() const noexcept;

  private:
    void place(std::int64_t at, const std::uint8_t *payload, std::size_t count, const std::int16_t *table) noexcept;
    void count_sequence(const RtpPacket &packet) noexcept;

    const std::int64_t origin_;
    const std::int64_t capacity_;
    const std::int64_t hold_;
    const std::unique_ptr<std::atomic<std::int16_t>[]> sound_; // position p is at p mod capacity

    // The media thread's own.
    RtpClock clock_{kRate, kRate};
    std::int64_t end_of_sound_ = 0;
    std::uint16_t newest_sequence_ = 0;
    std::uint64_t sequence_cycles_ = 0;
    std::uint64_t first_sequence_ = 0;

    std::atomic<std::uint64_t> packets_{0};
    std::atomic<std::uint64_t> expected_{0};
    std::atomic<std::uint64_t> expected_before_{0};
    std::atomic<std::uint64_t> dropped_{0};
    std::atomic<std::uint64_t> late_{0};
    std::atomic<std::int64_t> open_from_{0};  // the newest shut stretch is [shut_from_, open_from_)
    std::atomic<std::int64_t> shut_from_{INT64_MAX};
    std::atomic<std::int64_t> read_to_;       // everything before has been read
    std::atomic<std::int64_t> ended_{INT64_MAX};
    std::atomic<std::int64_t> drop_start_{0}; // of the stretch dropped last, for take_gaps
    std::atomic<std::int64_t> drop_stop_{0};
    std::int64_t drop_taken_ = 0;

    mutable std::mutex gate_; // between whoever moves the gate and the writer; the media thread never takes it
    std::vector<Span> shut_;  // in order; the last may be open-ended
    std::int64_t opens_ = 0;  // the last position promised
};

} // namespace recorder
