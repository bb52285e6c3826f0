// The ring's threads against one another, at full speed and under sanitizers; test_ring_race.py compiles and runs it.
//
// The gate: one thread puts sound, another shuts the gate and opens it, and notes what it was told. Afterwards every
// sample is held against those notes. The ring is large enough to drop nothing, so that nothing hides a leak.
// The reader: one thread puts sound, another reads a ring that is too small. What is read must be contiguous, and each
// sample either the one that was put at its position or, in a gap that was reported, zero.
#include "ring.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

using recorder::Ring;

namespace {

constexpr unsigned kFrame = 16;

// Never zero, and another for each of 32,000 positions.
std::int16_t sample_at(std::uint64_t position) { return static_cast<std::int16_t>(position % 32000 + 1); }

void put_all(Ring &ring, unsigned frames, std::atomic<bool> &done) {
    std::int16_t frame[kFrame];
    for (std::uint64_t position = 0; position < std::uint64_t{frames} * kFrame; position += kFrame) {
        for (unsigned i = 0; i < kFrame; ++i)
            frame[i] = sample_at(position + i);
        ring.put(position, frame, kFrame);
    }
    done = true;
}

// Adds to `spans` how often the gate was shut and opened again with sound in between.
bool gate_race(unsigned frames, std::size_t &spans) {
    Ring ring(kFrame, std::size_t{kFrame} * frames);
    std::atomic<bool> done{false};
    std::vector<std::pair<std::uint64_t, std::uint64_t>> shut; // from, to
    std::thread gate([&] {
        while (ring.position() == 0)
            std::this_thread::yield();
        for (unsigned i = 0; !done; ++i) {
            const std::uint64_t from = ring.close_gate();
            const std::uint64_t to = ring.open_gate(i % 3 * kFrame);
            shut.emplace_back(from, to);
            while (ring.position() <= to && !done) { // until sound flows again
            }
        }
    });
    put_all(ring, frames, done);
    gate.join();

    std::vector<std::int16_t> heard(ring.position());
    ring.read(heard.data(), heard.size());
    std::size_t leaked = 0;
    for (const auto &[from, to] : shut)
        for (std::uint64_t i = from; i < std::min<std::uint64_t>(to, heard.size()); ++i)
            leaked += heard[i] != 0;
    for (std::size_t i = 0; i < heard.size(); ++i)
        if (heard[i] != 0 && heard[i] != sample_at(i))
            return false;
    spans += shut.size();
    if (leaked != 0)
        std::printf("gate: %zu samples leaked in %zu spans\n", leaked, shut.size());
    return leaked == 0 && heard.size() == std::size_t{frames} * kFrame;
}

bool reader_race(unsigned frames) {
    Ring ring(kFrame, std::size_t{kFrame} * 512);
    std::atomic<bool> done{false};
    std::vector<std::int16_t> heard;
    std::size_t reported = 0;
    bool contiguous = true;
    std::thread reader([&] {
        std::vector<std::int16_t> block(100);
        for (bool last = false; !last;) {
            last = done; // what is committed by now is read below
            for (;;) {
                const auto [position, ready] = ring.available();
                const std::size_t count = std::min(ready, block.size());
                contiguous = contiguous && position == heard.size();
                if (count == 0)
                    break;
                ring.read(block.data(), count);
                heard.insert(heard.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(count));
            }
            for (const auto &[start, length] : ring.take_gaps())
                reported += length;
        }
    });
    put_all(ring, frames, done);
    reader.join();

    std::size_t silent = 0;
    for (std::size_t i = 0; i < heard.size(); ++i) {
        silent += heard[i] == 0;
        if (heard[i] != 0 && heard[i] != sample_at(i))
            return false;
    }
    return contiguous && heard.size() == std::size_t{frames} * kFrame && silent == ring.dropped_samples() &&
           reported <= silent && silent < heard.size();
}

} // namespace

// Threads that share a core with others do not meet by themselves: it goes on until they have met often enough.
int main(int, char **argv) {
    constexpr unsigned kFrames = 100000;
    const auto wanted_spans = static_cast<std::size_t>(std::atol(argv[1]));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    std::size_t spans = 0;
    unsigned rounds = 0;
    for (; spans < wanted_spans && std::chrono::steady_clock::now() < deadline; ++rounds)
        if (!gate_race(kFrames, spans) || !reader_race(kFrames)) {
            std::printf("failed in round %u\n", rounds);
            return 1;
        }
    std::printf("rounds=%u spans=%zu\n", rounds, spans);
    return spans >= wanted_spans ? 0 : 2;
}
