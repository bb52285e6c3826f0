// Names to addresses for the SIP stack, which asks us instead of the system: its own look-up would block the sip thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace recorder {

struct Question {
    std::uint64_t token = 0; // names the question until it is answered
    std::string host;
    int port = 0;          // 0: none was given
    std::string transport; // "udp", "tcp", "tls"; "" when none was given
};

struct ServerAddress {
    std::string ip;
    int port = 0;
    std::string transport;
};

using QuestionHandler = std::function<void(const Question &)>;

// [sip] From now on the stack asks `handler` for every host that is not an address. It answers with `answer_question`,
// at once or later. Install after libInit, uninstall before libDestroy.
void install_resolver(QuestionHandler handler);
void uninstall_resolver();

// [sip] The addresses to try, in their order; none when the name has none. False when the question is not open.
bool answer_question(std::uint64_t token, const std::vector<ServerAddress> &addresses);

// [sip] Until `unpin`, `host` is at this address: what is sent there keeps the name and goes to the address.
void pin(std::string host, ServerAddress address);
void unpin();

} // namespace recorder
