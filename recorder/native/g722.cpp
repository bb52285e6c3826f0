#include "g722.hpp"

#include <algorithm>

namespace recorder {
namespace {

// Tables 14 to 21 of the recommendation.
constexpr int kLowSix[64] = {
    -136,  -136,  -136,  -136,  -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576, -7856,
    -7192, -6576, -6000, -5456, -4944,  -4464,  -4008,  -3576,  -3168,  -2776,  -2400,  -2032,  -1688,  -1360, -1040, -728,
    24808, 21904, 19008, 16704, 14984,  13512,  12280,  11192,  10232,  9360,   8576,   7856,   7192,   6576,  6000,  5456,
    4944,  4464,  4008,  3576,  3168,   2776,   2400,   2032,   1688,   1360,   1040,   728,    432,    136,   -432,  -136,
};
constexpr int kLowFour[16] = {0,     -20456, -12896, -8968, -6288, -4240, -2584, -1200,
                              20456, 12896,  8968,   6288,  4240,  2584,  1200,  0};
constexpr int kLowStep[16] = {-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60};
constexpr int kHighTwo[4] = {-7408, -1616, 7408, 1616};
constexpr int kHighStep[4] = {798, -214, 798, -214};
constexpr int kInverseLog[32] = {2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543,
                                 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025, 3091, 3158, 3228,
                                 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008};
constexpr int kMirror[12] = {3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11};

constexpr int kLargestLowLog = 18432;
constexpr int kLargestHighLog = 22528;

int saturated(int value) { return std::clamp(value, -32768, 32767); }

int scaled(int a, int b) { return (a * b) >> 15; }

int limited(int value) { return std::clamp(value, -16384, 16383); }

int linear_scale(int log_scale, int exponent) {
    const int shift = exponent - (log_scale >> 11);
    const int mantissa = kInverseLog[(log_scale >> 6) & 31];
    return (shift < 0 ? mantissa << -shift : mantissa >> shift) << 2;
}

} // namespace

void G722::Band::adapt(int difference) noexcept {
    const int sample = saturated(estimate + difference);
    const int part = saturated(zeros_part + difference);
    const bool same_as_last = (part < 0) == (partial[0] < 0);
    const bool same_as_before = (part < 0) == (partial[1] < 0);

    const int slope = saturated(poles[0] * 4);
    const int second = (same_as_before ? 128 : -128) + (std::min(same_as_last ? -slope : slope, 32767) >> 7) +
                       scaled(poles[1], 32512);
    poles[1] = std::clamp(second, -12288, 12288);
    const int bound = saturated(15360 - poles[1]);
    poles[0] = std::clamp(saturated((same_as_last ? 192 : -192) + scaled(poles[0], 32640)), -bound, bound);

    const int step = difference == 0 ? 0 : 128;
    for (std::size_t i = 0; i < zeros.size(); ++i) {
        const bool same = (differences[i] < 0) == (difference < 0);
        zeros[i] = saturated((same ? step : -step) + scaled(zeros[i], 32640));
    }
    std::copy_backward(differences.begin(), differences.end() - 1, differences.end());
    differences[0] = difference;
    reconstructed = {sample, reconstructed[0]};
    partial = {part, partial[0]};

    zeros_part = 0;
    for (std::size_t i = zeros.size(); i-- > 0;)
        zeros_part = saturated(zeros_part + scaled(zeros[i], saturated(2 * differences[i])));
    const int poles_part = saturated(scaled(poles[0], saturated(2 * reconstructed[0])) +
                                     scaled(poles[1], saturated(2 * reconstructed[1])));
    estimate = saturated(poles_part + zeros_part);
}

void G722::decode(const std::uint8_t *payload, std::size_t size, std::int16_t *out) noexcept {
    for (const std::uint8_t *code = payload; code != payload + size; ++code, out += 2) {
        const int six = *code & 0x3f, four = six >> 2, two = *code >> 6;
        const int low = limited(low_.estimate + scaled(low_.scale, kLowSix[six]));
        const int low_difference = scaled(low_.scale, kLowFour[four]);
        low_.log_scale = std::clamp((low_.log_scale * 127 >> 7) + kLowStep[four], 0, kLargestLowLog);
        low_.scale = linear_scale(low_.log_scale, 8);
        low_.adapt(low_difference);

        const int high_difference = scaled(high_.scale, kHighTwo[two]);
        const int high = limited(high_.estimate + high_difference);
        high_.log_scale = std::clamp((high_.log_scale * 127 >> 7) + kHighStep[two], 0, kLargestHighLog);
        high_.scale = linear_scale(high_.log_scale, 10);
        high_.adapt(high_difference);

        std::copy(history_.begin() + 2, history_.end(), history_.begin());
        history_[22] = low + high;
        history_[23] = low - high;
        int even = 0, odd = 0;
        for (std::size_t i = 0; i < 12; ++i) {
            even += history_[2 * i] * kMirror[i];
            odd += history_[2 * i + 1] * kMirror[11 - i];
        }
        out[0] = static_cast<std::int16_t>(saturated(odd >> 11));
        out[1] = static_cast<std::int16_t>(saturated(even >> 11));
    }
}

} // namespace recorder
