#include "base/ending.h"

#include <fmt/format.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <new>
#include <system_error>

#include "base/error.h"
#include "base/log.h"

namespace ballast {
namespace {

/// What a full disk, a closed pipe or a limit does to output; such an error names no file.
bool is_output_error(const std::error_code& code) {
    for (const std::errc error : {std::errc::no_space_on_device, std::errc::broken_pipe, std::errc::io_error,
                                  std::errc::file_too_large, std::errc::bad_file_descriptor})
        if (code == error) return true;
    return code.value() == EDQUOT;
}

bool output_may_be_lost = false;

}  // namespace

Ending ending_of(const std::exception& error) {
    if (dynamic_cast<const UserError*>(&error)) return {exit_code::kUserMistake, error.what()};
    if (dynamic_cast<const RunError*>(&error)) return {exit_code::kFailed, error.what()};
    if (dynamic_cast<const std::bad_alloc*>(&error))
        return {exit_code::kFailed, "out of memory; use a smaller model, batch or sequence, or a larger machine"};
    if (const auto* files = dynamic_cast<const std::filesystem::filesystem_error*>(&error))
        return {exit_code::kUserMistake, fmt::format("cannot use {}: {}; check the path and who may read or write it",
                                                     files->path1().string(), files->code().message())};
    if (const auto* system = dynamic_cast<const std::system_error*>(&error)) {
        if (is_output_error(system->code()))
            return {exit_code::kUserMistake, fmt::format("{}; is its disk full, or its reader gone?", error.what())};
        return {exit_code::kFailed, fmt::format("the system refused: {}", error.what())};
    }
    return {exit_code::kFailed,
            fmt::format("{} (a fault of Ballast: please report it with this line, the command and the output of "
                        "`ballast info`)",
                        error.what())};
}

int report_ending(const std::string& program, const Ending& ending) {
    leave_status_line();
    std::cout.flush();
    const std::string line = fmt::format("{}: error: {}\n", program, ending.message);
    std::fputs(line.c_str(), stderr);  // fmt::print would throw where standard error cannot be written
    return ending.code;
}

void let_output_be_lost() {
    output_may_be_lost = true;
    std::signal(SIGPIPE, SIG_IGN);
}

int run_program(const std::string& program, const std::function<int()>& body) {
    int code = exit_code::kDone;
    try {
        code = body();
    } catch (const std::exception& error) {
        return report_ending(program, ending_of(error));
    }
    if (output_may_be_lost) return code;
    std::cout.flush();
    if (std::cout && std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
    return report_ending(program, {code != exit_code::kDone ? code : exit_code::kUserMistake,
                                   "cannot write to standard output; is its disk full?"});
}

}  // namespace ballast
