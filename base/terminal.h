// Full-screen use of a terminal.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace ballast {

/// True when standard output is a terminal: escape codes may be written.
bool output_is_terminal();
/// True when colours may be used: NO_COLOR is not set (no-color.org) and TERM is not "dumb".
bool colours_wanted();
/// Columns and rows of the terminal on standard output; 80 by 24 when it is not a terminal.
std::pair<int, int> terminal_size();

/// Uses the alternate screen without a cursor and reads keys one by one. The destructor, or any signal that ends the
/// process, restores the terminal. One object at a time.
class FullScreen {
  public:
    FullScreen();
    ~FullScreen();
    FullScreen(const FullScreen&) = delete;
    FullScreen& operator=(const FullScreen&) = delete;

    void show(const std::vector<std::string>& lines);

    enum class Event { none, resized, quit };
    /// Waits up to `limit` for q, Ctrl-C or SIGTERM (quit), or for a change of size.
    Event wait(std::chrono::milliseconds limit);
};

}  // namespace ballast
