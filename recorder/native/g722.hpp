// G.722 at 64 kbit/s, the decoder (Recommendation ITU-T G.722, sections 4 and 5.2; what it calls a block is a step here).
//
// Why not a library's: pjmedia's can be had only through its endpoint, which is gone before the writer has read the last
// packets; what is beneath (g722_dec_decode) has no installed header, and its state would have to be laid out here by
// guess. libspandsp has one, but brings libtiff and eight image and packing libraries more into the process that carries
// the calls, for one function. tests/native/test_codecs.py holds this one against FFmpeg's, bit by bit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace recorder {

class G722 {
  public:
    // Two samples a byte, 16000 a second.
    void decode(const std::uint8_t *payload, std::size_t size, std::int16_t *out) noexcept;

  private:
    // The adaptive predictor and quantizer scale of one sub-band.
    struct Band {
        explicit Band(int scale) noexcept : scale(scale) {}
        void adapt(int difference) noexcept; // block 4

        int estimate = 0; // of the next sample
        int zeros_part = 0;
        int log_scale = 0;
        int scale;
        std::array<int, 2> reconstructed{};
        std::array<int, 2> partial{};
        std::array<int, 2> poles{};
        std::array<int, 6> zeros{};
        std::array<int, 6> differences{};
    };

    Band low_{32};
    Band high_{8};
    std::array<int, 24> history_{}; // of the receiving quadrature mirror filter
};

} // namespace recorder
