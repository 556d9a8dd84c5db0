#include "base/ending.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <new>
#include <system_error>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/process_start.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

TEST_CASE("ending: every kind of error has its code, and only what nobody foresaw is called a fault") {
    const auto code = [](const std::exception& error) { return ending_of(error).code; };
    CHECK(code(UserError("x")) == exit_code::kUserMistake);
    CHECK(code(RunError("x")) == exit_code::kFailed);
    CHECK(code(std::bad_alloc()) == exit_code::kFailed);
    CHECK(code(InternalError("x")) == exit_code::kFailed);
    CHECK(code(std::system_error(ENOSPC, std::generic_category(), "cannot write")) == exit_code::kUserMistake);
    CHECK(code(std::system_error(EAGAIN, std::generic_category(), "thread")) == exit_code::kFailed);
    CHECK(ending_of(UserError("as it is")).message == "as it is");
    CHECK_THAT(ending_of(std::bad_alloc()).message, ContainsSubstring("out of memory"));
    CHECK_THAT(ending_of(InternalError("x")).message, ContainsSubstring("a fault of Ballast"));
    CHECK_THAT(ending_of(std::system_error(EAGAIN, std::generic_category(), "thread")).message,
               !ContainsSubstring("a fault of Ballast"));
}

TEST_CASE("ending: a path that the file system refuses is the user's to mend") {
    const test::TemporaryFolder folder;
    fs::create_symlink("circle", folder.file("circle"));
    for (const std::string& path : {folder.file("circle"), folder.file(std::string(300, 'x'))}) {
        try {
            static_cast<void>(fs::exists(path));
            FAIL("no error for " << path);
        } catch (const fs::filesystem_error& error) {
            const Ending ending = ending_of(error);
            CHECK(ending.code == exit_code::kUserMistake);
            CHECK_THAT(ending.message, ContainsSubstring("cannot use " + path + ": "));
        }
    }
}

TEST_CASE("ending: closed standard streams do not become files of ours") {
    const test::TemporaryFolder folder;
    const pid_t child = ::fork();
    if (child == 0) {
        for (int stream = 0; stream < 3; ++stream) ::close(stream);
        prepare_process();
        const int opened = ::open(folder.file("file").c_str(), O_WRONLY | O_CREAT, 0600);
        std::fputs("progress", stderr);
        std::fflush(stderr);
        ::_exit(opened);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) >= 3);  // what started the tests may have left files open
    CHECK(fs::file_size(folder.file("file")) == 0);
}

TEST_CASE("ending: a limit on the size of files is an error of the write") {
    const test::TemporaryFolder folder;
    const pid_t child = ::fork();
    if (child == 0) {
        prepare_process();
        const rlimit limit{4096, 4096};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const std::string message = test::message_of([&] { write_file(folder.file("x"), std::string(10000, 'x')); });
        ::_exit(message.find("ulimit -f") != std::string::npos && !fs::exists(folder.file("x")) ? 7 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 7);
    CHECK(fs::is_empty(folder.path()));
}
