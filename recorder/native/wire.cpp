#include "wire.hpp"

#include <algorithm>

namespace recorder {
namespace {

std::string lower(std::string_view text) {
    std::string result(text);
    for (char &c : result)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return result;
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view trim(std::string_view text) {
    while (!text.empty() && is_blank(text.front()))
        text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back()))
        text.remove_suffix(1);
    return text;
}

std::string_view take_line(std::string_view &rest) {
    const std::size_t end = rest.find_first_of("\r\n");
    const std::string_view line = rest.substr(0, end);
    if (end == std::string_view::npos)
        rest = {};
    else
        rest.remove_prefix(rest.substr(end, 2) == "\r\n" ? end + 2 : end + 1);
    return line;
}

} // namespace

WireMessage take_apart(std::string_view packet, long content_length) {
    WireMessage message;
    const std::size_t begin = packet.find_first_not_of("\r\n"); // keep-alives may precede it
    std::string_view rest = begin == std::string_view::npos ? std::string_view{} : packet.substr(begin);

    take_line(rest); // request or status line
    bool in_header = false;
    while (!rest.empty()) {
        const std::string_view line = take_line(rest);
        if (line.empty())
            break;
        if (is_blank(line.front())) {
            if (in_header)
                message.headers.back().second.append(" ").append(trim(line));
            continue;
        }
        const std::size_t colon = line.find(':');
        in_header = colon != std::string_view::npos;
        if (in_header)
            message.headers.emplace_back(trim(line.substr(0, colon)), trim(line.substr(colon + 1)));
    }
    for (const auto &[name, value] : message.headers) {
        const std::string key = lower(name);
        if (key == "content-type" || key == "c") {
            message.content_type = value;
            break;
        }
    }
    if (content_length >= 0)
        rest = rest.substr(0, static_cast<std::size_t>(content_length));
    message.body = rest;
    return message;
}

bool is_printable(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char c) {
        const auto code = static_cast<unsigned char>(c);
        return (code < 0x20 && c != '\t') || code == 0x7f;
    });
}

} // namespace recorder
