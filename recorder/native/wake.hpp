// Ends the sip thread's wait for the stack's events, so that it can wait long when there is nothing to do.
#pragma once

namespace recorder {

void install_wake();   // [sip] after libInit
void uninstall_wake(); // [sip] before libDestroy
void wake() noexcept;  // [any] never blocks; without effect while it is not installed

} // namespace recorder
