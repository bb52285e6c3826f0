#include "log.hpp"

#include <pj/log.h>

#include <cstddef>

#include <unistd.h>

namespace recorder {
namespace {

void write_line(int, const char *line, int length) {
    // A broken standard error is nothing a log function could mend.
    if (::write(STDERR_FILENO, line, static_cast<std::size_t>(length)) < 0)
        return;
}

} // namespace

void log_to_stderr(int level) {
    pj_log_set_log_func(&write_line);
    pj_log_set_level(level);
}

} // namespace recorder
