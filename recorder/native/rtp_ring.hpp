// One leg's audio, put on the timeline by its RTP timestamps (RFC 3550), on its way to the writer.
//
// RtpClock says where a packet stands. Loss and discontinuous transmission are silence of the right length, and RtpGaps
// says why. Packets wait here as they came; they are decoded when they are read, in their order: whatever had to be waited
// for is there by then, and what they say of one another goes the same way.
//
// Threads: `put` belongs to the media thread, `read` and the gaps to the one writer thread, the gate, `start` and `end`
// to any.
// The media side is wait-free: no lock, no allocation, no system call.
#pragma once

#include "codecs.hpp"
#include "event_spans.hpp"
#include "rtp_clock.hpp"
#include "rtp_gaps.hpp"
#include "rtp_packet.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace recorder {

class RtpRing {
  public:
    using Span = std::pair<std::int64_t, std::int64_t>;

    // `rate_hz`: of the samples, and of all positions; 8000 or 16000. `origin`: position of the first sample. `hold`: how
    // late a packet may come and still be kept.
    RtpRing(unsigned rate_hz, std::int64_t origin, std::size_t capacity, std::int64_t hold);
    RtpRing(const RtpRing &) = delete;
    RtpRing &operator=(const RtpRing &) = delete;

    // [media] `codec`: what the packet's payload type stands for; none for what is no audio.
    void put(const RtpPacket &packet, Codec codec, std::int64_t arrival) noexcept;

    std::int64_t position(std::int64_t now) const noexcept; // [any] just past what may be read
    // [writer] Up to `count` samples, none past position(now); returns how many, and the position of the first.
    std::pair<std::int64_t, std::size_t> available(std::int64_t now) const noexcept;
    void read(std::int16_t *out, std::size_t count);
    // [any] Whether `read` may take long: there is more to decode than G.711, or to resample.
    bool reads_slowly() const noexcept { return rate_hz_ != kNarrow || slow_.load(std::memory_order_relaxed); }
    std::vector<RtpGaps::Gap> take_gaps() { return gaps_.take(base_); }
    std::vector<RtpGaps::Gap> take_last_gaps(); // nothing is read any more
    std::vector<EventSpans::Span> take_events() { return events_.take(); }

    std::int64_t close_gate(std::int64_t now) noexcept;
    std::int64_t open_gate(std::int64_t now, std::int64_t after) noexcept;
    bool gated(std::int64_t now) const noexcept;

    // Until `start` nothing is kept, and nothing may be read; the clock runs all the same. Before the first packet.
    void wait() noexcept { started_.store(false, std::memory_order_release); }
    void start(std::int64_t position) noexcept; // the timeline begins there

    void end(std::int64_t now) noexcept; // nothing that comes later is kept, and nothing is waited for any more

    unsigned rate_hz() const noexcept { return rate_hz_; }
    std::int64_t origin() const noexcept { return origin_.load(std::memory_order_relaxed); }
    std::uint64_t dropped_samples() const noexcept { return dropped_.load(std::memory_order_relaxed); }
    std::uint64_t late_samples() const noexcept { return late_.load(std::memory_order_relaxed); }
    std::uint64_t packets() const noexcept { return packets_.load(std::memory_order_relaxed); }
    std::uint64_t lost() const noexcept { return sequence_.lost(); }

  private:
    static constexpr std::size_t kLongestPayload = 1500;

    // A packet that waits, or what one says of others.
    enum class Kind : std::uint8_t {
        sound,
        muted,  // sound that the shut gate has kept out
        moved,  // the stream `payload`, all from `at` on, belongs `length` earlier, and its orders are `order` more
        absent, // from `at` on there is nothing for `length`, because of `cause`
    };

    // A payload begins at `payload` of the ring of bytes; everything up to `freed` is free when the slot is.
    struct Slot {
        std::int64_t at;
        std::int64_t length; // of what it sounds like, in positions
        std::int64_t order;  // as RtpClock has it
        std::uint64_t payload;
        std::uint64_t freed;
        std::uint16_t size;
        Codec codec;
        Kind kind;
        GapCause cause;
    };

