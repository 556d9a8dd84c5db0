#include "base/child_process.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>

#include <unistd.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file_lock.h"
#include "tests/base/refused_calls.h"
#include "tests/base/standard_error.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast;
using namespace std::chrono_literals;

TEST_CASE("child process: both outputs go to the log's end, and the exit code comes back") {
    const test::TemporaryFolder folder;
    write_file(folder / "log", "before\n");
    ChildProcess process({"/bin/sh", "-c", "echo out; echo err >&2; cat; exit 3"}, folder / "log");
    const auto status = process.wait_for(10s);
    REQUIRE(status);
    CHECK(status->code == 3);
    CHECK(status->signal == 0);
    CHECK_FALSE(status->ok());
    CHECK(read_file(folder / "log") == "before\nout\nerr\n");
}

TEST_CASE("child process: signals reach it, and it does not outlive us") {
    const test::TemporaryFolder folder;
    ChildProcess process({"/bin/sleep", "60"}, folder / "log");
    CHECK_FALSE(process.wait_for(10ms));
    process.signal(SIGINT);
    const auto status = process.wait_for(10s);
    REQUIRE(status);
    CHECK(status->signal == SIGINT);
    { const ChildProcess left({"/bin/sleep", "60"}, folder / "log"); }  // returns at once
}

TEST_CASE("child process: its end is known although our parent had us ignore SIGCHLD") {
    const test::TemporaryFolder folder;
    const auto before = std::signal(SIGCHLD, SIG_IGN);
    ChildProcess process({"/bin/sh", "-c", "exit 3"}, folder / "log");
    const auto status = process.wait_for(10s);
    std::signal(SIGCHLD, before);
    REQUIRE(status);
    CHECK(status->code == 3);
}

TEST_CASE("child process: a program that is not there is an error, not an exit code") {
    const test::TemporaryFolder folder;
    CHECK_THROWS_AS(ChildProcess({"/no/such/program"}, folder / "log"), UserError);
}

TEST_CASE("child process: a shell reads quoted words back as they were") {
    const test::TemporaryFolder folder;
    const std::vector<std::string> words{"plain", "",  "two words",  "it's", "a\"b",     "$HOME `x` \\",
                                         "*",     "~", "a;b&c|d<e>", "#no",  "new\nline"};
    std::string wanted;
    for (const std::string& word : words) wanted += "[" + word + "]";
    const std::string command = "printf '[%s]' " + shell_command(words) + " > " + shell_quoted(folder / "out");
    REQUIRE(std::system(command.c_str()) == 0);
    CHECK(read_file(folder / "out") == wanted);
    CHECK(shell_quoted("train.seed=1") == "train.seed=1");
    CHECK(shell_quoted("~/x") == "'~/x'");
}

TEST_CASE("file lock: one holder, seen by others, gone with it") {
    const test::TemporaryFolder folder;
    CHECK_FALSE(FileLock::held(folder / "lock"));
    {
        const auto lock = FileLock::take(folder / "lock");
        REQUIRE(lock);
        CHECK(FileLock::held(folder / "lock"));
        CHECK_FALSE(FileLock::take(folder / "lock"));
    }
    CHECK_FALSE(FileLock::held(folder / "lock"));
    CHECK(FileLock::take(folder / "lock"));
}

TEST_CASE("file lock: its holder is known on this machine, by the file and not by its name") {
    const test::TemporaryFolder folder;
    CHECK_FALSE(FileLock::holder(folder / "lock"));
    const auto lock = FileLock::take(folder / "lock");
    const auto holder = FileLock::holder(folder / "lock");
    if (!holder) {
        WARN("skipped: the system does not list locks, or by other devices than files say");
        return;
    }
    CHECK(*holder == ::getpid());
    std::filesystem::create_hard_link(folder / "lock", folder / "link");
    CHECK(FileLock::holder(folder / "link") == ::getpid());
    write_file(folder / "other", "");
    CHECK_FALSE(FileLock::holder(folder / "other"));
}

TEST_CASE("file lock: a file system without locks does not read as a holder") {
    const test::TemporaryFolder folder;
    for (const int error : {ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL}) {
        CAPTURE(error);
        const auto code = test::with_refused_calls({SYS_flock}, error, [&] {
            bool taken = true;
            const std::string said = test::standard_error_of([&] {  // once for all files of a folder
                for (const char* name : {"lock", "second", "third"}) taken = taken && FileLock::take(folder / name);
            });
            const bool once = said.find("has no locks") != std::string::npos &&
                              said.find("has no locks") == said.rfind("has no locks");
            return (taken ? 1 : 0) + (FileLock::held(folder / "lock") ? 2 : 0) + (once ? 0 : 4);
        });
        if (!code) {
            WARN("skipped: no seccomp filters here");
            return;
        }
        CHECK(*code == 1);
    }
}
