// What the payloads of RTP packets hold: how long they last, and how they sound.
//
// The codecs' own libraries decode, not pjmedia: its Opus wraps each packet in a delay of one, its G.729 knows no pauses,
// each of its decoders drags an encoder along, and all are gone with the SIP stack, before the last packets are read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace recorder {

// event: a key that was pressed (RFC 4733), which is no sound.
enum class Codec : std::uint8_t { none, event, pcmu, pcma, gsm, g722, g729, opus };

constexpr bool is_audio(Codec codec) noexcept { return codec > Codec::event; }

inline constexpr unsigned kNarrow = 8000, kWide = 16000; // samples a second

// By its encoding name (RFC 3551, section 4.5; RFC 7587), in any case; none for one that cannot be decoded here.
Codec codec_named(const std::string &name) noexcept;

// Of RTP timestamps. That of G.722 is 8000 by a mistake that has stayed (RFC 3551, section 4.5.2).
unsigned rtp_clock_rate(Codec codec) noexcept;

// What payload types stand for that need no rtpmap (RFC 3551, table 4), the others nothing.
using Payloads = std::array<Codec, 128>;
Payloads static_payloads() noexcept;

// [any] How long a payload lasts, by the RTP clock; 0 for one that cannot be read, or that is silence.
unsigned duration_of(Codec codec, const std::uint8_t *payload, std::size_t size) noexcept;

// [any] A sample of PCMU or PCMA.
std::int16_t linear(Codec codec, std::uint8_t code) noexcept;

// A decoder with its memory of what came before. One thread at a time.
class Decoder {
  public:
    virtual ~Decoder() = default;
    // Adds what the payload sounds like to `out`. Where the payload cannot be read, less than it should last.
    virtual void decode(const std::uint8_t *payload, std::size_t size, std::vector<std::int16_t> &out) = 0;
    // So many samples never came: what comes next does not go on where the last payload ended.
    virtual void miss(std::size_t) {}
    unsigned rate_hz() const noexcept { return rate_hz_; } // of the samples

  protected:
    explicit Decoder(unsigned rate_hz) noexcept : rate_hz_(rate_hz) {}

  private:
    const unsigned rate_hz_;
};

// `wanted_hz` is the rate to decode at where the codec has a choice.
std::unique_ptr<Decoder> make_decoder(Codec codec, unsigned wanted_hz);

// 8000 samples a second to 16000, or the reverse. No delay: what has come in is all there once it has been flushed.
class Resampler {
  public:
    Resampler(unsigned from_hz, unsigned to_hz);
    void resample(const std::vector<std::int16_t> &in, std::vector<std::int16_t> &out); // adds to `out`
    void flush(std::vector<std::int16_t> &out); // adds what is still inside; nothing may come in after that

    // How much is inside at most, in samples that come out.
    static unsigned longest_delay(unsigned to_hz) noexcept;

  private:
    struct Free {
        void operator()(void *state) const noexcept;
    };
    std::unique_ptr<void, Free> state_;
    const unsigned from_hz_, to_hz_;
    std::uint64_t in_ = 0, out_ = 0;
};

} // namespace recorder
