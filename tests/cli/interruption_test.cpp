// Runs that are stopped: by Ctrl-C, by kill -9 at any moment, by another process in the same folder.
#include <random>

#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using nlohmann::json;

namespace {

constexpr int kSteps = 240;

/// Long enough to be hit, with checkpoints close enough to be hit while they are written.
std::string long_run(const TinyRun& run, const std::string& name, const std::string& more = "") {
    return run.train(name, fmt::format("--set train.steps={} --set checkpoint.every=3 {}", kSteps, more));
}

int64_t newest_checkpoint(const TinyRun& run, const std::string& name) {
    int64_t newest = -1;
    for (const auto& entry : std::filesystem::directory_iterator(run.file(name + "/checkpoints"))) {
        const std::string file = entry.path().filename().string();
        if (file.ends_with(".h5")) newest = std::max<int64_t>(newest, std::stoll(file.substr(5)));
    }
    return newest;
}

}  // namespace

TEST_CASE("cli: Ctrl-C saves, marks the run and ends with 0, and --resume continues to the same metrics") {
    const TinyRun run;
    succeed(long_run(run, "whole"));
    for (const int signal : {SIGINT, SIGTERM}) {
        CAPTURE(signal);
        const std::string name = fmt::format("stopped-{}", signal);
        Process training(long_run(run, name));
        REQUIRE(training.run_until([&] { return run.metrics_lines(name) >= 4; }));
        training.signal(signal);
        CHECK(training.wait() == 0);
        const json status = run.json(name + "/status.json");
        CHECK(status["status"] == "interrupted");
        REQUIRE(status["step"].get<int64_t>() >= 4);
        REQUIRE(status["step"].get<int64_t>() < kSteps);
        CHECK(newest_checkpoint(run, name) == status["step"]);
        CHECK(leftovers(run.file(name)).empty());

        succeed(long_run(run, name, "--resume"));
        CHECK(run.json(name + "/status.json") == json{{"status", "finished"}, {"step", kSteps}});
        CHECK(run.metrics(name) == run.metrics("whole"));
    }
}

TEST_CASE("cli: Ctrl-C in the middle of any kernel harms nothing") {
    const TinyRun run;
    for (int round = 0; round < 16; ++round) {
        CAPTURE(round);
        const std::string name = fmt::format("stopped-{}", round);
        Process training(long_run(run, name));
        REQUIRE(training.run_until([&] { return run.metrics_lines(name) >= 1 + round % 5; }));
        training.signal(SIGINT);
        REQUIRE(training.wait() == 0);
    }
}

TEST_CASE("cli: after kill -9 at random moments --resume ends in the same metrics") {
    const TinyRun run;
    succeed(long_run(run, "whole"));
    const unsigned seed = 20261123;
    CAPTURE(seed);
    std::mt19937 random(seed);
    int64_t reached = 0;
    for (int round = 0; round < 4; ++round) {
        CAPTURE(round, reached);
        const int64_t target = reached + 1 + static_cast<int64_t>(random() % 40);
        const auto delay = std::chrono::microseconds(random() % 5000);
        Process training(long_run(run, "killed", "--resume"));
        REQUIRE(training.run_until([&] { return run.metrics_lines("killed") >= target; }));
        std::this_thread::sleep_for(delay);
        training.signal(SIGKILL);
        REQUIRE(training.wait() == -SIGKILL);
        CHECK(run.json("killed/status.json")["status"] == "running");
        reached = newest_checkpoint(run, "killed");
    }
    put_bytes(run.file("killed/checkpoints/step_00000001.h5.tmp-99"), "half");  // as a kill during a save leaves it
    succeed(long_run(run, "killed", "--resume"));
    CHECK(leftovers(run.file("killed")).empty());
    CHECK(run.json("killed/status.json")["status"] == "finished");
    CHECK(run.metrics("killed") == run.metrics("whole"));
}

TEST_CASE("cli: --resume with nothing to resume starts the run") {
    const TinyRun run;
    succeed(run.train("fresh"));
    succeed(run.train("resumed", "--resume"));
    CHECK(run.metrics("resumed") == run.metrics("fresh"));
}

TEST_CASE("cli: --resume does not start over a run whose checkpoints are all damaged") {
    const TinyRun run;
    succeed(run.train("run"));
    for (const auto& entry : std::filesystem::directory_iterator(run.file("run/checkpoints")))
        std::filesystem::resize_file(entry.path(), 100);
    const Outcome outcome = ballast_with(run.train("run", "--resume"));
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, Catch::Matchers::ContainsSubstring("every checkpoint"));
    CHECK(run.metrics("run").size() == 14);  // 12 steps and 2 validations, untouched
}

TEST_CASE("cli: a folder in use is left alone") {
    const TinyRun run;
    Process training(run.train("run", "--set train.steps=100000"));
    REQUIRE(training.run_until([&] { return run.metrics_lines("run") >= 1; }));
    for (const char* how : {"", "--resume", "--overwrite"})
        refuse(run.train("run", how), {"another process is training in"});
    CHECK(run.json("run/status.json")["status"] == "running");
    training.signal(SIGINT);
    CHECK(training.wait() == 0);
}
