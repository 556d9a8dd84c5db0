// A terminal taken over for a while.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace ballast {

/// Whether to write escape codes: standard output is a terminal.
bool output_is_terminal();
/// Whether colours are wanted there: not with NO_COLOR set (no-color.org) or TERM=dumb.
bool colours_wanted();
/// Columns and rows of the terminal on standard output; 80 by 24 where there is none.
std::pair<int, int> terminal_size();

/// The alternate screen without cursor, keys read one by one. The end of its life, and any signal that ends the
/// process, puts the terminal back as it was. One at a time.
class FullScreen {
  public:
    FullScreen();
    ~FullScreen();
    FullScreen(const FullScreen&) = delete;
    FullScreen& operator=(const FullScreen&) = delete;

    void show(const std::vector<std::string>& lines);

    enum class Event { none, resized, quit };
    /// Waits up to `limit` for q, Ctrl-C or SIGTERM (quit) or a new size.
    Event wait(std::chrono::milliseconds limit);
};

}  // namespace ballast
