// Other programs, started without a shell.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace ballast {

/// How a process ended: by itself with `code`, or by `signal`.
struct ExitStatus {
    int code = 0;
    int signal = 0;  // 0: none

    bool ok() const { return signal == 0 && code == 0; }
};

/// A program in a process group of its own, so that a terminal's Ctrl-C reaches only us and we say when it stops.
/// It gets a SIGINT when this process ends before it, however that comes about. Made by the main thread.
class ChildProcess {
  public:
    /// Starts `arguments` (the program's path first) with both outputs appended to `log`, and nothing to read.
    /// UserError when it cannot be started.
    ChildProcess(const std::vector<std::string>& arguments, const std::string& log);
    ~ChildProcess();  // one that still runs is killed
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;

    void signal(int number) const;
    /// Waits up to `limit`; none when it still runs. RunError when the system does not know how it ended.
    std::optional<ExitStatus> wait_for(std::chrono::milliseconds limit);

  private:
    pid_t pid_ = -1;
    std::optional<ExitStatus> ended_;
};

/// The path of the program that runs now.
std::string own_program();

/// One word of a POSIX shell's command line that stands for `text`, quoted when it has to be.
std::string shell_quoted(const std::string& text);
/// A whole command line.
std::string shell_command(const std::vector<std::string>& arguments);

}  // namespace ballast
