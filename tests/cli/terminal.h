// The binary on a terminal, as a person has it.
#pragma once

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "tests/cli/program.h"

namespace ballast::test {

/// `ballast ARGUMENTS` on a terminal of its own, which is its controlling one.
class Terminal {
  public:
    explicit Terminal(const std::vector<std::string>& arguments)
        : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        ::grantpt(master_);
        ::unlockpt(master_);
        resize(100, 40);
        ::tcgetattr(master_, &before_);
        const std::string name = ::ptsname(master_);
        pid_ = ::fork();
        if (pid_ != 0) return;
        ::setsid();
        const int slave = ::open(name.c_str(), O_RDWR);  // becomes the controlling terminal
        for (int stream = 0; stream < 3; ++stream) ::dup2(slave, stream);
        std::vector<char*> words{const_cast<char*>("ballast")};
        for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
        words.push_back(nullptr);
        ::execv(kBallastPath.c_str(), words.data());
        ::_exit(127);
    }
    ~Terminal() {
        if (pid_ > 0) ::kill(pid_, SIGKILL), ::waitpid(pid_, nullptr, 0);
        ::close(master_);
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    void resize(unsigned short columns, unsigned short rows) const {
        const winsize size{rows, columns, 0, 0};
        ::ioctl(master_, TIOCSWINSZ, &size);
    }
    void type(char key) const { CHECK(::write(master_, &key, 1) == 1); }
    void signal(int number) const { ::kill(pid_, number); }

    /// Reads until `part` has been shown since the last call; false after a minute of silence, or when the program has
    /// ended.
    bool shows(const std::string& part) {
        for (size_t at; (at = text_.find(part)) == std::string::npos;) {
            pollfd ready{master_, POLLIN, 0};
            char buffer[4096];
            const ssize_t count = ::poll(&ready, 1, 60000) > 0 ? ::read(master_, buffer, sizeof buffer) : 0;
            if (count <= 0) return false;
            text_.append(buffer, static_cast<size_t>(count));
        }
        text_.erase(0, text_.find(part) + part.size());
        return true;
    }
    /// The exit code; -signal when a signal ended it.
    int wait() {
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    bool as_before() const {
        termios now;
        ::tcgetattr(master_, &now);
        return now.c_lflag == before_.c_lflag && now.c_cc[VSUSP] == before_.c_cc[VSUSP];
    }

  private:
    int master_;
    pid_t pid_ = -1;
    termios before_;
    std::string text_;
};

}  // namespace ballast::test
