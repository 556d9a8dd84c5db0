// Runs that are stopped: by Ctrl-C, by kill -9 at any moment, by another process in the same folder.
#include <array>
#include <random>

#include <cerrno>

#include <sys/stat.h>

#include "base/build_info.h"
#include "base/child_process.h"
#include "base/safetensors.h"
#include "data/megatron_files.h"
#include "tests/base/refused_calls.h"
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

/// True once the process is the program, and a Ctrl-C would not end it at once.
bool catches_interrupt(const Process& process) {
    std::istringstream lines(read_file(fmt::format("/proc/{}/status", process.id())));
    bool is_program = false, catches = false;
    for (std::string line; std::getline(lines, line);) {
        is_program = is_program || line == "Name:\tballast";
        if (line.starts_with("SigCgt:")) catches = (std::stoull(line.substr(7), nullptr, 16) >> (SIGINT - 1)) & 1;
    }
    return is_program && catches;
}

/// The exit code of a command that is sent a Ctrl-C as soon as it expects one.
int code_when_interrupted(const std::string& arguments) {
    CAPTURE(arguments);
    Process process(arguments);
    REQUIRE(process.run_until([&] { return catches_interrupt(process); }));
    process.signal(SIGINT);
    return process.wait();
}

}  // namespace

TEST_CASE("cli: Ctrl-C ends eval, generate, report and moa with 1, and of results only a profile so far is written") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1 --set model.max_position_embeddings=64"));
    std::string text;  // seconds of work for each
    for (int i = 0; i < 10; ++i) text += read_file(run.file("text.txt"));
    write_file(run.file("long.txt"), text);
    const std::string old = "what was there\n";
    for (const char* name : {"old.json", "old.html"}) write_file(run.file(name), old);
    const std::string of_run = run.file("run") + " --threads 1 ", of_text = of_run + "--text " + run.file("long.txt");
    for (const std::string& command :
         {"eval streaming " + of_text + " --cache 8,16,24 --method cache --json " + run.file("old.json"),
          "eval table " + of_text + " --cache 16 --method cache --json " + run.file("old.json"),
          "generate " + of_run + "a --policy sink --cache 32 --temperature 0 --max-tokens 10000000 --json " +
              run.file("old.json"),
          "report " + of_text + " --max-tokens 0 --cache 16 -o " + run.file("old.html")}) {
        CAPTURE(command);
        CHECK(code_when_interrupted(command) == 1);
        CHECK(bytes_of(run.file("old.json")) == old);
        CHECK(bytes_of(run.file("old.html")) == old);
    }
    CHECK_FALSE(std::filesystem::exists(run.file("run/eval/table.json")));
    const std::vector<int32_t> ids(1000 * 32, 5);
    SafetensorsWriter writer(run.file("ids.safetensors"));
    writer.add("input_ids", Dtype::i32, std::vector<int64_t>{1000, 32}, ids.data());
    writer.commit();
    CHECK(code_when_interrupted("eval logits " + run.file("run") + " --ids " + run.file("ids.safetensors") +
                                " --grads --out " + run.file("logits.safetensors")) == 1);
    CHECK_FALSE(std::filesystem::exists(run.file("logits.safetensors")));

    succeed("moa calibrate " + of_run + "--kind human --lengths 32 --count 8 --answer-tokens 4 --text " +
            run.file("text.txt") + " -o " + run.file("items.jsonl"));
    CHECK(code_when_interrupted("moa profile " + of_run + run.file("items.jsonl") +
                                " --lengths 32 --block 4 --draws 500 -o " + run.file("profile.h5")) == 1);
    CHECK(std::filesystem::exists(run.file("profile.h5")));
    CHECK(leftovers(run.folder.path()).empty());
}

