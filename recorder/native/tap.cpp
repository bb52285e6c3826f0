#include "tap.hpp"

#include "bridge.hpp"
#include "media_clock.hpp"
#include "pj.hpp"

#include <stdexcept>
#include <utility>

namespace recorder {
namespace {

// What the bridge holds. Its life ends when the bridge drops the last reference to the group lock, which happens on the
// media thread, one tick or more after detach.
struct Port {
    pjmedia_port base; // first, so that the bridge's pointer is ours
    std::shared_ptr<Tap::Heard> heard;
    std::string name;
    unsigned clock_rate_hz;
    std::uint64_t offset; // of the media clock from the bridge's, settled by the first frame
    bool started;
    Port *next_dead;
};

// Freeing a ring may be a system call, so the media thread leaves dead ports here and the sip thread frees them.
std::atomic<Port *> dead_ports{nullptr};

void free_dead_ports() {
    Port *port = dead_ports.exchange(nullptr, std::memory_order_acquire);
    while (port != nullptr)
        delete std::exchange(port, port->next_dead);
}

std::atomic<std::uint64_t> common_offset{0};
constexpr unsigned kBuffered = 40; // 25 ms, as a part of a second

// [media] What turns the bridge's timestamps into positions of the media clock: one number for all taps, so that their
// frames stay aligned; a new one when the bridge has begun anew, or has left out ticks on a machine that stood still.
std::uint64_t bridge_offset(unsigned clock_rate_hz, std::uint64_t timestamp) {
    // What the bridge plays now came in a tick or two ago: that long the jitter buffer holds it at least.
    const std::uint64_t now = static_cast<std::uint64_t>(media_clock(clock_rate_hz)) - clock_rate_hz / kBuffered;
    const std::uint64_t offset = now - timestamp;
    const auto apart = static_cast<std::int64_t>(offset - common_offset.load(std::memory_order_relaxed));
    if (apart < -static_cast<std::int64_t>(clock_rate_hz / 25) || apart > static_cast<std::int64_t>(clock_rate_hz / 25))
        common_offset.store(offset, std::memory_order_relaxed);
    return common_offset.load(std::memory_order_relaxed);
}

// [media]
pj_status_t put_frame(pjmedia_port *base, pjmedia_frame *frame) {
    Port &port = *reinterpret_cast<Port *>(base);
    if (!port.started) {
        port.started = true;
        port.offset = bridge_offset(port.clock_rate_hz, frame->timestamp.u64);
    }
    const bool audio = frame->type == PJMEDIA_FRAME_TYPE_AUDIO;
    port.heard->ring.put(frame->timestamp.u64 + port.offset,
                         audio ? static_cast<const std::int16_t *>(frame->buf) : nullptr,
                         audio ? frame->size / sizeof(std::int16_t) : 0);
    return PJ_SUCCESS;
}

// [media; or sip, while the bridge is torn down]
pj_status_t on_destroy(pjmedia_port *base) {
    Port *port = reinterpret_cast<Port *>(base);
    port->heard->in_bridge.store(false, std::memory_order_release);
    port->next_dead = dead_ports.load(std::memory_order_relaxed);
    while (!dead_ports.compare_exchange_weak(port->next_dead, port, std::memory_order_release,
                                             std::memory_order_relaxed)) {
    }
    return PJ_SUCCESS;
}

} // namespace

Tap::Tap(std::string name, unsigned clock_rate_hz, unsigned samples_per_frame, std::size_t capacity_samples)
    : name_(std::move(name)), clock_rate_hz_(clock_rate_hz),
      heard_(std::make_shared<Heard>(samples_per_frame, capacity_samples)) {
    free_dead_ports();
}

Tap::~Tap() {
    // Dropped without detach, perhaps by the garbage collector on another thread: then the port stays in the bridge,
    // harmless, and keeps the ring. Only the sip thread may take it out.
    if (attached() && is_pjsua_up() && pj_thread_is_registered())
        detach();
}

void Tap::attach(int source_slot) {
    require_sip_thread();
    free_dead_ports();
    if (detached_)
        throw std::runtime_error("tap " + name_ + " has been detached: its ring takes one producer, make a new Tap");
    if (!attached())
        add_to_bridge();
    connect(source_slot, slot_);
}

void Tap::add_to_bridge() {
    keep_python_off_the_media_thread();
    auto port = std::make_unique<Port>();
    port->base = {};
    port->heard = heard_;
    port->name = name_;
    port->clock_rate_hz = clock_rate_hz_;
    port->started = false;
    pj_str_t name = {port->name.data(), static_cast<pj_ssize_t>(port->name.size())};
    require(pjmedia_port_info_init(&port->base.info, &name, PJMEDIA_SIG_CLASS_APP('T', 'A', 'P'), clock_rate_hz_, 1, 16,
                                   heard_->ring.samples_per_frame()),
            "cannot describe the tap's port");
    port->base.put_frame = &put_frame;
    port->base.on_destroy = &on_destroy;

    // Both calls below only take the pool's factory, to make pools of their own.
    pj_pool_t *pool = pjsua_pool_create("tap", 512, 512);
    if (pool == nullptr)
        throw std::bad_alloc();
    pj_status_t status = pjmedia_port_init_grp_lock(&port->base, pool, nullptr);
    if (status != PJ_SUCCESS) {
        pj_pool_release(pool);
        require(status, "cannot make the tap's lock");
    }
    // From here on the group lock owns the port: on_destroy runs when the last reference goes.
    Port *owned = port.release();
    heard_->in_bridge.store(true, std::memory_order_release);
    pjsua_conf_port_id slot = PJSUA_INVALID_ID;
    status = pjsua_conf_add_port(pool, &owned->base, &slot);
    pjmedia_port_dec_ref(&owned->base); // ours; the bridge took its own, if it took the port
    pj_pool_release(pool);
    require(status, "cannot add the tap to the bridge");
    slot_ = slot;
}

void Tap::detach() {
    if (!attached())
        return;
    const int slot = std::exchange(slot_, -1);
    detached_ = true;
    // The bridge may be gone already, or a new one be there whose slot of this number is another's.
    if (!heard_->in_bridge.load(std::memory_order_acquire))
        return;
    require_sip_thread();
    require(pjsua_conf_remove_port(slot), "cannot remove the tap from the bridge");
    free_dead_ports();
}

} // namespace recorder
