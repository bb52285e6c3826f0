#include "wake.hpp"

#include "pj.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include <sys/socket.h>
#include <unistd.h>

namespace recorder {
namespace {

std::atomic<int> sender{-1};
std::atomic<bool> asked{false}; // one packet at a time is enough
int receiver = -1;
pj_pool_t *pool = nullptr;
pj_ioqueue_key_t *key = nullptr;
pj_ioqueue_op_key_t operation;
char byte;

// [sip] Whoever asks from here on has what he asked for seen to in another turn.
void listen(pj_ioqueue_key_t *on) {
    pj_ssize_t size = 0;
    do {
        asked.store(false, std::memory_order_seq_cst);
        size = sizeof byte;
    } while (pj_ioqueue_recv(on, &operation, &byte, &size, 0) == PJ_SUCCESS);
}

void on_read(pj_ioqueue_key_t *on, pj_ioqueue_op_key_t *, pj_ssize_t) { listen(on); }

} // namespace

void install_wake() {
    require_sip_thread();
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
        throw std::runtime_error(std::string("no socket to wake the sip thread with: ") + std::strerror(errno));
    receiver = ends[0];
    pool = pjsua_pool_create("wake", 512, 512);
    pj_ioqueue_op_key_init(&operation, sizeof operation);
    pj_ioqueue_callback callback{};
    callback.on_read_complete = &on_read;
    require(pj_ioqueue_register_sock(pool, pjsip_endpt_get_ioqueue(pjsua_var.endpt), receiver, nullptr, &callback, &key),
            "cannot wait for wake-ups");
    listen(key);
    sender.store(ends[1], std::memory_order_release);
}

void uninstall_wake() {
    const int end = sender.exchange(-1, std::memory_order_acq_rel);
    if (end < 0)
        return;
    pj_ioqueue_unregister(key); // closes `receiver`
    key = nullptr;
    pj_pool_release(pool);
    close(end);
}

void wake() noexcept {
    const int end = sender.load(std::memory_order_acquire);
    if (end >= 0 && !asked.exchange(true, std::memory_order_seq_cst))
        send(end, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

} // namespace recorder
