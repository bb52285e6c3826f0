#include "bridge.hpp"

#include "pj.hpp"

#include <openssl/crypto.h>

#include <stdexcept>

namespace recorder {

int call_count() { return static_cast<int>(pjsua_var.call_cnt); } // an int of its own, kept under pjsua's lock

int conference_slot(int call_id) {
    require_sip_thread();
    return is_call_id(call_id) ? pjsua_call_get_conf_port(call_id) : PJSUA_INVALID_ID;
}

void connect(int source_slot, int sink_slot) {
    require_sip_thread();
    keep_python_off_the_media_thread();
    require(pjsua_conf_connect(source_slot, sink_slot), "cannot connect the bridge's slots");
}

void disconnect(int source_slot, int sink_slot) {
    require_sip_thread();
    // A port that is gone, or that is going, is as disconnected as can be.
    if (source_slot >= 0 && sink_slot >= 0)
        pjsua_conf_disconnect(source_slot, sink_slot);
}

void keep_python_off_the_media_thread() { pjmedia_conf_set_op_cb(pjsua_var.mconf, nullptr); }

void omit_unheard_callbacks() {
    pjsua_callback &callbacks = pjsua_var.ua_cfg.cb;
    callbacks.on_call_tsx_state = nullptr;
    callbacks.on_stream_precreate = nullptr;
    callbacks.on_stream_created2 = nullptr;
    callbacks.on_call_media_transport_state = nullptr;
    callbacks.on_call_media_event = nullptr;
    callbacks.on_media_event = nullptr;
}

std::optional<StreamStatistics> stream_statistics(int call_id) {
    require_sip_thread();
    if (!is_call_id(call_id))
        return std::nullopt;
    const int index = pjsua_var.calls[call_id].audio_idx;
    pjsua_stream_info info;
    pjsua_stream_stat stat;
    if (index < 0 || pjsua_call_get_stream_info(call_id, index, &info) != PJ_SUCCESS ||
        info.type != PJMEDIA_TYPE_AUDIO || pjsua_call_get_stream_stat(call_id, index, &stat) != PJ_SUCCESS)
        return std::nullopt;
    const pjmedia_stream_info &audio = info.info.aud;

    // Where packets really come from, once some have: behind a NAT it is not what the SDP said.
    pj_sockaddr remote = audio.rem_addr;
    pjmedia_transport_info transport;
    pjmedia_transport_info_init(&transport);
    if (pjsua_call_get_med_transport_info(call_id, index, &transport) == PJ_SUCCESS &&
        pj_sockaddr_has_addr(&transport.src_rtp_name))
        remote = transport.src_rtp_name;
    char address[PJ_INET6_ADDRSTRLEN + 10] = "";
    if (pj_sockaddr_has_addr(&remote)) // not while held the old way, by address 0.0.0.0
        pj_sockaddr_print(&remote, address, sizeof address, 3 /* with the port, IPv6 in brackets */);

    constexpr double kMillisecond = 1000; // in microseconds, pjmedia's unit
    const pjmedia_rtcp_stat &rtcp = stat.rtcp;
    return StreamStatistics{
        .codec = std::string(audio.fmt.encoding_name.ptr, audio.fmt.encoding_name.slen),
        .clock_rate_hz = audio.fmt.clock_rate,
        .payload_type = audio.rx_pt,
        .rx_packets = rtcp.rx.pkt,
        .rx_bytes = rtcp.rx.bytes,
        .rx_lost = rtcp.rx.loss,
        .rx_discarded = rtcp.rx.discard,
        .rx_reordered = rtcp.rx.reorder,
        .rx_duplicated = rtcp.rx.dup,
        .tx_packets = rtcp.tx.pkt,
        .tx_bytes = rtcp.tx.bytes,
        .jitter_ms = rtcp.rx.jitter.n > 0 ? rtcp.rx.jitter.mean / kMillisecond : 0,
        .rtt_ms = rtcp.rtt.n > 0 ? rtcp.rtt.mean / kMillisecond : 0,
        .remote_rtp_address = address,
        .telephone_event_pt = audio.rx_event_pt,
    };
}

std::vector<std::pair<const char *, long>> limits() {
    return {
        {"max_calls", PJSUA_MAX_CALLS},
        {"max_accounts", PJSUA_MAX_ACC},
        {"max_conference_ports", PJSUA_MAX_CONF_PORTS},
        {"max_ioqueue_handles", PJ_IOQUEUE_MAX_HANDLES},
        {"max_transactions", PJSIP_MAX_TSX_COUNT},
        {"max_dialogs", PJSIP_MAX_DIALOG_COUNT},
        {"max_modules", PJSIP_MAX_MODULE},
        {"max_packet_bytes", PJSIP_MAX_PKT_LEN},
        {"max_timers", PJSIP_MAX_TIMER_COUNT},
        {"max_url_bytes", PJSIP_MAX_URL_SIZE},
        {"max_codecs", PJMEDIA_CODEC_MGR_MAX_CODECS},
        {"max_log_level", PJ_LOG_MAX_LEVEL},
        {"udp_to_tcp_threshold_bytes", PJSIP_UDP_SIZE_THRESHOLD},
    };
}

std::string pjproject_version() { return pj_get_version(); }

std::string openssl_version() { return OpenSSL_version(OPENSSL_VERSION); }

} // namespace recorder
