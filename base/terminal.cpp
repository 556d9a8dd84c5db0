#include "base/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace ballast {
namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l", kLeave = "\x1b[?25h\x1b[?1049l";
constexpr std::array kWishes{SIGINT, SIGTERM, SIGHUP, SIGWINCH};
constexpr std::array kCrashes{SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGQUIT};

volatile std::sig_atomic_t quit_wanted, resized;
bool keys = false;  // standard input is the terminal, with `before` its settings
termios before;
std::array<struct sigaction, kWishes.size() + kCrashes.size()> previous_actions;

void write_all(std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return;  // the terminal is gone; poll will say so
        text.remove_prefix(static_cast<size_t>(count));
    }
}

/// Only calls a signal handler may make.
void restore() {
    write_all(kLeave);
    if (keys) ::tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

void on_wish(int signal) {
    if (signal == SIGWINCH)
        resized = 1;
    else
        quit_wanted = 1;
}

void on_crash(int signal) {
    restore();
    std::signal(signal, SIG_DFL);
    ::raise(signal);
}

}  // namespace

bool output_is_terminal() { return ::isatty(STDOUT_FILENO) != 0; }

bool colours_wanted() {
    const char *no_color = std::getenv("NO_COLOR"), *term = std::getenv("TERM");
    return output_is_terminal() && !(no_color && *no_color) && !(term && std::strcmp(term, "dumb") == 0);
}

std::pair<int, int> terminal_size() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {80, 24};
    return {size.ws_col, size.ws_row};
}

FullScreen::FullScreen() {
    quit_wanted = 0;
    resized = 0;
    struct sigaction action {};
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_wish;  // without SA_RESTART: poll is to return
    size_t slot = 0;
    for (const int signal : kWishes) ::sigaction(signal, &action, &previous_actions[slot++]);
    action.sa_handler = on_crash;
    for (const int signal : kCrashes) ::sigaction(signal, &action, &previous_actions[slot++]);
    keys = ::tcgetattr(STDIN_FILENO, &before) == 0;
    if (keys) {
        termios raw = before;
        raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        raw.c_cc[VSUSP] = _POSIX_VDISABLE;  // stopped, it would leave the screen as it is
        ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    write_all(kEnter);
}

FullScreen::~FullScreen() {
    restore();
    size_t slot = 0;
    for (const int signal : kWishes) ::sigaction(signal, &previous_actions[slot++], nullptr);
    for (const int signal : kCrashes) ::sigaction(signal, &previous_actions[slot++], nullptr);
}

void FullScreen::show(const std::vector<std::string>& lines) {
    std::string out = "\x1b[H";  // over the old frame rather than after clearing: no flicker
    for (size_t i = 0; i < lines.size(); ++i) out += lines[i] + "\x1b[K" + (i + 1 < lines.size() ? "\r\n" : "");
    write_all(out + "\x1b[J");
}

FullScreen::Event FullScreen::wait(std::chrono::milliseconds limit) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    const int ready = quit_wanted || resized ? 0 : ::poll(&input, keys ? 1 : 0, static_cast<int>(limit.count()));
    if (quit_wanted) return Event::quit;
    if (resized) {
        resized = 0;
        return Event::resized;
    }
    if (ready <= 0) return Event::none;
    char key = 0;
    const ssize_t count = ::read(STDIN_FILENO, &key, 1);
    return key == 'q' || key == 'Q' || key == 4 || count == 0 || (input.revents & POLLERR) ? Event::quit : Event::none;
}

}  // namespace ballast
