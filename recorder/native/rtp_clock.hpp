// What turns the timestamps of one leg's RTP packets (RFC 3550) into positions on the timeline.
//
// A packet's position is its timestamp plus an offset: what was said in one moment stands in one place, whatever the
// network's jitter made of it, and the place is that of the packets with the least delay. So the recording has what
// passed by here as if the network had no jitter. The offset is found and kept as follows.
//
// - The first packet of a stream of timestamps stands where it came in. Until the stream has settled (for 300 ms and
//   15 packets none came earlier than expected) each packet that shows that those before it came late, in a stall, moves
//   them all to where they belong.
// - From then on the offset follows the least delay of the last seconds, which is the sender's clock, and a route that
//   has changed for good: in the speaker's next pause or, when there is none for 5 s, by 1/8000 s with each packet.
// - A packet 240 ms off the time at which it is expected is a stray one, or its timestamps begin anew: those of a sender
//   that stood still during a hold. It waits for the next: if that one fits the stream before, the first was a stray. If
//   it fits the first, both begin a stream. Were it a stall, the packets behind it move everything back, and the stream
//   before goes on. Another source (SSRC) begins a stream at once; the one before may go on beside it for a while.
//
// All of it belongs to the thread that receives the packets. No lock, no allocation, no system call.
#pragma once

#include <cstdint>
#include <limits>

namespace recorder {

class RtpClock {
  public:
    static constexpr std::int64_t kNowhere = std::numeric_limits<std::int64_t>::min();

    // A stream of which everything, that is from position `since` on, belongs `by` samples earlier.
    struct Move {
        std::int64_t stream = 0; // 0: none
        std::int64_t since = 0;
        std::int64_t by = 0;
        std::int64_t order = 0; // to be added to its packets' order
    };

    // The timestamps count at `rtp_rate_hz` (RFC 3551, section 4.5: for G.722 8000, for Opus 48000), positions and
    // arrivals at `position_rate_hz`.
    RtpClock(unsigned rtp_rate_hz, unsigned position_rate_hz);

    // The position of the first sample of a packet that came in at `arrival`. Only for packets whose timestamp is that of
    // their sound: telephone events repeat that of the event's beginning (RFC 4733). `quiet`: nobody would hear it if it
    // moved a little; that counts only while the clock is `moving`. `overtaken`: by its number it was sent before one that
    // has been here. kNowhere: a stray packet, or one that has to wait for the next.
    std::int64_t place(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival, bool quiet,
                       bool overtaken = false) noexcept;

    // Of the packet placed last, and of its stream: its place among all packets, by timestamp, streams one after another.
    std::int64_t order() const noexcept { return order_; }
    // What it says of those before it. First: where the one stands that had to wait for it, ...
    std::int64_t waited() const noexcept { return waited_; }
    std::int64_t waited_order() const noexcept { return waited_order_; }
    // ... then: what moves of all of them, as far as nobody has heard them.
    const Move &moved() const noexcept { return moved_; }
    // Whether it, or the one that waited, is the first of a stream: nothing is missing between it and those before.
    bool began() const noexcept { return began_; }

    bool moving() const noexcept { return current_.offset != current_.target; }

    // Where something with this timestamp stands, by what is known; `otherwise` if nothing is.
    std::int64_t look_up(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t otherwise) const noexcept;

    // From now on timestamps count at this rate: another codec, and other streams.
    void set_rtp_rate(unsigned rtp_rate_hz) noexcept;

    // Which stream an order is of: two packets of one follow each other.
    static std::int64_t stream_of(std::int64_t order) noexcept { return order >> kOrderBits; }

  private:
    static constexpr unsigned kOrderBits = 40; // more than timestamps ever count to
    static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

    struct Stream {
        bool known = false;
        std::int64_t number = 0; // of the streams, from 1
        std::uint32_t ssrc = 0;
        std::uint32_t newest_timestamp = 0;
        std::int64_t newest = 0; // newest_timestamp without its wraps
        std::int64_t offset = 0; // position of a sample less its timestamp
        std::int64_t target = 0; // what offset moves to
        std::int64_t first = 0;  // position of the first packet
        std::int64_t settling_since = 0;
        unsigned settling_packets = 0;
        std::int64_t window_since = 0;
        unsigned window_packets = 0;
        std::int64_t least_delay = kNone;
        std::int64_t least_delay_before = kNone; // of the window before
        std::int64_t waiting_since = kNone;      // for a pause to move in
    };

    std::int64_t at(const Stream &stream, std::uint32_t timestamp) const noexcept;
    bool fits(const Stream &stream, std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) const noexcept;
    bool resumes(const Stream &stream, std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) const noexcept;
    bool is_settling(const Stream &stream, std::int64_t arrival) const noexcept;
    std::int64_t begin(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) noexcept;
    std::int64_t go_on(std::uint32_t timestamp, std::int64_t arrival, bool quiet) noexcept;
    std::int64_t overtaken_at(std::uint32_t ssrc, std::uint32_t timestamp, std::int64_t arrival) noexcept;
    static std::int64_t counted(const Stream &stream, std::uint32_t timestamp) noexcept {
        return stream.newest + static_cast<std::int32_t>(timestamp - stream.newest_timestamp);
    }
    static std::int64_t order(const Stream &stream, std::uint32_t timestamp) noexcept {
        return (stream.number << kOrderBits) + counted(stream, timestamp);
    }
    void settle(Stream &stream, std::int64_t delay, std::int64_t arrival) noexcept;
    void follow(Stream &stream, std::int64_t delay, std::int64_t arrival) noexcept;
    void shift(Stream &stream, std::int64_t by) const noexcept;
    std::int64_t in_positions(std::int64_t timestamp) const noexcept { return timestamp * position_rate_ / rtp_rate_; }
    std::int64_t ms(std::int64_t milliseconds) const noexcept { return milliseconds * position_rate_ / 1000; }

    std::int64_t rtp_rate_;
    const std::int64_t position_rate_;
    Stream current_;
    Stream before_;
    Stream waiting_; // of the packet that waits for the next
    std::int64_t streams_ = 0;
    std::int64_t order_ = 0;
    std::int64_t waited_ = kNowhere;
    std::int64_t waited_order_ = 0;
    Move moved_;
    bool began_ = false;
};

} // namespace recorder
