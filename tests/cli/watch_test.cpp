// `ballast watch`: one frame without a terminal; on one, the screen is given back however it ends.
#include "tests/cli/terminal.h"
#include "train/heartbeat.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

const std::string kLeave = "\x1b[?1049l";

}  // namespace

TEST_CASE("cli: watch --once prints one plain frame") {
    const TinyRun run;
    succeed(run.train("a"));
    const std::string out = succeed("watch " + run.file("a") + " " + run.file("none"));
    for (const char* part : {"a a", "b none", "finished", "not there yet", "12/12", "loss (o validation) by step", "o"})
        CHECK_THAT(out, ContainsSubstring(part));
    CHECK(out.find('\x1b') == std::string::npos);
    CHECK(succeed("watch --once " + run.file("a") + " " + run.file("none")) == out);
    refuse("watch", {"runs"});
    refuse("watch " + run.file("a") + " " + run.file("a/"), {"given twice"});
}

TEST_CASE("cli: watch gives the terminal back after q, Ctrl-C, SIGTERM and the end of the run") {
    const TinyRun run;
    Process training(run.train("run", "--set train.steps=100000"));
    REQUIRE(training.run_until([&] { return run.metrics_lines("run") >= 20; }));
    const std::vector<std::pair<std::string, std::function<void(const Terminal&)>>> ways{
        {"q", [](const Terminal& t) { t.type('q'); }},
        {"Ctrl-C", [](const Terminal& t) { t.type('\x03'); }},
        {"SIGTERM", [](const Terminal& t) { t.signal(SIGTERM); }},
    };
    for (const auto& [name, stop] : ways) {
        CAPTURE(name);
        Terminal terminal({"watch", run.file("run")});
        REQUIRE(terminal.shows("q quits"));
        CHECK_FALSE(terminal.as_before());
        stop(terminal);
        CHECK(terminal.shows(kLeave));
        CHECK(terminal.wait() == 0);
        CHECK(terminal.as_before());
    }
    Terminal terminal({"watch", run.file("run")});
    REQUIRE(terminal.shows("gradient norm"));
    terminal.resize(60, 12);
    REQUIRE(terminal.shows("q quits"));
    training.signal(SIGINT);
    CHECK(training.wait() == 0);
    CHECK(terminal.shows(kLeave));
    CHECK(terminal.shows("nothing trains any more: run interrupted"));
    CHECK(terminal.wait() == 0);
    CHECK(terminal.as_before());
}

TEST_CASE("cli: watch shows what ranks do, and which one the others wait for") {
    const TinyRun run;
    Process training(run.train("run", "--set train.steps=100000 --set train.hang_timeout_seconds=4"));
    REQUIRE(training.run_until([&] { return fs::exists(run.file("run/heartbeats/rank_0000.json")); }));
    const std::string alone = succeed("watch --once " + run.file("run"));
    CHECK_THAT(alone, ContainsSubstring("\n  rank 0: step "));
    CHECK(alone.find("\n! ") == std::string::npos);

    // More ranks than this machine has, in the folder of a run that goes on.
    train::Heartbeat other;
    other.host = "elsewhere";
    other.step = 9;
    other.place = {train::Activity::exchange_gradients, 3};
    other.still = 100;
    for (other.rank = 1; other.rank < 64; ++other.rank) train::HeartbeatFolder(run.file("run")).write(other);
    other.rank = 17;
    other.pid = 4711;
    other.place = {train::Activity::backward, 5};
    train::HeartbeatFolder(run.file("run")).write(other);
    const std::string many = succeed("watch --once " + run.file("run"));
    CHECK_THAT(many, ContainsSubstring("\n! rank 17: step 9, backward of layer 5 for 1m40s (elsewhere, "
                                       "process 4711)\n"
                                       "  ranks 1-16 18-63 (62): step 9, exchange of gradients, bucket 3 for 1m40s\n"));
    Terminal terminal({"watch", run.file("run")});
    CHECK(terminal.shows("! rank 17"));
    terminal.type('q');
    CHECK(terminal.wait() == 0);
    training.signal(SIGKILL);
    training.wait();
    CHECK(succeed("watch --once " + run.file("run")).find("rank") == std::string::npos);  // nobody trains it
}

TEST_CASE("cli: watch gives the terminal back when it crashes") {
    const TinyRun run;
    Terminal terminal({"watch", run.file("none")});
    REQUIRE(terminal.shows("q quits"));
    terminal.signal(SIGSEGV);
    CHECK(terminal.shows(kLeave));
    CHECK(terminal.wait() == -SIGSEGV);
    CHECK(terminal.as_before());
}

TEST_CASE("cli: watch goes on as long as one of its runs may still train") {
    const TinyRun run;
    succeed(run.train("done", "--set train.steps=1"));
    Terminal terminal({"watch", run.file("done"), run.file("none")});
    CHECK(terminal.shows("q quits"));
    terminal.type('q');
    CHECK_FALSE(terminal.shows("nothing trains any more"));
    CHECK(terminal.wait() == 0);
}
