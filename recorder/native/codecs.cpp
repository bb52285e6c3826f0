#include "codecs.hpp"

#include "g722.hpp"

#include <gsm/gsm.h>
#include <opus/opus.h>
#include <speex/speex_resampler.h>

extern "C" { // it is C that does not say so
#include <bcg729/decoder.h>
}

#include <algorithm>
#include <array>
#include <cctype>
#include <new>
#include <utility>

namespace recorder {
namespace {

constexpr std::size_t kGsmFrame = 33, kGsmSamples = 160;   // RFC 3551, section 4.5.8
constexpr std::size_t kG729Frame = 10, kG729Samples = 80;  // section 4.5.6
constexpr std::size_t kLongestMiss = 20;                   // frames; what is more changes no decoder any more
constexpr unsigned kOpusClock = 48000;                     // RFC 7587, section 4.1
constexpr unsigned kLongestOpus = 120;                     // milliseconds (RFC 6716, section 2.1.4)
constexpr int kQuality = 5;                                // of libspeexdsp, up to 10: stop band 80 dB down

constexpr std::pair<const char *, Codec> kNames[] = {
    {"PCMU", Codec::pcmu}, {"PCMA", Codec::pcma}, {"GSM", Codec::gsm},   {"telephone-event", Codec::event},
    {"G722", Codec::g722}, {"G729", Codec::g729}, {"opus", Codec::opus},
};

class G711Decoder : public Decoder {
  public:
    using Table = std::array<std::int16_t, 256>;

    explicit G711Decoder(const Table &table) : Decoder(kNarrow), table_(table) {}

    void decode(const std::uint8_t *payload, std::size_t size, std::vector<std::int16_t> &out) override {
        std::transform(payload, payload + size, std::back_inserter(out),
                       [this](std::uint8_t code) { return table_[code]; });
    }

  private:
    const Table &table_;
};

// Recommendation ITU-T G.711, tables 1a to 2b: a sign, an exponent of three bits, a mantissa of four.
constexpr G711Decoder::Table make_mu_law() {
    G711Decoder::Table table{};
    for (int code = 0; code < 256; ++code) {
        const int bits = ~code & 0xff, exponent = (bits >> 4) & 7;
        const int level = (((2 * (bits & 15) + 33) << exponent) - 33) * 4;
        table[static_cast<std::size_t>(code)] = static_cast<std::int16_t>(bits & 0x80 ? -level : level);
    }
    return table;
}

constexpr G711Decoder::Table make_a_law() {
    G711Decoder::Table table{};
    for (int code = 0; code < 256; ++code) {
        const int bits = code ^ 0x55, exponent = (bits >> 4) & 7, mantissa = 2 * (bits & 15);
        const int level = (exponent == 0 ? mantissa + 1 : (mantissa + 33) << (exponent - 1)) * 8;
        table[static_cast<std::size_t>(code)] = static_cast<std::int16_t>(bits & 0x80 ? level : -level);
    }
    return table;
}

constexpr G711Decoder::Table mu_law = make_mu_law(), a_law = make_a_law();

class GsmDecoder : public Decoder {
  public:
    GsmDecoder() : Decoder(kNarrow), state_(gsm_create()) {
        if (!state_)
            throw std::bad_alloc();
    }

    void decode(const std::uint8_t *payload, std::size_t size, std::vector<std::int16_t> &out) override {
        for (; size >= kGsmFrame; payload += kGsmFrame, size -= kGsmFrame) {
            out.resize(out.size() + kGsmSamples);
            if (gsm_decode(state_.get(), const_cast<gsm_byte *>(payload), out.data() + out.size() - kGsmSamples) != 0)
                std::fill(out.end() - kGsmSamples, out.end(), std::int16_t{0});
        }
    }

  private:
    struct Free {
        void operator()(gsm state) const noexcept { gsm_destroy(state); }
    };
    std::unique_ptr<std::remove_pointer_t<gsm>, Free> state_;
};

class G729Decoder : public Decoder {
  public:
    G729Decoder() : Decoder(kNarrow), state_(initBcg729DecoderChannel()) {
        if (!state_)
            throw std::bad_alloc();
    }

    // What is left of a payload, 2 bytes, describes the noise of a pause (annex B): silence.
    void decode(const std::uint8_t *payload, std::size_t size, std::vector<std::int16_t> &out) override {
        for (; size >= kG729Frame; payload += kG729Frame, size -= kG729Frame) {
            out.resize(out.size() + kG729Samples);
            bcg729Decoder(state_.get(), payload, kG729Frame, 0, 0, 0, out.data() + out.size() - kG729Samples);
        }
    }

    // At a loss of 5 % of the packets, those that are heard are 2 dB nearer to what they were to be.
    void miss(std::size_t samples) override {
        std::int16_t unheard[kG729Samples];
        for (std::size_t frames = std::min(samples / kG729Samples, kLongestMiss); frames > 0; --frames)
            bcg729Decoder(state_.get(), nullptr, 0, 1, 0, 0, unheard);
    }

  private:
    struct Free {
        void operator()(bcg729DecoderChannelContextStruct *state) const noexcept { closeBcg729DecoderChannel(state); }
    };
    std::unique_ptr<bcg729DecoderChannelContextStruct, Free> state_;
};

class G722Decoder : public Decoder {
  public:
    G722Decoder() : Decoder(kWide) {}

