// Who was turned away: counted by reason, and listed once a minute a source so that the log tells of a flood in one line.
// Pure: no pjproject. Its size is fixed: a flood from made-up addresses costs no memory.
#pragma once

#include "network.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace recorder {

enum class Refusal { source, certificate, credentials, malformed };
constexpr std::array<std::string_view, 4> kRefusalNames = {"source", "certificate", "credentials", "malformed"};

struct Stranger {
    std::string source; // empty: from more sources than the table has room for
    std::string_view reason;
    std::string method;
    std::string user_agent;
    std::uint64_t requests;
};

class Strangers {
  public:
    void note(const Address &from, Refusal reason, std::string_view method, std::string_view user_agent);
    std::vector<Stranger> take(std::int64_t now_s); // those to be told of now
    std::uint64_t count(Refusal reason) const { return counts_[static_cast<std::size_t>(reason)]; }
    void clear() { *this = Strangers(); }

  private:
    struct Entry {
        Address from;
        Refusal reason;
        std::array<char, 16> method;
        std::array<char, 48> user_agent;
        std::uint64_t requests;    // since it was told of
        std::int64_t silent_until; // 0: not told of yet
    };

    std::array<Entry, 64> entries_;
    std::size_t used_ = 0;
    std::uint64_t others_ = 0;
    std::int64_t others_silent_until_ = 0;
    std::array<std::uint64_t, kRefusalNames.size()> counts_{};
};

} // namespace recorder
