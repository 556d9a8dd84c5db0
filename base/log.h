// Messages for people, on standard error; results go to standard output or files.
#pragma once

#include <string_view>

namespace ballast {

/// One line each: "[14:03:59] message", "[14:03:59] warning: message", coloured on a terminal only. Any thread may
/// call.
void log_info(std::string_view message);
void log_warning(std::string_view message);
void log_error(std::string_view message);

/// Prints a line of results on standard output. On a terminal the line appears above the status line.
void print_line(std::string_view line);

/// Shows `line` as the terminal's last line, in place of the previous one; messages appear above it. For Progress.
void show_status_line(std::string_view line);
/// Ends the status line, if there is one: its text stays on the terminal and output continues on the next line.
void leave_status_line();

}  // namespace ballast
