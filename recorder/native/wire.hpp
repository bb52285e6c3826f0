// What a SIP message said on the wire, before pjsip's parser gave it a shape of its own. Pure: no pjproject, no threads.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace recorder {

using Headers = std::vector<std::pair<std::string, std::string>>; // name and value as sent, folds joined by one space

struct WireMessage {
    Headers headers;
    std::string content_type; // with its parameters; empty when there is none
    std::string body;
};

// Takes a request or response apart. Lines end where pjsip's scanner ends them: at CR, LF or CRLF. `content_length` is
// the header's value, or negative when it is absent; the body never reaches past the packet.
WireMessage take_apart(std::string_view packet, long content_length);

// Whether it can be written into a message as it is: no control characters except tab.
bool is_printable(std::string_view text);

} // namespace recorder
