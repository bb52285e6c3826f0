#include "digest.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <deque>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace recorder {
namespace {

constexpr std::uint32_t kNonceLife_s = 60;
constexpr std::size_t kMostCounts = 65536; // that many authenticated nonces a minute; more are asked to prove it again
constexpr std::size_t kStampLength = 16;   // time and serial, 8 hex digits each
constexpr std::size_t kNonceLength = kStampLength + 32;

std::array<unsigned char, 32> secret;
std::uint32_t serial = 0;

// The last count of each nonce that has proved something, so that a captured header is of no use (RFC 7616, section
// 5.12). A stranger, who proves nothing, adds nothing.
std::unordered_map<std::uint32_t, std::uint32_t> counts;
std::deque<std::pair<std::uint32_t, std::uint32_t>> expiries; // when the nonce of a serial has run out

std::uint32_t now_s() {
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(since).count());
}

void append_hex(std::string &text, std::uint64_t value, int digits) {
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
        text += "0123456789abcdef"[value >> shift & 15];
}

std::string sealed(const std::string &stamp) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    HMAC(EVP_sha256(), secret.data(), secret.size(), reinterpret_cast<const unsigned char *>(stamp.data()), stamp.size(), mac,
         &length);
    std::string nonce = stamp;
    for (std::size_t i = 0; i < (kNonceLength - kStampLength) / 2; ++i)
        append_hex(nonce, mac[i], 2);
    return nonce;
}

std::string new_nonce() {
    std::string stamp;
    append_hex(stamp, now_s(), 8);
    append_hex(stamp, ++serial, 8);
    return sealed(stamp);
}

bool parse_hex(std::string_view text, std::uint32_t &value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool equal(std::string_view one, std::string_view other) {
    return one.size() == other.size() && CRYPTO_memcmp(one.data(), other.data(), one.size()) == 0;
}

// Whether the nonce is one of ours and has not run out.
bool is_alive(std::string_view nonce, std::uint32_t &number) {
    if (nonce.size() != kNonceLength || !equal(nonce, sealed(std::string(nonce.substr(0, kStampLength)))))
        return false;
    std::uint32_t made = 0;
    return parse_hex(nonce.substr(0, 8), made) && parse_hex(nonce.substr(8, 8), number) && now_s() - made < kNonceLife_s;
}

// Takes the count, unless it has been used. Without "qop" there is none, and the nonce serves once.
bool use_up(std::uint32_t number, const pjsip_digest_credential &digest) {
    std::uint32_t count = 1;
    if (digest.qop.slen > 0 && (!parse_hex(view(digest.nc), count) || count == 0))
        return false;
    const std::uint32_t now = now_s();
    for (; !expiries.empty() && static_cast<std::int32_t>(now - expiries.front().first) >= 0; expiries.pop_front())
        counts.erase(expiries.front().second);
    const auto found = counts.find(number);
    if (found != counts.end()) {
        const bool fresh = digest.qop.slen > 0 && count > found->second;
        if (fresh)
            found->second = count;
        return fresh;
    }
    if (counts.size() >= kMostCounts)
        return false;
    counts.emplace(number, count);
    expiries.emplace_back(now + kNonceLife_s, number);
    return true;
}

const pjsip_auth_algorithm *algorithm_of(const pjsip_digest_credential &digest) {
    const pj_str_t name = digest.algorithm.slen > 0 ? digest.algorithm : pj_str(const_cast<char *>("MD5")); // RFC 7616, 3.4
    return pjsip_auth_get_algorithm_by_iana_name(&name);
}

bool is_right(const pjsip_rx_data *rdata, const pjsip_digest_credential &digest, const Credentials &credentials) {
    const pjsip_auth_algorithm *algorithm = algorithm_of(digest);
    const auto &offered = credentials.algorithms;
    if (algorithm == nullptr || std::find(offered.begin(), offered.end(), algorithm->algorithm_type) == offered.end())
        return false;
    if (digest.qop.slen > 0 && pj_stricmp2(&digest.qop, "auth") != 0)
        return false;
    pjsip_cred_info known{};
    known.username = borrow(credentials.username);
    known.realm = borrow(credentials.realm);
    known.data_type = PJSIP_CRED_DATA_PLAIN_PASSWD;
    known.data = borrow(credentials.password);
    char buffer[PJSIP_AUTH_MAX_DIGEST_BUFFER_LENGTH * 2];
    pj_str_t expected{buffer, sizeof buffer};
    const bool counted = digest.qop.slen > 0;
    if (pjsip_auth_create_digest2(&expected, &digest.nonce, counted ? &digest.nc : nullptr, counted ? &digest.cnonce : nullptr,
                                  counted ? &digest.qop : nullptr, &digest.uri, &known.realm, &known,
                                  &rdata->msg_info.msg->line.req.method.name, algorithm->algorithm_type) != PJ_SUCCESS)
        return false;
    std::string response(view(digest.response));
    for (char &c : response)
        c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    return equal(response, view(expected));
}

} // namespace

pjsip_auth_algorithm_type algorithm_of(const std::string &name) {
    const pj_str_t text = borrow(name);
    const pjsip_auth_algorithm *found = pjsip_auth_get_algorithm_by_iana_name(&text);
    if (found == nullptr || !pjsip_auth_is_algorithm_supported(found->algorithm_type))
        throw std::invalid_argument("there is no digest algorithm '" + name + "' here");
    return found->algorithm_type;
}

void begin_digest() {
    if (RAND_bytes(secret.data(), secret.size()) != 1)
        throw std::runtime_error("OpenSSL has no random numbers for nonces");
    counts.clear();
    expiries.clear();
}

Proof prove(const pjsip_rx_data *rdata, const Credentials &credentials) {
    Proof best = Proof::none;
    const pjsip_msg *msg = rdata->msg_info.msg;
    const pjsip_hdr *end = &msg->hdr;
    for (const pjsip_hdr *header = msg->hdr.next; header != end; header = header->next) {
        if (header->type != PJSIP_H_AUTHORIZATION)
            continue;
        const auto *given = reinterpret_cast<const pjsip_authorization_hdr *>(header);
        const pjsip_digest_credential &digest = given->credential.digest;
        if (pj_stricmp2(&given->scheme, "Digest") != 0 || view(digest.realm) != credentials.realm)
            continue;
        std::uint32_t number = 0;
        const bool alive = is_alive(view(digest.nonce), number);
        if (view(digest.username) != credentials.username || !is_right(rdata, digest, credentials))
            best = std::max(best, alive ? Proof::wrong : Proof::none);
        else if (!alive || !use_up(number, digest))
            best = std::max(best, Proof::stale);
        else
            return Proof::good;
    }
    return best;
}

void add_challenges(pjsip_tx_data *response, const Credentials &credentials, bool stale) {
    const std::string nonce = new_nonce();
    for (const pjsip_auth_algorithm_type type : credentials.algorithms) {
        pjsip_www_authenticate_hdr *header = pjsip_www_authenticate_hdr_create(response->pool);
        const pj_str_t value = borrow(nonce), realm = borrow(credentials.realm);
        auto &digest = header->challenge.digest;
        header->scheme = pj_str(const_cast<char *>("Digest"));
        digest.algorithm = pjsip_auth_get_algorithm_by_type(type)->iana_name;
        digest.qop = pj_str(const_cast<char *>("auth"));
        digest.stale = stale;
        pj_strdup(response->pool, &digest.nonce, &value);
        pj_strdup(response->pool, &digest.realm, &realm);
        pjsip_msg_add_hdr(response->msg, reinterpret_cast<pjsip_hdr *>(header));
    }
}

} // namespace recorder
