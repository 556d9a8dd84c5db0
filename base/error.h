// Errors. A UserError is a mistake that the user can correct (exit code 2); every other error has exit code 1.
// docs/exit-codes.md
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace ballast {

/// The user's mistake. The message says in one line what is wrong, where, and how to correct it. Exit code 2.
class UserError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// A failure that is neither the user's mistake nor a fault of the program, such as a diverging loss. Exit code 1.
class RunError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// A fault of Ballast itself. Ends the program with exit code 1.
class InternalError : public std::logic_error {
  public:
    using std::logic_error::logic_error;
};

/// Throws InternalError with the caller's file and line when `ok` is false. For preconditions between parts of Ballast.
void require(bool ok, std::string_view message, std::source_location where = std::source_location::current());

/// Throws UserError("<action> <path>: <strerror(errno)>") with a hint for common errors (full disk, no permission, no
/// such file).
[[noreturn]] void throw_errno(std::string_view action, std::string_view path);

}  // namespace ballast
