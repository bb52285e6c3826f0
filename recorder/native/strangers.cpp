#include "strangers.hpp"

#include <algorithm>
#include <cstring>

namespace recorder {
namespace {

constexpr std::int64_t kSilence_s = 60;

template <std::size_t N> void put(std::array<char, N> &field, std::string_view text) {
    const std::size_t length = std::min(text.size(), N - 1);
    std::transform(text.begin(), text.begin() + length, field.begin(), [](char c) { return c < ' ' || c > '~' ? '?' : c; });
    field[length] = '\0';
}

} // namespace

void Strangers::note(const Address &from, Refusal reason, std::string_view method, std::string_view user_agent) {
    ++counts_[static_cast<std::size_t>(reason)];
    const auto end = entries_.begin() + used_;
    const auto found = std::find_if(entries_.begin(), end, [&](const Entry &entry) { return entry.from == from; });
    if (found != end) {
        ++found->requests;
        return;
    }
    if (used_ == entries_.size()) {
        ++others_;
        return;
    }
    Entry &entry = entries_[used_++];
    entry = Entry{from, reason, {}, {}, 1, 0};
    put(entry.method, method);
    put(entry.user_agent, user_agent);
}

std::vector<Stranger> Strangers::take(std::int64_t now_s) {
    std::vector<Stranger> due;
    for (std::size_t i = 0; i < used_;) {
        Entry &entry = entries_[i];
        if (now_s < entry.silent_until) {
            ++i;
        } else if (entry.requests == 0) {
            entry = entries_[--used_]; // it has been quiet since
        } else {
            due.push_back({to_text(entry.from), kRefusalNames[static_cast<std::size_t>(entry.reason)], entry.method.data(),
                           entry.user_agent.data(), entry.requests});
            entry.requests = 0;
            entry.silent_until = now_s + kSilence_s;
            ++i;
        }
    }
    if (others_ > 0 && now_s >= others_silent_until_) {
        due.push_back({"", "many", "", "", others_});
        others_ = 0;
        others_silent_until_ = now_s + kSilence_s;
    }
    return due;
}

} // namespace recorder