    // [media]
    void put_event(const RtpPacket &packet, std::int64_t arrival) noexcept;
    void set_rtp_rate(unsigned rate_hz) noexcept;
    void store(const std::uint8_t *payload, std::size_t size, Codec codec, std::int64_t at, std::int64_t order) noexcept;
    void say(Kind kind, std::int64_t at, std::int64_t length, std::int64_t order, GapCause cause,
             std::uint64_t stream = 0) noexcept;
    void say_absent(GapCause cause, std::int64_t start, std::int64_t length) noexcept;
    void note_dropped(std::int64_t at, std::int64_t length, std::int64_t read_to) noexcept;

    // [writer]
    void decode_up_to(std::int64_t limit);
    void take_in(std::uint64_t packet);
    void note_silence(std::int64_t from, std::int64_t to);
    void decode(const Slot &slot);
    bool is_another_voice(const Slot &slot) const;
    void blank_shut(std::int64_t at, unsigned rate_hz, std::int16_t *samples, std::size_t count) const;
    void put_down(const std::vector<std::int16_t> &samples);
    void finish_run();

    const unsigned rate_hz_;
    const std::int64_t capacity_;
    const std::int64_t hold_;
    const std::int64_t lookahead_; // of the resampler
    const std::size_t slot_count_;
    const std::size_t byte_count_;
    const std::unique_ptr<Slot[]> slots_;         // packet n is at n mod slot_count_
    const std::unique_ptr<std::uint8_t[]> bytes_; // likewise

    // The media thread's own.
    RtpClock clock_;
    unsigned clock_rate_hz_ = kNarrow;
    RtpSequence sequence_; // [any] its count
    RtpLosses losses_;
    std::uint64_t bytes_used_ = 0;
    struct {
        std::array<std::uint8_t, kLongestPayload> payload;
        std::size_t size = 0;
        Codec codec = Codec::none;
    } waits_; // the packet that the clock has told to wait
    std::atomic<std::int64_t> comfort_from_{INT64_MAX}; // [writer reads it] the sender has said that it will be silent

    EventSpans events_;

    // The writer thread's own.
    std::int64_t base_;                   // everything before has been read
    std::uint64_t seen_ = 0;              // packets taken note of
    std::vector<std::uint64_t> waiting_;  // of these, the ones not decoded yet
    std::vector<std::int16_t> composed_;  // what is read next, from base_ on
    std::vector<std::int16_t> decoded_;   // of one packet
    std::vector<std::int16_t> resampled_; // of one packet
    std::vector<Span> shut_now_;          // a copy of shut_
    std::vector<Span> heard_;             // from where to where there is sound, as far as it ends after base_
    RtpGaps gaps_;
    std::unique_ptr<Decoder> decoder_;
    Codec codec_ = Codec::none;           // of decoder_
    std::int64_t decoded_stream_ = 0;     // likewise, as RtpClock numbers them
    std::int64_t last_order_ = INT64_MIN; // of the packet decoded last
    std::int64_t last_at_ = INT64_MIN;    // likewise
    std::int64_t opened_ = INT64_MIN;     // where the newest shut stretch that is over and read ended
    // A run is what packets say that follow one another without a break.
    bool running_ = false;
    std::int64_t run_end_ = 0;
    std::int64_t run_written_ = 0; // just past what has been put down of it; the rest is in the resampler
    std::int16_t newest_sample_ = 0;
    std::optional<Resampler> resampler_;

    std::atomic<std::uint64_t> filled_{0};     // packets ever stored
    std::atomic<std::uint64_t> emptied_{0};    // packets whose slots are free again
    std::atomic<std::uint64_t> bytes_freed_{0};
    std::atomic<std::uint64_t> packets_{0};
    std::atomic<std::uint64_t> dropped_{0};
    std::atomic<std::uint64_t> late_{0};
    std::atomic<std::int64_t> open_from_{0};  // the newest shut stretch is [shut_from_, open_from_)
    std::atomic<std::int64_t> shut_from_{INT64_MAX};
    std::atomic<std::int64_t> origin_;
    std::atomic<bool> started_{true};
    std::atomic<std::int64_t> read_to_;       // everything before has been read, or is just being read
    std::atomic<bool> slow_{false};
    std::atomic<std::int64_t> ended_{INT64_MAX};
    std::atomic<std::int64_t> drop_start_{0}; // of the stretch that was dropped last
    std::atomic<std::int64_t> drop_stop_{0};

    mutable std::mutex gate_; // between whoever moves the gate and the writer; the media thread never takes it
    std::vector<Span> shut_;  // in order; the last may be open-ended
    std::int64_t opens_ = 0;  // the last position promised
};

} // namespace recorder
