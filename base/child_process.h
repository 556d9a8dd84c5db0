// Child processes, started without a shell.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace ballast {

/// How a process ended: it exited with `code`, or `signal` killed it.
struct ExitStatus {
    int code = 0;
    int signal = 0;  // 0: none

    bool ok() const { return signal == 0 && code == 0; }
};

/// A program in its own process group: a terminal's Ctrl-C reaches only this process, and this process decides when the
/// child stops. The child gets a SIGINT when this process ends first, for whatever reason. Must be made by the main
/// thread.
class ChildProcess {
  public:
    /// Starts `arguments` (the program's path comes first). Standard output and standard error are appended to `log`;
    /// standard input is empty. UserError when the program cannot be started.
    ChildProcess(const std::vector<std::string>& arguments, const std::string& log);
    ~ChildProcess();  // kills a child that still runs
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;

    void signal(int number) const;
    /// Waits up to `limit`. Empty when the child still runs. RunError when the system does not know how the child
    /// ended.
    std::optional<ExitStatus> wait_for(std::chrono::milliseconds limit);

  private:
    pid_t pid_ = -1;
    std::optional<ExitStatus> ended_;
};

/// The path of this program.
std::string own_program();

/// `text` as one word of a POSIX shell's command line, quoted where necessary.
std::string shell_quoted(const std::string& text);
/// The same for a whole command line.
std::string shell_command(const std::vector<std::string>& arguments);

}  // namespace ballast
