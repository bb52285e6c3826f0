// The one clock that all positions of all recordings are counted on: samples since the machine was started.
#pragma once

#include <cstdint>
#include <ctime>

namespace recorder {

// [any] CLOCK_MONOTONIC in samples of `rate_hz`. It neither jumps nor waits, whatever happens to the bridge's ticks.
inline std::int64_t media_clock(unsigned rate_hz) noexcept {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * rate_hz + std::int64_t{now.tv_nsec} * rate_hz / 1'000'000'000;
}

} // namespace recorder
