// Processes of this machine, as Linux shows them in /proc, and the machine's name.
#pragma once

#include <cstdint>
#include <string>

namespace ballast {

/// `unknown` where /proc does not say.
enum class ProcessState { unknown, gone, running, stopped, traced, waiting_for_disk };

/// stopped: by SIGSTOP or Ctrl-Z. traced: a debugger is attached, whether or not it has stopped the process now.
/// waiting_for_disk: in a system call that no signal interrupts, for example on a disk or a network file system.
ProcessState process_state(int64_t pid);

/// This machine's name, for messages that tell processes of several machines apart.
std::string host_name();

}  // namespace ballast
