// The ring's three threads at once, for ThreadSanitizer and AddressSanitizer; test_ring_race.py compiles and runs it.
//
// A producer puts frames, a second thread shuts and opens the gate and records the spans in between, a third reads. At the
// end every sample that was read is held against the spans: one that is not zero inside a span fails the test.
#include "ring.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

using recorder::Ring;

int main(int argc, char **argv) {
    constexpr unsigned kFrame = 16;
    const unsigned frames = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 100000;
    Ring ring(kFrame, std::size_t{kFrame} * 64);
    std::atomic<bool> done{false};
    std::vector<std::int16_t> heard;
    std::vector<Ring::Span> shut; // from, to
    std::uint64_t dropped = 0;

    std::thread producer([&] {
        const std::vector<std::int16_t> frame(kFrame, 7);
        for (unsigned i = 0; i < frames; ++i)
            ring.put(std::uint64_t{i} * kFrame, frame.data(), frame.size());
        done = true;
    });
    std::thread gate([&] {
        for (unsigned i = 0; !done; ++i) {
            const std::uint64_t from = ring.close_gate();
            if (ring.gated())
                std::this_thread::yield();
            shut.emplace_back(from, ring.open_gate(i % 3 * kFrame));
        }
    });
    std::thread reader([&] {
        std::vector<std::int16_t> block(1000);
        for (bool last = false; !last;) {
            last = done; // what is committed by now is read below
            for (;;) {
                const auto [position, ready] = ring.available();
                const std::size_t count = std::min(ready, block.size());
                if (position != heard.size())
                    std::abort(); // not contiguous
                if (count == 0)
                    break;
                ring.read(block.data(), count);
                heard.insert(heard.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(count));
            }
            for (const auto &[start, length] : ring.take_gaps())
                dropped += length;
        }
    });
    producer.join();
    gate.join();
    reader.join();

    std::size_t leaked = 0;
    std::size_t sound = 0;
    for (const auto &[from, to] : shut)
        for (std::uint64_t i = from; i < to && i < heard.size(); ++i)
            leaked += heard[i] != 0;
    for (const std::int16_t sample : heard)
        sound += sample != 0;
    std::printf("spans=%zu heard=%zu sound=%zu leaked=%zu dropped=%zu\n", shut.size(), heard.size(), sound, leaked,
                static_cast<std::size_t>(ring.dropped_samples()));
    const bool complete = heard.size() == std::size_t{frames} * kFrame && dropped <= ring.dropped_samples();
    return leaked == 0 && complete && sound > 0 ? 0 : 1;
}