    void decode(const std::uint8_t *payload, std::size_t size, std::vector<std::int16_t> &out) override {
        out.resize(out.size() + 2 * size);
        state_.decode(payload, size, out.data() + out.size() - 2 * size);
    }

  private:
    G722 state_;
};

class OpusDecoder : public Decoder { // two channels become one
  public:
    explicit OpusDecoder(unsigned rate_hz) : Decoder(rate_hz) {
        int error = OPUS_OK;
        state_.reset(opus_decoder_create(static_cast<opus_int32>(rate_hz), 1, &error));
        if (!state_)
            throw std::bad_alloc();
    }

    void decode(const std::uint8_t *payload, std::size_t size, std::vector<std::int16_t> &out) override {
        const std::size_t before = out.size(), room = rate_hz() * kLongestOpus / 1000;
        out.resize(before + room);
        const int count = opus_decode(state_.get(), payload, static_cast<opus_int32>(size), out.data() + before,
                                      static_cast<int>(room), 0);
        out.resize(before + static_cast<std::size_t>(std::max(count, 0)));
    }

  private:
    struct Free {
        void operator()(::OpusDecoder *state) const noexcept { opus_decoder_destroy(state); }
    };
    std::unique_ptr<::OpusDecoder, Free> state_;
};

} // namespace

std::int16_t linear(Codec codec, std::uint8_t code) noexcept { return (codec == Codec::pcmu ? mu_law : a_law)[code]; }

Codec codec_named(const std::string &name) noexcept {
    const auto same = [&name](const std::string &known) {
        return std::equal(name.begin(), name.end(), known.begin(), known.end(),
                          [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); });
    };
    for (const auto &[known, codec] : kNames)
        if (same(known))
            return codec;
    return Codec::none;
}

Payloads static_payloads() noexcept {
    Payloads payloads{};
    payloads[0] = Codec::pcmu;
    payloads[3] = Codec::gsm;
    payloads[8] = Codec::pcma;
    payloads[9] = Codec::g722;
    payloads[18] = Codec::g729;
    return payloads;
}

unsigned rtp_clock_rate(Codec codec) noexcept { return codec == Codec::opus ? kOpusClock : kNarrow; }

unsigned duration_of(Codec codec, const std::uint8_t *payload, std::size_t size) noexcept {
    switch (codec) {
    case Codec::none:
    case Codec::event:
        return 0;
    case Codec::gsm:
        return static_cast<unsigned>(size / kGsmFrame * kGsmSamples);
    case Codec::g729:
        return static_cast<unsigned>(size / kG729Frame * kG729Samples);
    case Codec::opus: {
        const int samples =
            size > 0 ? opus_packet_get_nb_samples(payload, static_cast<opus_int32>(size), kOpusClock) : 0;
        return static_cast<unsigned>(std::max(samples, 0));
    }
    default:
        return static_cast<unsigned>(size);
    }
}

std::unique_ptr<Decoder> make_decoder(Codec codec, unsigned wanted_hz) {
    switch (codec) {
    case Codec::pcmu:
        return std::make_unique<G711Decoder>(mu_law);
    case Codec::pcma:
        return std::make_unique<G711Decoder>(a_law);
    case Codec::gsm:
        return std::make_unique<GsmDecoder>();
    case Codec::g722:
        return std::make_unique<G722Decoder>();
    case Codec::g729:
        return std::make_unique<G729Decoder>();
    case Codec::opus:
        return std::make_unique<OpusDecoder>(wanted_hz);
    case Codec::none:
    case Codec::event:
        break;
    }
    return nullptr;
}

void Resampler::Free::operator()(void *state) const noexcept {
    speex_resampler_destroy(static_cast<SpeexResamplerState *>(state));
}

Resampler::Resampler(unsigned from_hz, unsigned to_hz) : from_hz_(from_hz), to_hz_(to_hz) {
    int error = RESAMPLER_ERR_SUCCESS;
    SpeexResamplerState *state = speex_resampler_init(1, from_hz, to_hz, kQuality, &error);
    if (state == nullptr)
        throw std::bad_alloc();
    state_.reset(state);
    speex_resampler_skip_zeros(state); // the first sample out is the first one in
}

unsigned Resampler::longest_delay(unsigned to_hz) noexcept { return to_hz / 200; }

void Resampler::resample(const std::vector<std::int16_t> &in, std::vector<std::int16_t> &out) {
    in_ += in.size();
    std::size_t taken = 0;
    while (taken < in.size()) {
        const std::size_t before = out.size();
        auto count = static_cast<spx_uint32_t>(in.size() - taken);
        spx_uint32_t made = count * to_hz_ / from_hz_ + 1;
        out.resize(before + made);
        speex_resampler_process_int(static_cast<SpeexResamplerState *>(state_.get()), 0, in.data() + taken, &count,
                                    out.data() + before, &made);
        out.resize(before + made);
        taken += count;
        out_ += made;
    }
}

void Resampler::flush(std::vector<std::int16_t> &out) {
    const std::uint64_t all = in_ * to_hz_ / from_hz_;
    const std::size_t end = out.size() + static_cast<std::size_t>(all - out_);
    const auto latency = static_cast<std::size_t>(
        speex_resampler_get_input_latency(static_cast<SpeexResamplerState *>(state_.get())));
    resample(std::vector<std::int16_t>(latency), out);
    out.resize(end);
}

} // namespace recorder
