// A conference port that hears one leg and puts what it hears into a Ring.
//
// Threads: the sip thread makes, attaches, detaches and drops a Tap; the media thread only ever sees the port; the
// writer thread reads the ring. The port and the Tap each hold the ring, so neither has to outlive the other.
#pragma once

#include "ring.hpp"

#include <atomic>
#include <memory>
#include <string>

namespace recorder {

class Tap {
  public:
    Tap(std::string name, unsigned clock_rate_hz, unsigned samples_per_frame, std::size_t capacity_samples);
    ~Tap();
    Tap(const Tap &) = delete;
    Tap &operator=(const Tap &) = delete;

    void attach(int source_slot);
    void detach();
    bool attached() const noexcept { return slot_ >= 0; }

    Ring &ring() noexcept { return heard_->ring; }
    const std::string &name() const noexcept { return name_; }

    struct Heard {
        Heard(unsigned samples_per_frame, std::size_t capacity_samples) : ring(samples_per_frame, capacity_samples) {}
        Ring ring;
        std::atomic<bool> in_bridge{false}; // false again once the bridge has let go of the port
    };

  private:
    void add_to_bridge();

    const std::string name_;
    const unsigned clock_rate_hz_;
    const std::shared_ptr<Heard> heard_;
    int slot_ = -1;
    bool detached_ = false;
};

} // namespace recorder
