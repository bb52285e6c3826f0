// The Python face of the native part; see _native.pyi for what each name means.
//
// The GIL: a pjsua call takes pjlib's locks, and a callback that comes while one is held (on the sip thread from a
// dialog's event, on a media worker from RFC 4733 digits) takes the GIL. A thread that waited for such a lock with the
// GIL in its hands could therefore wait for ever. So everything that may take a pjlib lock runs without the GIL, and the
// INFO handler takes it when it is called. The ring's calls take no pjlib lock and keep it: they are shorter than
// letting go of it, but where there is more to decode than G.711.

#include "announce.hpp"
#include "bridge.hpp"
#include "dialog.hpp"
#include "digits.hpp"
#include "gate.hpp"
#include "headers.hpp"
#include "info.hpp"
#include "log.hpp"
#include "malformed.hpp"
#include "media_clock.hpp"
#include "offer.hpp"
#include "pj.hpp"
#include "probe.hpp"
#include "progress.hpp"
#include "redirect.hpp"
#include "relay.hpp"
#include "resolver.hpp"
#include "ringback.hpp"
#include "transports.hpp"
#include "wake.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>

namespace nb = nanobind;
using namespace nb::literals;
using namespace recorder;

namespace {

using WithoutGil = nb::call_guard<nb::gil_scoped_release>;

constexpr std::size_t kDefaultRead = 65536;
constexpr std::uint64_t kMaxPosition = std::uint64_t{1} << 62; // millions of years: room for sums without overflow

// Wire text may be anything; undecodable bytes come as lone surrogates, as in Python's own file names.
nb::object text(const std::string &bytes) {
    return nb::steal(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogateescape"));
}

nb::list header_list(const Headers &headers) {
    nb::list list;
    for (const auto &[name, value] : headers)
        list.append(nb::make_tuple(text(name), text(value)));
    return list;
}

// It may be dropped by code that does not hold the GIL.
std::shared_ptr<nb::callable> share(nb::callable callable) {
    return {new nb::callable(std::move(callable)), [](nb::callable *p) {
                const nb::gil_scoped_acquire acquire;
                delete p;
            }};
}

// What it raises goes to sys.unraisablehook.
template <class... Arguments> std::function<void(Arguments...)> tell(nb::callable callable) {
    return [shared = share(std::move(callable))](Arguments... arguments) {
        const nb::gil_scoped_acquire acquire;
        try {
            (*shared)(arguments...);
        } catch (nb::python_error &error) {
            error.discard_as_unraisable(*shared);
        }
    };
}

InfoHandler call_python(nb::callable callable) {
    const auto shared = share(std::move(callable));
    return [shared](const InfoRequest &request) {
        const nb::gil_scoped_acquire acquire;
        try {
            (*shared)(request);
            return true;
        } catch (nb::python_error &error) {
            error.discard_as_unraisable(*shared); // sys.unraisablehook
        } catch (const std::exception &error) {   // the request could not be made into a Python object
            PyErr_SetString(PyExc_RuntimeError, error.what());
            PyErr_WriteUnraisable(shared->ptr());
        }
        return false;
    };
}

AnswerFilter filter_by_python(nb::callable callable) {
    const auto shared = share(std::move(callable));
    return [shared](int call_id, const Headers &headers) {
        const nb::gil_scoped_acquire acquire;
        try {
            return nb::cast<Headers>((*shared)(call_id, header_list(headers)));
        } catch (nb::python_error &error) {
            error.discard_as_unraisable(*shared); // sys.unraisablehook
        } catch (const std::exception &error) {   // what it returned is no list of headers
            PyErr_SetString(PyExc_TypeError, error.what());
            PyErr_WriteUnraisable(shared->ptr());
        }
        return Headers{};
    };
}

// One leg's audio below the stream. The ring is shared with the transport that fills it.
class RtpTap {
  public:
    RtpTap(std::string name, unsigned rate_hz, std::size_t capacity_samples, unsigned hold_samples,
           std::optional<std::int64_t> now)
        : name_(std::move(name)), rate_hz_(rate_hz), now_(now),
          ring_(std::make_shared<RtpRing>(rate_hz, this->now(), capacity_samples, hold_samples)) {}

    const std::string &name() const { return name_; }
    RtpRing &ring() { return *ring_; }
    std::int64_t now() const { return now_ ? *now_ : media_clock(rate_hz_); }
    void set_now(std::int64_t now) { now_ = now; }
    bool attach(int call_id) { return tap_rtp(call_id, ring_); }

  private:
    const std::string name_;
    const unsigned rate_hz_;
    std::optional<std::int64_t> now_; // tests only
    const std::shared_ptr<RtpRing> ring_;
};

nb::tuple read_rtp(RtpTap &tap, std::size_t max_samples) {
    const auto [position, ready] = tap.ring().available(tap.now());
    const std::size_t count = std::min(ready, max_samples);
    auto *samples = new std::int16_t[count];
    const nb::capsule owner(samples, [](void *p) noexcept { delete[] static_cast<std::int16_t *>(p); });
    if (tap.ring().reads_slowly()) {
        const nb::gil_scoped_release release;
        tap.ring().read(samples, count);
    } else {
        tap.ring().read(samples, count);
    }
    return nb::make_tuple(position, nb::ndarray<nb::numpy, std::int16_t, nb::ndim<1>>(samples, {count}, owner));
}

const char *name_of(GapCause cause) {
    switch (cause) {
    case GapCause::loss: return "loss";
    case GapCause::late: return "late";
    case GapCause::event: return "event";
    case GapCause::dtx: return "dtx";
    case GapCause::ring_full: return "ring_full";
    case GapCause::no_rtp: return "no_rtp";
    case GapCause::never_started: break;
    }
    return "never_started";
}

nb::list take_rtp_gaps(RtpTap &tap, bool last) {
    nb::list gaps;
    for (const RtpGaps::Gap &gap : last ? tap.ring().take_last_gaps() : tap.ring().take_gaps())
        gaps.append(nb::make_tuple(name_of(gap.cause), gap.start, gap.length));
    return gaps;
}

void put_packet(RtpTap &tap, const nb::bytes &bytes, const std::string &codec) {
    RtpPacket packet;
    if (!parse_rtp(reinterpret_cast<const std::uint8_t *>(bytes.c_str()), bytes.size(), packet))
        return;
    static const Payloads known = static_payloads();
    tap.ring().put(packet, codec.empty() ? known[packet.payload_type] : codec_named(codec), tap.now());
}

RtpTap *make_rtp_tap(std::string name, unsigned rate_hz, std::size_t capacity_samples, unsigned hold_samples,
                     std::optional<std::int64_t> now) {
    if (rate_hz != kNarrow && rate_hz != kWide)
        throw std::invalid_argument("rate_hz must be 8000 or 16000");
    if (capacity_samples < rate_hz / 10 || capacity_samples > std::size_t{3600} * rate_hz)
        throw std::invalid_argument("capacity_samples must be 100 ms to one hour");
    if (hold_samples >= capacity_samples)
        throw std::invalid_argument("hold_samples must be less than capacity_samples");
    if (now && (*now < 0 || *now > static_cast<std::int64_t>(kMaxPosition)))
        throw std::invalid_argument("now is out of range");
    return new RtpTap(std::move(name), rate_hz, capacity_samples, hold_samples, now);
}

void bind_relay(nb::module_ &m) {
    nb::class_<RtpTap>(m, "RtpTap")
        .def(nb::new_(&make_rtp_tap), "name"_a, "rate_hz"_a, "capacity_samples"_a, "hold_samples"_a,
             "_now"_a = nb::none())
        .def_prop_ro("name", &RtpTap::name)
        .def("attach", &RtpTap::attach, "call_id"_a, WithoutGil())
        .def("detach", [](RtpTap &tap) { tap.ring().end(tap.now()); })
        .def_prop_ro("origin", [](RtpTap &tap) { return tap.ring().origin(); })
        .def_prop_ro("position", [](RtpTap &tap) { return tap.ring().position(tap.now()); })
        .def_prop_ro("gated", [](RtpTap &tap) { return tap.ring().gated(tap.now()); })
        .def_prop_ro("dropped_samples", [](RtpTap &tap) { return tap.ring().dropped_samples(); })
        .def_prop_ro("late_samples", [](RtpTap &tap) { return tap.ring().late_samples(); })
        .def_prop_ro("packets", [](RtpTap &tap) { return tap.ring().packets(); })
        .def_prop_ro("lost", [](RtpTap &tap) { return tap.ring().lost(); })
        .def("read", &read_rtp, "max_samples"_a = kDefaultRead)
        .def("take_gaps", &take_rtp_gaps, "last"_a = false)
        .def("wait", [](RtpTap &tap) { tap.ring().wait(); })
        .def("start", [](RtpTap &tap, std::int64_t position) { tap.ring().start(position); }, "position"_a)
        .def("take_events", [](RtpTap &tap) { return tap.ring().take_events(); })
        .def("close_gate", [](RtpTap &tap) { return tap.ring().close_gate(tap.now()); })
        .def("open_gate", [](RtpTap &tap, std::uint32_t after_samples) {
            return tap.ring().open_gate(tap.now(), after_samples);
        }, "after_samples"_a = 0)
        .def("_put", &put_packet, "packet"_a, "codec"_a = "")
        .def("_set_now", &RtpTap::set_now, "now"_a);

    m.def("install_offer", &install_offer, "transcoding"_a);
    m.def("offer_like", &offer_like, "call_id"_a, "events"_a = nb::none(), WithoutGil());
    m.def("answer_like", &answer_like, "call_id"_a, "other"_a, "events"_a = nb::none(), WithoutGil());
    m.def("install_relay", &install_relay);
    m.def("join", &join, "call_a"_a, "call_b"_a, WithoutGil());
    m.def("_hide_names", [](const nb::bytes &packet) {
        std::uint8_t changed[1500];
        const auto *bytes = reinterpret_cast<const std::uint8_t *>(packet.c_str());
        return nb::bytes(reinterpret_cast<const char *>(changed),
                         hide_names(bytes, packet.size(), changed, sizeof changed));
    }, "packet"_a);
    m.def("part", &part, "call_id"_a, WithoutGil());
    m.def("take_silent", &take_silent, "timeout_ms"_a, WithoutGil());
    m.def("media_clock", [](unsigned rate_hz) { return media_clock(rate_hz); }, "rate_hz"_a);
}

void bind_bridge(nb::module_ &m) {
    nb::class_<StreamStatistics>(m, "StreamStatistics")
        .def_ro("codec", &StreamStatistics::codec)
        .def_ro("clock_rate_hz", &StreamStatistics::clock_rate_hz)
        .def_ro("payload_type", &StreamStatistics::payload_type)
        .def_ro("rx_packets", &StreamStatistics::rx_packets)
        .def_ro("rx_bytes", &StreamStatistics::rx_bytes)
        .def_ro("rx_lost", &StreamStatistics::rx_lost)
        .def_ro("rx_discarded", &StreamStatistics::rx_discarded)
        .def_ro("rx_reordered", &StreamStatistics::rx_reordered)
        .def_ro("rx_duplicated", &StreamStatistics::rx_duplicated)
        .def_ro("tx_packets", &StreamStatistics::tx_packets)
        .def_ro("tx_bytes", &StreamStatistics::tx_bytes)
        .def_ro("jitter_ms", &StreamStatistics::jitter_ms)
        .def_ro("rtt_ms", &StreamStatistics::rtt_ms)
        .def_ro("remote_rtp_address", &StreamStatistics::remote_rtp_address)
        .def_ro("telephone_event_pt", &StreamStatistics::telephone_event_pt);

    m.def("omit_unheard_callbacks", &omit_unheard_callbacks);
    m.def("call_count", &call_count);
    m.def("conference_slot", &conference_slot, "call_id"_a, WithoutGil());
    m.def("connect", &recorder::connect, "source_slot"_a, "sink_slot"_a, WithoutGil());
    m.def("disconnect", &disconnect, "source_slot"_a, "sink_slot"_a, WithoutGil());
    m.def("start_ringback", &start_ringback, "slot"_a, "hertz"_a, "cadence_ms"_a, WithoutGil());
    m.def("stop_ringback", &stop_ringback, "tone"_a, WithoutGil());
    m.def("stream_statistics", &stream_statistics, "call_id"_a, WithoutGil());
    m.def("limits", [] {
        nb::dict result;
        for (const auto &[name, value] : limits())
            result[name] = value;
        return result;
    });
    m.def("pjproject_version", &pjproject_version);
    m.def("openssl_version", &openssl_version);
}

void bind_info(nb::module_ &m) {
    nb::class_<InfoRequest>(m, "InfoRequest")
        .def_ro("call_id", &InfoRequest::call_id)
        .def_ro("token", &InfoRequest::token)
        .def_ro("method", &InfoRequest::method)
        .def_ro("source", &InfoRequest::source)
        .def_prop_ro("content_type", [](const InfoRequest &r) { return text(r.message->content_type); })
        .def_prop_ro("body", [](const InfoRequest &r) { return nb::bytes(r.message->body.data(), r.message->body.size()); })
        .def_prop_ro("headers", [](const InfoRequest &r) { return header_list(r.message->headers); });

    m.def("install_info", [](nb::callable handler, nb::callable filter) {
        InfoHandler native = call_python(std::move(handler));
        AnswerFilter native_filter = filter_by_python(std::move(filter));
        const nb::gil_scoped_release release;
        install_info(std::move(native), std::move(native_filter));
    }, "handler"_a, "filter"_a);
    m.def("uninstall_info", &uninstall_info, WithoutGil());
    m.def("claim_info", &claim_info, "call_id"_a, WithoutGil());
    m.def("answer_info", &answer_info, "token"_a, "code"_a, "reason"_a = "", "headers"_a = Headers{}, WithoutGil());
    m.def("forward_info", &forward_info, "token"_a, "call_id"_a, "headers"_a, WithoutGil());
    m.def("notify", &notify, "call_id"_a, "headers"_a, "content_type"_a, "body"_a, WithoutGil());
    m.def("pending_infos", &pending_infos);
    m.def("_take_apart", [](const nb::bytes &packet, long content_length) {
        const WireMessage message = take_apart(std::string_view(packet.c_str(), packet.size()), content_length);
        return nb::make_tuple(header_list(message.headers), text(message.content_type),
                              nb::bytes(message.body.data(), message.body.size()));
    }, "packet"_a, "content_length"_a);
}

void bind_probe(nb::module_ &m) {
    m.def("install_options", [](nb::callable handler) {
        OptionsHandler native = tell<std::uint64_t, int>(std::move(handler));
        const nb::gil_scoped_release release;
        install_options(std::move(native));
    }, "handler"_a);
    m.def("uninstall_options", &uninstall_options, WithoutGil());
    m.def("send_options", &send_options, "uri"_a, "from_uri"_a, "transport_id"_a, "token"_a, WithoutGil());
    m.def("redirect", &redirect, "call_id"_a, "code"_a, "phrase"_a, "contacts"_a, WithoutGil());
    m.def("has_response", &has_response, "call_id"_a, WithoutGil());
}

void bind_progress(nb::module_ &m) {
    nb::class_<CallProgress>(m, "CallProgress")
        .def_ro("state", &CallProgress::state)
        .def_ro("status", &CallProgress::status)
        .def_prop_ro("phrase", [](const CallProgress &progress) { return text(progress.phrase); })
        .def_prop_ro("sip_call_id", [](const CallProgress &progress) { return text(progress.sip_call_id); })
        .def_ro("has_sdp", &CallProgress::has_sdp)
        .def_ro("by_stack", &CallProgress::by_stack)
        .def_ro("by_own_bye", &CallProgress::by_own_bye)
        .def_prop_ro("redirection", [](const CallProgress &progress) { return text(progress.redirection); });

    m.def("call_progress", &call_progress, "call_id"_a, WithoutGil());
    m.def("install_progress", [](nb::callable on_progress, nb::callable on_media) {
        install_progress(tell<int, const CallProgress &>(std::move(on_progress)), tell<int>(std::move(on_media)));
    }, "on_progress"_a, "on_media"_a);
    m.def("uninstall_progress", &uninstall_progress);
    m.def("answer", &answer, "call_id"_a, "code"_a, "headers"_a, WithoutGil());
    m.def("hang_up", &hang_up, "call_id"_a, "code"_a, "phrase"_a, "headers"_a, WithoutGil());
}

void bind_dialog(nb::module_ &m) {
    m.def("install_dialog", &install_dialog, WithoutGil());
    m.def("asked_direction", &asked_direction, "call_id"_a, WithoutGil());
    m.def("asked_recording", &asked_recording, "call_id"_a, WithoutGil());
    m.def("announce_recording", &announce_recording, "call_id"_a, "recorded"_a, WithoutGil());
    m.def("progress", &progress, "call_id"_a, "code"_a, "phrase"_a, "media"_a, "headers"_a = Headers{}, WithoutGil());
    m.def("reinvite", &reinvite, "call_id"_a, "direction"_a, WithoutGil());
    m.def("take_reinvites", &take_reinvites);
    m.def("take_closing", [] {
        nb::list result;
        for (const Closing &one : take_closing())
            result.append(nb::make_tuple(one.call_id, one.status, one.expired));
        return result;
    });
}

QuestionHandler ask_python(nb::callable callable) {
    const auto shared = share(std::move(callable));
    return [shared](const Question &question) {
        const nb::gil_scoped_acquire acquire;
        try {
            (*shared)(question.token, text(question.host), question.port, question.transport);
            return;
        } catch (nb::python_error &error) {
            error.discard_as_unraisable(*shared); // sys.unraisablehook
        }
        const nb::gil_scoped_release release;
        answer_question(question.token, {});
    };
}

void bind_resolver(nb::module_ &m) {
    m.def("install_resolver", [](nb::callable handler) {
        QuestionHandler native = ask_python(std::move(handler));
        const nb::gil_scoped_release release;
        install_resolver(std::move(native));
    }, "handler"_a);
    m.def("uninstall_resolver", &uninstall_resolver, WithoutGil());
    m.def("answer_question", [](std::uint64_t token, const std::vector<std::tuple<std::string, int, std::string>> &found) {
        std::vector<ServerAddress> addresses;
        for (const auto &[ip, port, transport] : found)
            addresses.push_back({ip, port, transport});
        return answer_question(token, addresses);
    }, "token"_a, "addresses"_a, WithoutGil());
    m.def("pin", [](std::string host, std::string ip, int port, std::string transport) {
        pin(std::move(host), {std::move(ip), port, std::move(transport)});
    }, "host"_a, "ip"_a, "port"_a, "transport"_a);
    m.def("unpin", &unpin);
}

void bind_digits(nb::module_ &m) {
    m.def("install_digits", &install_digits);
    m.def("take_digits", [] {
        nb::list taken;
        for (const auto &[call_id, digit] : take_digits())
            taken.append(nb::make_tuple(call_id, nb::str(&digit, 1)));
        return taken;
    });
    m.def("send_digit", [](int call_id, const std::string &digit) {
        if (digit.size() != 1)
            throw std::invalid_argument("digit must be one character");
        const nb::gil_scoped_release release;
        return send_digit(call_id, digit.front());
    }, "call_id"_a, "digit"_a);
    m.def("takes_events", &takes_events, "call_id"_a, WithoutGil());
    m.def("install_wake", &install_wake, WithoutGil());
    m.def("uninstall_wake", &uninstall_wake, WithoutGil());
    m.def("wake", &wake);
    m.def("log_to_stderr", &log_to_stderr, "level"_a);
}

void bind_transports(nb::module_ &m) {
    using PeerEntry = std::tuple<std::string, int, bool>;
    using NameEntry = std::tuple<int, std::string, unsigned>;
    m.def("install_paths", [](const std::vector<PeerEntry> &peers, int other_account,
                              const std::vector<std::string> &local_networks, const std::vector<NameEntry> &names,
                              const std::string &media_address, const std::string &public_media) {
        Paths paths{{}, other_account, {}, {}, media_address, public_media};
        for (const auto &[network, account_id, behind_nat] : peers)
            paths.peers.push_back({parse_network(network), account_id, behind_nat});
        for (const std::string &network : local_networks)
            paths.local.push_back(parse_network(network));
        for (const auto &[transport_id, host, port] : names)
            paths.names.push_back({transport_id, host, port});
        const nb::gil_scoped_release release;
        install_paths(std::move(paths));
    }, "peers"_a, "other_account"_a, "local_networks"_a, "names"_a, "media_address"_a, "public_media"_a);
    m.def("aim", &aim, "account_id"_a, "transport_id"_a, "ipv6"_a, "sips"_a, WithoutGil());
    m.def("loosen", &loosen, "call_id"_a, WithoutGil());
}

GateTrunk *make_gate_trunk(std::string name, const std::vector<std::string> &sources, std::vector<std::string> certificates,
                           std::string username, std::string password, std::string realm,
                           const std::vector<std::string> &algorithms) {
    auto trunk = std::make_unique<GateTrunk>();
    trunk->name = std::move(name);
    for (const std::string &source : sources)
        trunk->networks.push_back(parse_network(source));
    trunk->certificates = std::move(certificates);
    if (username.empty())
        return trunk.release();
    Credentials credentials{std::move(username), std::move(password), std::move(realm), {}};
    for (const std::string &name : algorithms)
        credentials.algorithms.push_back(algorithm_of(name));
    trunk->credentials = std::move(credentials);
    return trunk.release();
}

void bind_gate(nb::module_ &m) {
    nb::class_<GateTrunk>(m, "GateTrunk")
        .def(nb::new_(&make_gate_trunk), "name"_a, "sources"_a, "certificates"_a, "username"_a, "password"_a, "realm"_a,
             "algorithms"_a);
    nb::class_<RefusedInvite>(m, "RefusedInvite")
        .def_prop_ro("message", [](const RefusedInvite &invite) { return text(invite.message); })
        .def_ro("source", &RefusedInvite::source)
        .def_ro("trunk", &RefusedInvite::trunk)
        .def_ro("status", &RefusedInvite::status)
        .def_prop_ro("phrase", [](const RefusedInvite &invite) { return text(invite.phrase); });
    nb::class_<Stranger>(m, "Stranger")
        .def_ro("source", &Stranger::source)
        .def_prop_ro("reason", [](const Stranger &stranger) { return std::string(stranger.reason); })
        .def_ro("method", &Stranger::method)
        .def_ro("user_agent", &Stranger::user_agent)
        .def_ro("requests", &Stranger::requests);

    m.def("install_gate", [](const std::vector<const GateTrunk *> &trunks, bool answer_strangers) {
        std::vector<GateTrunk> table;
        for (const GateTrunk *trunk : trunks)
            table.push_back(*trunk);
        const nb::gil_scoped_release release;
        install_gate(std::move(table), answer_strangers);
    }, "trunks"_a, "answer_strangers"_a);
    m.def("drain_gate", &drain_gate, "retry_after_s"_a);
    m.def("trunk_of_invite", &trunk_of_invite);
    m.def("assign_account", &assign_account, "trunk"_a, "account_id"_a);
    m.def("take_refused_invites", &take_refused_invites);
    m.def("take_strangers", &take_strangers);
    m.def("gate_counts", &gate_counts);
    m.def("_answer_malformed", [](const nb::bytes &packet, const std::string &what) {
        const std::string answer = answer_malformed(std::string_view(packet.c_str(), packet.size()), what);
        return nb::bytes(answer.data(), answer.size());
    }, "packet"_a, "what"_a);
}

} // namespace

NB_MODULE(_native, m) {
    bind_transports(m);
    bind_dialog(m);
    bind_progress(m);
    m.def("pick_headers", &pick_headers, "names"_a);
    m.def("find_call", &find_call, "sip_call_id"_a, "local_tag"_a, "remote_tag"_a, WithoutGil());
    m.def("drop_headers", &drop_headers, "call_id"_a, WithoutGil());
    m.def("take_headers", [](int call_id) { return header_list(take_headers(call_id)); }, "call_id"_a);
    bind_digits(m);
    bind_gate(m);
    bind_probe(m);
    bind_resolver(m);
    bind_relay(m);
    bind_bridge(m);
    bind_info(m);
}
