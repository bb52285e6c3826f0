// Where pjproject's own log lines go.
#pragma once

namespace recorder {

// Standard error, from `level` (0 none, 1 errors ... 5) down. Written by whichever thread has something to say, without
// Python. To be called before Endpoint.libCreate and again after libInit, which sets its own way.
void log_to_stderr(int level);

} // namespace recorder
