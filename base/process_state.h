// Other processes of this machine, as Linux shows them in /proc.
#pragma once

#include <cstdint>

namespace ballast {

/// `unknown` where /proc does not say.
enum class ProcessState { unknown, gone, running, stopped, traced, waiting_for_disk };

/// stopped: by SIGSTOP or Ctrl-Z. traced: a debugger is attached to it, whether or not it holds it at the moment.
/// waiting_for_disk: in a call that no signal ends, as of a disk or a network file system.
ProcessState process_state(int64_t pid);

}  // namespace ballast
