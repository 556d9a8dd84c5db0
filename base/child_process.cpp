#include "base/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "base/error.h"

namespace ballast {
namespace {

/// Between fork and exec. Only what a signal handler may call: this process may have had threads.
[[noreturn]] void become(char* const* arguments, int log, int null, int errors, pid_t parent, const sigset_t& mask) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGINT);  // posix_spawn cannot ask for this
    if (::getppid() != parent) ::_exit(127);
    for (const int number : {SIGINT, SIGTERM, SIGXFSZ}) std::signal(number, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
    if (::dup2(null, STDIN_FILENO) >= 0 && ::dup2(log, STDOUT_FILENO) >= 0 && ::dup2(log, STDERR_FILENO) >= 0)
        ::execv(arguments[0], arguments);
    const int error = errno;
    [[maybe_unused]] const ssize_t ignored = ::write(errors, &error, sizeof error);
    ::_exit(127);
}

/// Closed at the end of its life.
struct Descriptor {
    explicit Descriptor(int number) : value(number) {}
    ~Descriptor() { close(); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    void close() {
        if (value >= 0) ::close(std::exchange(value, -1));
    }
    int value;
};

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& arguments, const std::string& log) {
    const Descriptor out(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (out.value < 0) throw_errno("write", log);
    const Descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    std::array<int, 2> ends{-1, -1};
    if (null.value < 0 || ::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("start", arguments.front());
    const Descriptor failed(ends[0]);  // says why exec failed, or ends when it did not
    Descriptor report(ends[1]);
    std::vector<char*> words;
    for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
    words.push_back(nullptr);

    // A parent may have left SIGCHLD ignored: then the system forgets how a child ended, and there is nothing to wait
    // for.
    std::signal(SIGCHLD, SIG_DFL);
    // A signal that came before exec would be handled by our handler, in the child, and be lost.
    sigset_t stop, before;
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &stop, &before);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) become(words.data(), out.value, null.value, report.value, parent, before);
    const int fork_error = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = fork_error;
    if (pid_ < 0) throw_errno("start", arguments.front());
    report.close();
    int error = 0;
    ssize_t count;
    while ((count = ::read(failed.value, &error, sizeof error)) < 0 && errno == EINTR) {
    }
    if (count <= 0) return;
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
    errno = error;
    throw_errno("start", arguments.front());
}

ChildProcess::~ChildProcess() {
    if (pid_ < 0 || ended_) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void ChildProcess::signal(int number) const {
    if (!ended_) ::kill(pid_, number);  // not waited for yet, so the id is still its own
}

std::optional<ExitStatus> ChildProcess::wait_for(std::chrono::milliseconds limit) {
    constexpr std::chrono::milliseconds kLook{5};
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!ended_) {
        int status = 0;
        const pid_t changed = ::waitpid(pid_, &status, WNOHANG);
        if (changed < 0 && errno != EINTR)
            throw RunError(fmt::format("cannot learn how process {} ended: {}", pid_, std::strerror(errno)));
        if (changed == pid_)
            ended_ = WIFEXITED(status) ? ExitStatus{WEXITSTATUS(status), 0} : ExitStatus{0, WTERMSIG(status)};
        else if (std::chrono::steady_clock::now() >= end)
            break;
        else
            std::this_thread::sleep_for(kLook);
    }
    return ended_;
}

std::string own_program() {
    std::error_code error;
    const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) throw RunError(fmt::format("cannot find this program's own file: {}", error.message()));
    return path.string();
}

std::string shell_quoted(const std::string& text) {
    constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
    if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
    std::string out = "'";
    for (const char c : text) {
        if (c == '\'')
            out += "'\\''";
        else
            out += c;
    }
    return out + "'";
}

std::string shell_command(const std::vector<std::string>& arguments) {
    std::string line;
    for (const std::string& argument : arguments) line += (line.empty() ? "" : " ") + shell_quoted(argument);
    return line;
}

}  // namespace ballast
