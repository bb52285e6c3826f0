// The threads of an RtpRing against one another, at full speed and under sanitizers; test_rtp_ring_race.py compiles and
// runs it.
//
// One thread puts packets, each of a level of its own, another reads, a third shuts the gate and opens it and notes what
// it was told. Afterwards every sample is held against those notes: zero behind the gate, elsewhere what was put there.
// Time runs as fast as packets are put, but for the moments in which the gate is moved: these take none.
#include "rtp_ring.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

using recorder::Codec;
using recorder::RtpPacket;
using recorder::RtpRing;

namespace {

constexpr std::int64_t kStart = 1'000'000;
constexpr std::int64_t kPacket = 160;
constexpr std::int64_t kHold = 1600;
constexpr std::int64_t kCapacity = 32'000;

std::uint8_t code_of(std::int64_t number) { return static_cast<std::uint8_t>(0x80 + number % 100); }

} // namespace

int main(int, char **arguments) {
    const std::int64_t packets = std::atol(arguments[1]);
    RtpRing ring(8000, kStart, kCapacity, kHold);
    std::atomic<std::int64_t> now{kStart}, read_to{kStart}, limit{INT64_MAX};
    std::atomic<bool> done{false};

    std::thread media([&] {
        std::vector<std::uint8_t> payload(kPacket);
        for (std::int64_t number = 0; number < packets; ++number) {
            const std::int64_t at = kStart + number * kPacket;
            while (at - read_to > kCapacity / 2 || at > limit)
                std::this_thread::yield();
            std::fill(payload.begin(), payload.end(), code_of(number));
            now = at;
            ring.put({0, static_cast<std::uint16_t>(number), static_cast<std::uint32_t>(number * kPacket), 7,
                      payload.data(), payload.size()},
                     Codec::pcmu, at);
        }
        now = kStart + packets * kPacket;
        ring.end(now);
        done = true;
    });

    std::vector<std::pair<std::int64_t, std::int64_t>> shut;
    const auto hold_time_and = [&](auto &&move) {
        limit = now + kHold / 4;
        const std::int64_t moved = move();
        limit = INT64_MAX;
        return moved;
    };
    std::thread gate([&] {
        for (int round = 0; !done; ++round) {
            const std::int64_t from = hold_time_and([&] { return ring.close_gate(now); });
            for (int wait = 0; wait < round % 50 && !done; ++wait)
                std::this_thread::yield();
            const std::int64_t to = hold_time_and([&] { return ring.open_gate(now, round % 5 * 100); });
            shut.emplace_back(from, to);
            while (now < to + 3 * kPacket && !done)
                std::this_thread::yield();
        }
    });

    std::vector<std::int16_t> heard;
    for (bool last = false; !last;) {
        last = done;
        const auto [position, count] = ring.available(now);
        if (position != kStart + static_cast<std::int64_t>(heard.size()))
            return std::puts("what was read is not in one piece"), 1;
        heard.resize(heard.size() + count);
        ring.read(heard.data() + heard.size() - count, count);
        read_to = position + static_cast<std::int64_t>(count);
        ring.take_gaps();
    }
    media.join();
    gate.join();

    std::vector<bool> gated(heard.size());
    for (const auto &[from, to] : shut)
        for (std::int64_t at = from; at < std::min(to, kStart + static_cast<std::int64_t>(heard.size())); ++at)
            gated[static_cast<std::size_t>(at - kStart)] = true;
    std::size_t leaked = 0, lost = 0;
    for (std::size_t i = 0; i < heard.size(); ++i) {
        const std::int16_t put = recorder::linear(Codec::pcmu, code_of(static_cast<std::int64_t>(i) / kPacket));
        leaked += gated[i] && heard[i] != 0;
        lost += !gated[i] && heard[i] != put;
    }
    const bool enough = shut.size() > 3 && lost <= 4 * kPacket * shut.size(); // what is put just as the gate moves
    std::printf("%zu samples, %zu times shut, %zu leaked, %zu lost\n", heard.size(), shut.size(), leaked, lost);
    return heard.size() != static_cast<std::size_t>(packets * kPacket) || leaked > 0 || !enough;
}
