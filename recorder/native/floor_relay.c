/* What relaying calls costs at the very least: the floor that `recorder loadtest` holds the recorder against.
 *
 *   floor_relay relay LEGS FIRST_PORT PEER_A_PORT PEER_B_PORT
 *       Leg i listens on 127.0.0.1:FIRST_PORT+i. Legs 2n and 2n+1 are one dialog: what comes in on one goes out of the
 *       other, to PEER_A_PORT (even legs) or PEER_B_PORT (odd legs). Each packet is copied into the leg's ring, as a
 *       recorder has to keep it. One thread, epoll, nothing else.
 *
 *   floor_relay send burst|spread A_PORT B_PORT PAYLOAD_TYPE A_FILE B_FILE
 *       The two ends of all dialogs: RTP of 20 ms, each side from one socket, as SIPp does it. Lines on standard input
 *       say to where: "a PORT" or "b PORT" begins a stream to 127.0.0.1:PORT of side a or b, "end PORT" ends it. A stream
 *       plays its side's file of raw G.711 in a loop. burst: all streams' packets at once every 20 ms; spread: evenly over
 *       the 20 ms. What comes back, and what is missing between its packets, is counted in spread, and left to the kernel in burst (SIPp reads nothing either).
 *
 * Both run until SIGTERM or the end of standard input (send) and print one JSON line of counts.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    RING_BYTES = 1 << 16,
    LARGEST_PACKET = 1500,
    READY_AT_ONCE = 256,
    FRAME_BYTES = 160,
    RTP_HEADER = 12,
    MOST_STREAMS = 8192,
};
static const uint32_t FIRST_SOURCE = 0x52000000u;
static const int64_t FRAME_NS = 20 * 1000 * 1000;

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static void fail(const char *what)
{
    fprintf(stderr, "floor_relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) fail("memory");
    return memory;
}

static struct sockaddr_in local(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int open_socket(int port)
{
    struct sockaddr_in address = local(port);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("bind");
    return fd;
}

/* ---- relay ---- */

struct leg {
    int fd;
    struct sockaddr_in peer;
    uint32_t written; /* wraps with the ring */
    uint8_t *ring;
};

static void keep(struct leg *leg, const uint8_t *packet, size_t size)
{
    size_t at = leg->written % RING_BYTES, room = RING_BYTES - at;
    size_t first = size < room ? size : room;
    memcpy(leg->ring + at, packet, first);
    memcpy(leg->ring, packet + first, size - first);
    leg->written += (uint32_t)size;
}

static int relay(int count, int first_port, int peer_a, int peer_b)
{
    struct leg *legs = zeroed((size_t)count, sizeof *legs);
    struct epoll_event ready[READY_AT_ONCE];
    uint8_t packet[LARGEST_PACKET];
    uint64_t relayed = 0, refused = 0;
    int queue = epoll_create1(EPOLL_CLOEXEC);
    if (queue < 0) fail("epoll_create1");
    for (int i = 0; i < count; i++) {
        legs[i].fd = open_socket(first_port + i);
        legs[i].peer = local(i % 2 ? peer_b : peer_a);
        legs[i].ring = zeroed(RING_BYTES, 1);
        struct epoll_event interest = {.events = EPOLLIN, .data.ptr = &legs[i]};
        if (epoll_ctl(queue, EPOLL_CTL_ADD, legs[i].fd, &interest) != 0) fail("epoll_ctl");
    }
    while (!stopping) {
        int events = epoll_wait(queue, ready, READY_AT_ONCE, 200);
        for (int k = 0; k < events; k++) {
            struct leg *in = ready[k].data.ptr, *out = &legs[(in - legs) ^ 1];
            ssize_t size = recv(in->fd, packet, sizeof packet, 0);
            if (size <= 0) continue;
            keep(in, packet, (size_t)size);
            if (sendto(out->fd, packet, (size_t)size, 0, (struct sockaddr *)&out->peer, sizeof out->peer) == size) relayed++;
            else refused++;
        }
    }
    printf("{\"relayed\": %llu, \"refused\": %llu}\n", (unsigned long long)relayed, (unsigned long long)refused);
    return 0;
}

/* ---- send ---- */

struct stream {
    int side;
    int port;
    uint16_t sequence;
    uint32_t timestamp;
    uint32_t source; /* SSRC */
    size_t position;
    int64_t offset_ns; /* within the 20 ms */
};

struct sound {
    uint8_t *bytes;
    size_t size;
};

static struct stream streams[MOST_STREAMS];
static int stream_count;

static struct sound load(const char *path)
{
    struct sound sound = {0};
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail(path);
    if (fseek(file, 0, SEEK_END) != 0) fail(path);
    sound.size = (size_t)ftell(file) / FRAME_BYTES * FRAME_BYTES;
    rewind(file);
    if (sound.size == 0) {
        fprintf(stderr, "floor_relay: %s: holds less than 20 ms\n", path);
        exit(1);
    }
    sound.bytes = zeroed(sound.size, 1);
    if (fread(sound.bytes, 1, sound.size, file) != sound.size) fail(path);
    fclose(file);
    return sound;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void obey(const char *line)
{
    char what[8];
    int port;
    if (sscanf(line, "%7s %d", what, &port) != 2) return;
    if (strcmp(what, "end") == 0) {
        for (int i = 0; i < stream_count; i++)
            if (streams[i].port == port) streams[i--] = streams[--stream_count];
    } else if (stream_count < MOST_STREAMS) {
        static uint32_t begun;
        struct stream stream = {.side = what[0] == 'b', .port = port, .source = FIRST_SOURCE + begun++ % MOST_STREAMS};
        /* The golden ratio's multiples fill an interval evenly, however many come. */
        uint32_t place = begun * UINT32_C(2654435769);
        stream.offset_ns = (int64_t)((uint64_t)place * (uint64_t)FRAME_NS >> 32);
        streams[stream_count++] = stream;
    }
}

static int listen_for_orders(void)
{
    static char buffer[1 << 16];
    static size_t held;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, buffer + held, sizeof buffer - 1 - held);
        if (got == 0) return 0;
        if (got < 0) return errno == EAGAIN || errno == EINTR;
        held += (size_t)got;
        buffer[held] = '\0';
        char *line = buffer, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            *end = '\0';
            obey(line);
            line = end + 1;
        }
        held -= (size_t)(line - buffer);
        memmove(buffer, line, held);
    }
}

