// How our programs end: the exit codes, and the handling of uncaught errors (docs/exit-codes.md).
#pragma once

#include <exception>
#include <functional>
#include <string>

namespace ballast {

namespace exit_code {
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;  ///< neither done nor the user's mistake: a diverged loss, Ctrl-C, a fault of ours
inline constexpr int kUserMistake = 2;  ///< something the user can mend: an option, a file, a full disk
}  // namespace exit_code

struct Ending {
    int code;
    std::string message;  ///< one line that says what, where and what to do
};

/// The message and exit code for an error that ends the program. Errors of the file system count as the user's mistake.
/// Only an exception that is neither one of our types nor one of the system's is reported as a fault of Ballast.
Ending ending_of(const std::exception& error);

/// Writes "<program>: error: <message>" to standard error in one call, and ignores a failure to write. Returns `code`.
int report_ending(const std::string& program, const Ending& ending);

/// Runs `body` as the whole program and returns the exit code. Reports errors, and a failure to write standard output.
int run_program(const std::string& program, const std::function<int()>& body);

/// For work that matters more than its output (training). After this call a standard output that nobody reads, or that
/// is on a full disk, neither ends the work nor changes the exit code of run_program().
void let_output_be_lost();

}  // namespace ballast
