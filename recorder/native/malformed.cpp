#include "malformed.hpp"

#include "wire.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace recorder {
namespace {

constexpr std::size_t kLongestStartLine = 4096;
// What a response mirrors (RFC 3261, section 8.2.6.2), with the compact forms.
constexpr std::array<std::array<std::string_view, 2>, 5> kMirrored = {
    {{"Via", "v"}, {"From", "f"}, {"To", "t"}, {"Call-ID", "i"}, {"CSeq", ""}}};
enum Mirrored { kVia, kFrom, kTo, kCallId, kCSeq };

bool equal(std::string_view one, std::string_view other) {
    return std::equal(one.begin(), one.end(), other.begin(), other.end(), [](unsigned char a, unsigned char b) {
        return std::tolower(a) == std::tolower(b);
    });
}

std::string_view start_line(std::string_view packet) {
    const std::size_t begin = packet.find_first_not_of("\r\n");
    if (begin == std::string_view::npos)
        return {};
    packet.remove_prefix(begin);
    return packet.substr(0, std::min(packet.find_first_of("\r\n"), kLongestStartLine));
}

// "SIP/" digits "." digits at the end of a request line.
std::string_view version_of(std::string_view line) {
    line = line.substr(0, line.find_last_not_of(" \t") + 1);
    const std::size_t blank = line.find_last_of(" \t");
    const std::string_view last = blank == std::string_view::npos ? std::string_view{} : line.substr(blank + 1);
    const bool is_version = last.size() >= 7 && equal(last.substr(0, 4), "SIP/") &&
                            last.find_first_not_of("0123456789.", 4) == std::string_view::npos;
    return is_version ? last : std::string_view{};
}

// "name:" of another kind of URI than those we know, as RFC 3986, section 3.1, spells it.
bool has_foreign_scheme(std::string_view line) {
    const std::size_t blank = line.find(' ');
    const std::size_t colon = line.find(':', blank);
    if (blank == std::string_view::npos || colon == std::string_view::npos)
        return false;
    const std::string_view scheme = line.substr(blank + 1, colon - blank - 1);
    return !scheme.empty() && std::isalpha(static_cast<unsigned char>(scheme.front())) &&
           std::all_of(scheme.begin(), scheme.end(), [](unsigned char c) {
               return std::isalnum(c) || c == '+' || c == '-' || c == '.';
           }) &&
           !equal(scheme, "sip") && !equal(scheme, "sips") && !equal(scheme, "tel");
}

std::string status_line(std::string_view line, std::string_view what) {
    if (!equal(version_of(line), "SIP/2.0"))
        return "SIP/2.0 505 Version Not Supported\r\n";
    if (has_foreign_scheme(line))
        return "SIP/2.0 416 Unsupported URI Scheme\r\n";
    std::string result = "SIP/2.0 400 Bad Request";
    if (!what.empty() && is_printable(what))
        result.append(" (").append(what).append(")");
    return result + "\r\n";
}

} // namespace

std::string_view method_of(std::string_view packet) {
    const std::string_view line = start_line(packet);
    if (version_of(line).empty())
        return {};
    return line.substr(0, line.find_first_of(" \t"));
}

std::string answer_malformed(std::string_view packet, std::string_view what) {
    const std::string_view method = method_of(packet);
    if (method.empty() || method == "ACK")
        return {};
    std::string response = status_line(start_line(packet), what);
    std::array<int, kMirrored.size()> seen{};
    for (const auto &[name, value] : take_apart(packet, 0).headers) {
        const auto found = std::find_if(kMirrored.begin(), kMirrored.end(), [&name = name](const auto &forms) {
            return equal(name, forms[0]) || (!forms[1].empty() && equal(name, forms[1]));
        });
        const auto which = static_cast<std::size_t>(found - kMirrored.begin());
        // One of each, but every Via.
        if (found == kMirrored.end() || !is_printable(value) || (seen[which]++ > 0 && which != kVia))
            continue;
        response.append((*found)[0]).append(": ").append(value);
        if (which == kTo && value.find("tag") == std::string::npos)
            response += ";tag=malformed"; // section 8.2.6.2: it must have one
        response += "\r\n";
    }
    if (seen[kVia] == 0 || (seen[kCSeq] == 0 && seen[kCallId] == 0))
        return {};
    return response + "Content-Length: 0\r\n\r\n";
}

} // namespace recorder
