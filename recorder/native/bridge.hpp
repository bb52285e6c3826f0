// pjsua's conference bridge and its streams by number: slots, statistics, limits, versions. All [sip] but the last two.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace recorder {

int call_count();                 // [any] every call that pjsua has
int conference_slot(int call_id); // -1 when the call has no audio in the bridge
void connect(int source_slot, int sink_slot);
void disconnect(int source_slot, int sink_slot);

// pjsua2 has the bridge report every finished operation to `Endpoint.onAudioMediaOpCompleted`, on the media thread. Where
// Endpoint is subclassed in Python, that takes the GIL in the middle of a tick. This ends the reports.
void keep_python_off_the_media_thread();

// pjsua2 takes every event of the stack to Python, after copying all that could be asked about it, whether a method waits
// for it there or not. This takes those away that none does, at some 30 events a call. After libInit.
void omit_unheard_callbacks();

struct StreamStatistics {
    std::string codec;
    unsigned clock_rate_hz;
    unsigned payload_type;
    unsigned rx_packets, rx_bytes, rx_lost, rx_discarded, rx_reordered, rx_duplicated;
    unsigned tx_packets, tx_bytes;
    double jitter_ms, rtt_ms;
    std::string remote_rtp_address;
    int telephone_event_pt;
};

std::optional<StreamStatistics> stream_statistics(int call_id);

std::vector<std::pair<const char *, long>> limits();
std::string pjproject_version();
std::string openssl_version();

} // namespace recorder
