// How programs of ours end: the exit codes, and what becomes of an error that nobody caught (docs/exit-codes.md).
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

/// For an error that ends the program. Errors of the file system are the user's to mend; only what is none of our own
/// error types and none of the system's is called a fault of Ballast.
Ending ending_of(const std::exception& error);

/// Writes "<program>: error: <message>" to standard error, in one call and whether or not it can be written. Returns
/// `code`.
int report_ending(const std::string& program, const Ending& ending);

/// Runs `body` as a program's whole work and returns the exit code. Reports errors, and what could not be written to
/// standard output.
int run_program(const std::string& program, const std::function<int()>& body);

/// For work that is worth more than what it prints (training): a standard output that nobody reads any more, or that is
/// on a full disk, ends neither the work nor, with run_program(), in another exit code.
void let_output_be_lost();

}  // namespace ballast