TEST_CASE("cli: Ctrl-C and its like save, mark the run and end with 0, and --resume continues to the same metrics") {
    const TinyRun run;
    succeed(long_run(run, "whole"));
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
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

TEST_CASE("cli: --resume does not start over a saved run whose checkpoints are gone") {
    const TinyRun run;
    succeed(run.train("run"));
    const auto metrics = run.metrics("run");
    std::filesystem::rename(run.file("run/checkpoints"), run.file("archive"));
    refuse(run.train("run", "--resume"), {"no checkpoints", "put them back", "--overwrite"});
    CHECK(run.metrics("run") == metrics);
    std::filesystem::remove_all(run.file("run/checkpoints"));
    std::filesystem::rename(run.file("archive"), run.file("run/checkpoints"));
    succeed(run.train("run", "--resume"));
}

TEST_CASE("cli: --resume does not start over a run whose checkpoints cannot be listed") {
    if (!build_info().sanitizers.empty()) {
        WARN("skipped: sanitizers list the process's threads");
        return;
    }
    const TinyRun run;
    succeed(run.train("run"));
    std::filesystem::create_directories(run.file("run/eval"));
    write_file(run.file("run/eval/mine.json"), "{}");
    const std::string before = bytes_of(run.file("run/metrics.jsonl"));
    const std::string command =
        fmt::format("exec {} {} 2>{} >{}", kBallast, run.train("run", "--resume --set train.steps=14"),
                    run.file("err"), run.file("out"));
    const auto code = shell_with_refused_calls({SYS_getdents64}, EIO, command);
    if (!code) {
        WARN("skipped: no system call filters here");
        return;
    }
    CHECK(*code == 2);
    CHECK_THAT(read_file(run.file("err")),
               Catch::Matchers::ContainsSubstring("cannot read the folder " + run.file("run/checkpoints") +
                                                  ": Input/output error"));
    CHECK(bytes_of(run.file("run/metrics.jsonl")) == before);
    CHECK(std::filesystem::exists(run.file("run/eval/mine.json")));
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

TEST_CASE("cli: a signal that comes twice within milliseconds is one wish, and the run is saved") {
    const TinyRun run;
    for (const auto& [first, second] :
         {std::array{SIGINT, SIGINT}, {SIGTERM, SIGTERM}, {SIGHUP, SIGHUP}, {SIGTERM, SIGHUP}}) {
        CAPTURE(first, second);
        const std::string name = fmt::format("run-{}-{}", first, second);
        // Steps of some tenths of a second, so that the second signal comes before the end of one.
        Process training(run.train(name, "--set train.steps=100000 --set train.global_batch=300"));
        REQUIRE(training.run_until([&] { return run.metrics_lines(name) >= 1; }));
        training.signal(first);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        training.signal(second);
        CHECK(training.wait() == 0);
        CHECK(run.json(name + "/status.json")["status"] == "interrupted");
    }
    // timeout hands a signal to the program, and then to the program's group.
    Process launched(
        Process::ShellCommand{"exec timeout 1000 " + kBallast + " " +
                              run.train("launched", "--set train.steps=100000 --set train.global_batch=300")});
    REQUIRE(launched.run_until([&] { return run.metrics_lines("launched") >= 1; }));
    launched.signal(SIGTERM);
    CHECK(launched.wait() == 0);
    CHECK(run.json("launched/status.json")["status"] == "interrupted");
}

TEST_CASE("cli: only a second Ctrl-C or SIGTERM, a second after the first, ends a run at once") {
    const TinyRun run;
    for (const auto& [first, second, code] : {std::array{SIGINT, SIGINT, 128 + SIGINT},
                                              {SIGTERM, SIGTERM, 128 + SIGTERM},
                                              {SIGHUP, SIGHUP, -SIGKILL},
                                              {SIGTERM, SIGHUP, -SIGKILL}}) {
        CAPTURE(first, second);
        const std::string name = fmt::format("run-{}-{}", first, second);
        std::filesystem::create_directories(run.file(name));
        REQUIRE(::mkfifo(run.file(name + "/metrics.jsonl").c_str(), 0600) == 0);  // nobody reads it: no step ends
        Process training(run.train(name));
        REQUIRE(training.run_until([&] { return catches_interrupt(training); }));
        training.signal(first);
        std::this_thread::sleep_for(std::chrono::milliseconds(1100));
        training.signal(second);
        if (code == -SIGKILL) {
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            training.signal(SIGKILL);
        }
        CHECK(training.wait() == code);
    }
}

TEST_CASE("cli: a signal that the parent ignores stays ignored") {
    const TinyRun run;
    Process training(long_run(run, "run"), "trap '' INT HUP;");
    REQUIRE(training.run_until([&] { return run.metrics_lines("run") >= 1; }));
    training.signal(SIGINT);
    training.signal(SIGHUP);
    CHECK(training.wait() == 0);
    CHECK(run.json("run/status.json")["status"] == "finished");
}

TEST_CASE("cli: a terminal or pipe that went away does not end a training") {
    const TinyRun run;
    const std::string command =
        fmt::format("{{ {} {} 2>/dev/null; echo $? >{}; }} | head -n 1 >/dev/null", kBallast,
                    long_run(run, "run"), run.file("code"));
    REQUIRE(std::system(command.c_str()) == 0);
    CHECK(read_file(run.file("code")) == "0\n");
    CHECK(run.json("run/status.json") == json{{"status", "finished"}, {"step", kSteps}});
    if (!std::filesystem::exists("/dev/full")) return;
    const std::string full = fmt::format("{} {} >/dev/full 2>/dev/full", kBallast, run.train("full"));
    CHECK(std::system(full.c_str()) == 0);
    CHECK(run.json("full/status.json")["status"] == "finished");
}

TEST_CASE("cli: the printed command continues the run as it stands") {
    const TinyRun run;
    std::filesystem::create_directories(run.file("it's here"));
    write_file(run.file("it's here/a config.toml"), run.config());
    const std::string settings = fmt::format(
        " --set train.steps={} --set 'sample.prompt=\"two words\"' --set optimizer.eps=1e-7 --backend cpu", kSteps);
    const std::string config = shell_quoted(run.file("it's here/a config.toml"));
    succeed("train " + config + " --out " + run.file("whole") + settings);
    const std::string out = shell_quoted(run.file("a run"));
    Process training("train " + config + " --out " + out + settings + " >" + run.file("printed"));
    REQUIRE(training.run_until([&] { return run.metrics_lines("a run") >= 3; }));
    training.signal(SIGINT);
    REQUIRE(training.wait() == 0);
    const std::string printed = read_file(run.file("printed")), mark = "interrupted; continue with: ";
    REQUIRE(printed.find(mark) != std::string::npos);
    const std::string command = printed.substr(printed.find(mark) + mark.size());
    CAPTURE(command);
    CHECK_THAT(command, Catch::Matchers::ContainsSubstring(" --backend cpu"));
    CHECK(std::system(("unset OLDPWD; " + command.substr(0, command.size() - 1) + " >/dev/null 2>&1").c_str()) == 0);
    CHECK(run.json("a run/status.json") == json{{"status", "finished"}, {"step", kSteps}});
    CHECK(run.metrics("a run") == run.metrics("whole"));
    CHECK(read_file(run.file("a run/config.toml")) == read_file(run.file("whole/config.toml")));
}

TEST_CASE("cli: after a changed resume every command knows the run as it is now") {
    const TinyRun run;
    const std::string show =
        "data show " + run.file("train.h5") + " --count 1 --config " + run.file("run") + " --step ";
    succeed(run.train("run"));  // 12 steps of 4
    const std::string before = succeed(show + "12");
    CHECK_THAT(before, Catch::Matchers::ContainsSubstring("=== step 12, sample 0 of 4 (number 44 of "));
    refuse(show + "13", {"past the last of 12 steps"});
    succeed(run.train("run", "--resume --set train.steps=14 --set train.global_batch=8"));
    CHECK_THAT(read_file(run.file("run/config.toml")), Catch::Matchers::ContainsSubstring("\nsteps = 14\n"));
    CHECK(run.json("run/status.json") == json{{"status", "finished"}, {"step", 14}});
    CHECK_THAT(succeed("watch --once " + run.file("run")), Catch::Matchers::ContainsSubstring("14/14"));
    CHECK(succeed(show + "12") == before);
    CHECK_THAT(succeed(show + "14"), Catch::Matchers::ContainsSubstring("=== step 14, sample 0 of 8 (number 56 of "));
    refuse("data show " + run.file("validation.h5") + " --config " + run.file("run") + " --step 14",
           {"did not read", "validation.h5"});

    refuse(run.train("run", "--resume"), {"step_00000014.h5 is at step 14", "train.steps = 12"});
    refuse(run.train("run", "--resume --set train.steps=15 --set train.sequence_length=16"),
           {"train.sequence_length was 32 and is 16", "--allow-data-change"});
    refuse(run.train("run", "--allow-data-change"), {"--allow-data-change requires --resume"});
    CHECK(run.json("run/status.json")["step"] == 14);
    succeed(run.train("run", "--resume --allow-data-change --set train.steps=15 --set train.sequence_length=16"));
    CHECK_THAT(succeed(show + "15"), Catch::Matchers::ContainsSubstring("=== step 15, sample 0 of 4 (number 0 of "));
}

TEST_CASE("cli: a preshuffled run goes on with another batch as long as its samples last") {
    const TinyRun run;
    data::MegatronWriter writer(run.file("set.idx"), Dtype::u16);
    std::vector<int64_t> ends;
    for (uint16_t sample = 0; sample < 12; ++sample) {
        const std::vector<uint16_t> ids(33, static_cast<uint16_t>(20 + sample));
        writer.append_tokens(ids.data(), 33);
        ends.push_back(33 * (sample + 1));
    }
    writer.commit(12, [&](const auto& visit) { visit(std::span(ends)); });
    const auto train = [&](const std::string& name, int batch, int steps) {
        return run.train(name, fmt::format("--set data.train={} --set data.order=preshuffled --set train.micro_batch=2 "
                                           "--set train.global_batch={} --set train.steps={} ",
                                           run.file("set.idx"), batch, steps));
    };
    succeed(train("run", 2, 4));  // 8 samples
    refuse(train("run", 4, 6) + "--resume", {"of its 12 samples 4 are left", "ask for 8"});
    succeed(train("run", 4, 5) + "--resume");
    CHECK(run.json("run/status.json") == json{{"status", "finished"}, {"step", 5}});
    refuse(train("new", 4, 5), {"holds 12 samples", "ask for 20"});
    CHECK_FALSE(std::filesystem::exists(run.file("new")));
}

TEST_CASE("cli: sizes past any run are refused with their cause, and whole numbers may be written as 1e3") {
    const TinyRun run;
    refuse(run.train("run", "--set train.steps=1000000000000000 --set train.global_batch=1048576"),
           {"more than the 1e18 that can be counted"});
    refuse(run.train("run", "--set train.steps=100000000000"),
           {"sample order ", "lower train.steps or train.global_batch"});
    refuse(run.train("run", "--set train.steps=1.5"), {"train.steps = 1.5 must be a whole number"});
    succeed(run.train("run", "--set train.steps=1.2e1"));
    CHECK(run.json("run/status.json") == json{{"status", "finished"}, {"step", 12}});
    const std::string out = succeed(run.train("again", "--set train.log_every=5"));
    for (const char* part : {" | sample order ", "step 5/12 | loss", "step 12/12 | loss"})
        CHECK_THAT(out, Catch::Matchers::ContainsSubstring(part));
    CHECK(out.find("step 4/12 | loss") == std::string::npos);
    refuse("data show " + run.file("train.h5") + " --steps 1000000000000 --batch 1000000000000 --seq 2",
           {"more than the 1e18 that can be counted"});
}

TEST_CASE("cli: a run that diverges ends with 1 and keeps its last good checkpoint") {
    const TinyRun run;
    const Outcome outcome = ballast_with(
        run.train("run",
                  "--set optimizer.learning_rate=10 --set optimizer.eps=0 --set optimizer.clip_norm=0 --set "
                  "optimizer.warmup=0 --set checkpoint.log_spaced=true"));
    CHECK(outcome.code == 1);
    CHECK_THAT(outcome.err, Catch::Matchers::ContainsSubstring("the last good checkpoint is "));
    CHECK(run.json("run/status.json")["status"] == "failed");
    CHECK(newest_checkpoint(run, "run") == 0);
}