static int64_t missing;

/* Counts what is not there between the packets of a stream: its SSRC tells whose they are (RFC 3550, section 5.1). */
static void count_missing(const uint8_t *packet)
{
    static uint16_t next[MOST_STREAMS];
    static uint8_t known[MOST_STREAMS];
    uint32_t source = (uint32_t)packet[8] << 24 | (uint32_t)packet[9] << 16 | (uint32_t)packet[10] << 8 | packet[11];
    uint16_t sequence = (uint16_t)(packet[2] << 8 | packet[3]);
    uint32_t stream = source - FIRST_SOURCE;
    if (stream >= MOST_STREAMS) return;
    int16_t skipped = known[stream] ? (int16_t)(sequence - next[stream]) : 0;
    if (skipped < 0) {
        missing--; /* it was only late */
        return;
    }
    missing += skipped;
    known[stream] = 1;
    next[stream] = (uint16_t)(sequence + 1);
}

static uint64_t drain(int fd)
{
    uint8_t packet[LARGEST_PACKET];
    uint64_t count = 0;
    ssize_t size;
    while ((size = recv(fd, packet, sizeof packet, 0)) > 0) {
        count++;
        if (size >= RTP_HEADER) count_missing(packet);
    }
    return count;
}

static void send_frame(int fd, struct stream *stream, const struct sound *sound, int payload_type)
{
    uint8_t packet[RTP_HEADER + FRAME_BYTES];
    uint16_t sequence = htons(stream->sequence);
    uint32_t timestamp = htonl(stream->timestamp), source = htonl(stream->source);
    struct sockaddr_in to = local(stream->port);
    packet[0] = 0x80; /* RFC 3550, section 5.1: version 2 */
    packet[1] = (uint8_t)(payload_type | (stream->sequence == 0 ? 0x80 : 0));
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &source, 4);
    memcpy(packet + RTP_HEADER, sound->bytes + stream->position, FRAME_BYTES);
    stream->sequence++;
    stream->timestamp += FRAME_BYTES;
    stream->position = (stream->position + FRAME_BYTES) % sound->size;
    sendto(fd, packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to);
}

static int by_offset(const void *left, const void *right)
{
    int64_t a = ((const struct stream *)left)->offset_ns, b = ((const struct stream *)right)->offset_ns;
    return (a > b) - (a < b);
}

static void sleep_until(int64_t due_ns)
{
    struct timespec due = {.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR && !stopping) {}
}

static int generate(int spread, const int port[2], int payload_type, const char *path[2])
{
    int fd[2] = {open_socket(port[0]), open_socket(port[1])};
    struct sound sound[2] = {load(path[0]), load(path[1])};
    for (int side = 0; side < 2; side++) { /* all streams of a side come in on one socket: a moment's delay is no loss */
        int size = 16 << 20;
        if (setsockopt(fd[side], SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
            setsockopt(fd[side], SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    uint64_t sent = 0, received = 0, late = 0;
    if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) != 0) fail("standard input");
    for (int64_t frame_ns = now_ns(); !stopping; frame_ns += FRAME_NS) {
        if (!listen_for_orders()) break;
        if (spread) qsort(streams, (size_t)stream_count, sizeof *streams, by_offset);
        if (now_ns() > frame_ns + FRAME_NS) late++;
        for (int i = 0; i < stream_count; i++) {
            if (spread && frame_ns + streams[i].offset_ns > now_ns()) sleep_until(frame_ns + streams[i].offset_ns);
            send_frame(fd[streams[i].side], &streams[i], &sound[streams[i].side], payload_type);
            sent++;
            if (spread) received += drain(fd[!streams[i].side]);
        }
        sleep_until(frame_ns + FRAME_NS);
    }
    if (spread) received += drain(fd[0]) + drain(fd[1]);
    printf("{\"sent\": %llu, \"received\": %llu, \"late\": %llu, \"missing\": %lld}\n", (unsigned long long)sent,
           (unsigned long long)received, (unsigned long long)late, (long long)missing);
    return 0;
}

static int port_number(const char *text)
{
    int port = atoi(text);
    if (port < 1 || port > 65535) {
        fprintf(stderr, "floor_relay: %s is no port\n", text);
        exit(2);
    }
    return port;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (argc == 6 && strcmp(argv[1], "relay") == 0 && atoi(argv[2]) > 0 && atoi(argv[2]) % 2 == 0)
        return relay(atoi(argv[2]), port_number(argv[3]), port_number(argv[4]), port_number(argv[5]));
    if (argc == 8 && strcmp(argv[1], "send") == 0) {
        int port[2] = {port_number(argv[3]), port_number(argv[4])};
        const char *path[2] = {argv[6], argv[7]};
        return generate(strcmp(argv[2], "spread") == 0, port, atoi(argv[5]) & 0x7f, path);
    }
    fprintf(stderr, "usage: floor_relay relay LEGS FIRST_PORT PEER_A_PORT PEER_B_PORT\n"
                    "       floor_relay send burst|spread A_PORT B_PORT PAYLOAD_TYPE A_FILE B_FILE\n");
    return 2;
}
