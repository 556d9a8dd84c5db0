// `ballast watch`: one frame without a terminal; on one, the screen is given back however it ends.
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// `ballast watch RUN` on a terminal of its own.
class Terminal {
  public:
    explicit Terminal(const std::string& run) : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
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
        ::execl(BALLAST_BINARY, "ballast", "watch", run.c_str(), nullptr);
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

    /// Reads until `part` has been shown since the last call; false after ten seconds, or when the program has ended.
    bool shows(const std::string& part) {
        for (size_t at; (at = text_.find(part)) == std::string::npos;) {
            pollfd ready{master_, POLLIN, 0};
            char buffer[4096];
            const ssize_t count = ::poll(&ready, 1, 10000) > 0 ? ::read(master_, buffer, sizeof buffer) : 0;
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

const std::string kLeave = "\x1b[?1049l";

}  // namespace

TEST_CASE("cli: watch --once prints one plain frame") {
    const TinyRun run;
    succeed(run.train("a"));
    const std::string out = succeed("watch " + run.file("a") + " " + run.file("none"));
    for (const char* part : {"a a", "b none", "finished", "not there yet", "12/12", "loss (o validation) by step", "o"})
        CHECK_THAT(out, ContainsSubstring(part));
    CHECK(out.find('\x1b') == std::string::npos);
    CHECK(succeed("watch --once " + run.file("a") + " " + run.file("none")) == out);
    refuse("watch", {"runs"});
    refuse("watch " + run.file("a") + " " + run.file("a/"), {"given twice"});
}

TEST_CASE("cli: watch gives the terminal back after q, Ctrl-C, SIGTERM and the end of the run") {
    const TinyRun run;
    Process training(run.train("run", "--set train.steps=100000"));
    REQUIRE(training.run_until([&] { return run.metrics_lines("run") >= 20; }));
    const std::vector<std::pair<std::string, std::function<void(const Terminal&)>>> ways{
        {"q", [](const Terminal& t) { t.type('q'); }},
        {"Ctrl-C", [](const Terminal& t) { t.type('\x03'); }},
        {"SIGTERM", [](const Terminal& t) { t.signal(SIGTERM); }},
    };
    for (const auto& [name, stop] : ways) {
        CAPTURE(name);
        Terminal terminal(run.file("run"));
        REQUIRE(terminal.shows("q quits"));
        CHECK_FALSE(terminal.as_before());
        stop(terminal);
        CHECK(terminal.shows(kLeave));
        CHECK(terminal.wait() == 0);
        CHECK(terminal.as_before());
    }
    Terminal terminal(run.file("run"));
    REQUIRE(terminal.shows("gradient norm"));
    terminal.resize(60, 12);
    REQUIRE(terminal.shows("q quits"));
    training.signal(SIGINT);
    CHECK(training.wait() == 0);
    CHECK(terminal.shows(kLeave));
    CHECK(terminal.shows("nothing trains any more: run interrupted"));
    CHECK(terminal.wait() == 0);
    CHECK(terminal.as_before());
}

TEST_CASE("cli: watch gives the terminal back when it crashes") {
    const TinyRun run;
    Terminal terminal(run.file("none"));
    REQUIRE(terminal.shows("q quits"));
    terminal.signal(SIGSEGV);
    CHECK(terminal.shows(kLeave));
    CHECK(terminal.wait() == -SIGSEGV);
    CHECK(terminal.as_before());
}
