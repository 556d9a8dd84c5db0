// Runs that hang: they end by themselves and say where; those that are only held up go on.
#include <sys/ptrace.h>
#include <sys/stat.h>

#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

/// A run whose metrics go into a pipe that nobody reads: it hangs as at a file system that does not answer.
void make_hanging(const TinyRun& run, const std::string& name) {
    fs::create_directories(run.file(name));
    REQUIRE(::mkfifo(run.file(name + "/metrics.jsonl").c_str(), 0600) == 0);
}

Process::ShellCommand command(const TinyRun& run, const std::string& name, const std::string& more) {
    return {"exec " + kBallast + " " + run.train(name, more) + " 2>'" + run.file(name + ".err") + "'"};
}

}  // namespace

TEST_CASE("hang: a run of one process that hangs ends with code 1 and says where") {
    const TinyRun run;
    make_hanging(run, "run");
    const Outcome outcome = ballast_with(run.train("run", "--set train.hang_timeout_seconds=1"));
    CAPTURE(outcome.err);
    CHECK(outcome.code == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("ballast: error: the run hangs: rank 0 ("));
    CHECK_THAT(outcome.err, ContainsSubstring("has been in making the run's files of step 0"));
}

TEST_CASE("hang: a start that hangs ends with code 1 and says where") {
    const TinyRun run;
    REQUIRE(::mkfifo(run.file("unread.json").c_str(), 0600) == 0);
    const Outcome outcome = ballast_with(
        run.train("run", "--set train.hang_timeout_seconds=1 --set data.tokenizer=" + run.file("unread.json")));
    CAPTURE(outcome.err);
    CHECK(outcome.code == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("ballast: error: the start hangs: rank 0 ("));
    CHECK_THAT(outcome.err, ContainsSubstring("has been opening the data"));
    CHECK_FALSE(fs::exists(run.file("run")));
}

TEST_CASE("hang: a run that was stopped for longer than the deadline goes on, and one in a debugger is left alone") {
    const TinyRun run;
    const std::string more = "--set train.hang_timeout_seconds=1 ";
    Process stopped(command(run, "stopped", more + "--set train.steps=300"));
    REQUIRE(stopped.run_until([&] { return run.metrics_lines("stopped") > 15; }));
    stopped.signal(SIGSTOP);

    make_hanging(run, "traced");
    Process traced(command(run, "traced", more));
    REQUIRE(::ptrace(PTRACE_SEIZE, traced.id(), nullptr, nullptr) == 0);
    std::this_thread::sleep_for(5s);

    stopped.signal(SIGCONT);
    CHECK(stopped.wait() == 0);
    CHECK(traced.run_until([] { return true; }));
    REQUIRE(::kill(traced.id(), 0) == 0);
    REQUIRE(::ptrace(PTRACE_INTERRUPT, traced.id(), nullptr, nullptr) == 0);
    REQUIRE(::waitpid(traced.id(), nullptr, 0) == traced.id());
    REQUIRE(::ptrace(PTRACE_DETACH, traced.id(), nullptr, nullptr) == 0);
    CHECK(traced.wait() == 1);
    CHECK_THAT(read_file(run.file("traced.err")), ContainsSubstring("the run hangs"));
}
