// `ballast sweep`: all cells, what is there already, what fails, what is interrupted, what is refused.
#include "tests/cli/terminal.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

struct TinySweep : TinyRun {
    explicit TinySweep(int steps = 6) {
        write_file(
            file("sweep.toml"),
            fmt::format(
                "base = \"config.toml\"\n[set]\ntrain.steps = {}\ncheckpoint.every = 100\n[grid]\ntrain.seed = [1, 2]\n"
                "[[variant]]\nname = \"plain\"\n"
                "[[variant]]\nname = \"sinks\"\nset.model.num_sink_tokens = 2\n"
                "[evaluate]\ncache = 16\nmax_tokens = 200\n",
                steps));
    }

    std::string sweep(const std::string& out, const std::string& more = "") const {
        return fmt::format("sweep {} --out {} {}", file("sweep.toml"), file(out), more);
    }
    std::string measured(const std::string& out, const std::string& more = "") const {
        return sweep(out, "--text " + file("text.txt") + " " + more);
    }
    std::string status(const std::string& run) const {
        return fs::exists(file(run + "/status.json")) ? json(run + "/status.json")["status"] : "";
    }
};

const std::vector<std::string> kCells{"plain,seed=1", "sinks,seed=1", "plain,seed=2", "sinks,seed=2"};

}  // namespace

TEST_CASE("cli: a sweep goes on past a failed cell, and only trains and measures what is missing") {
    const TinySweep tiny;
    const std::string blocked = tiny.file("out/" + kCells[1] + "/checkpoints");
    fs::create_directories(fs::path(blocked).parent_path());
    put_bytes(blocked, "in the way");
    const Outcome failed = ballast_with(tiny.measured("out"));
    CHECK(failed.code == 1);
    CHECK_THAT(failed.err, ContainsSubstring("cell sinks,seed=1 failed: cannot make the folder"));
    CHECK_THAT(failed.err, ContainsSubstring("train.log"));
    CHECK_THAT(failed.err, ContainsSubstring("ballast: error: 1 of 4 cells failed: sinks,seed=1"));
    CHECK_THAT(failed.err, ContainsSubstring("run the sweep again: /"));
    CHECK_THAT(failed.out, ContainsSubstring("Incomplete: 3 of 4 cells"));
    CHECK(tiny.json("out/table.json")["trained"] == 3);

    fs::remove(blocked);
    const auto trained = fs::last_write_time(tiny.file("out/" + kCells[0] + "/metrics.jsonl"));
    const auto measured = fs::last_write_time(tiny.file("out/" + kCells[0] + "/eval/table.json"));
    const std::string out = succeed(tiny.measured("out"));
    CHECK_THAT(out, ContainsSubstring("to train   1 of 4 cells"));
    CHECK_THAT(out, !ContainsSubstring("Incomplete"));
    CHECK(fs::last_write_time(tiny.file("out/" + kCells[0] + "/metrics.jsonl")) == trained);
    CHECK(fs::last_write_time(tiny.file("out/" + kCells[0] + "/eval/table.json")) == measured);
    CHECK_THAT(out, ContainsSubstring(read_file(tiny.file("out/table.md"))));

    const auto cell = tiny.json("out/" + kCells[0] + "/eval/table.json")["models"][0]["results"][0];
    CHECK(cell["cache"] == 16);
    CHECK(cell["of_tokens"] == 199);  // [evaluate] max_tokens
    const auto table = tiny.json("out/table.json");
    CHECK(table["rows"].size() == 2);
    CHECK(table["rows"][1]["cells"] == std::vector<std::string>{"sinks,seed=1", "sinks,seed=2"});
    CHECK(table["columns"].size() == 12);  // 3 losses, 6 of the cache table, 3 of attention
    for (const auto& row : table["rows"])
        for (const auto& value : row["values"]) CHECK(value["n"] == 2);
    CHECK_THAT(read_file(tiny.file("out/report.html")), ContainsSubstring("sinks,seed=2"));
    CHECK(leftovers(tiny.file("out")).empty());

    succeed(tiny.measured("out", "--set train.threads=2"));  // which changes no result
    CHECK(fs::last_write_time(tiny.file("out/" + kCells[0] + "/eval/table.json")) == measured);
    std::string file = read_file(tiny.file("sweep.toml"));
    file.replace(file.find("cache = 16"), 10, "cache = 8");
    write_file(tiny.file("sweep.toml"), file);
    CHECK_THAT(succeed(tiny.measured("out")), ContainsSubstring(" 4+4 ") && !ContainsSubstring(" 4+12 "));

    refuse(tiny.measured("out", "--set optimizer.weight_decay=0.2"),
           {"cell plain,seed=1 (and 3 other cells) was trained under another configuration",
            "optimizer.weight_decay = 0.1 there, 0.2 here", "choose another --out"});

    // What a report measured anew of other settings is no row of the sweep's table.
    const std::string measurements = tiny.file("out/" + kCells[0] + "/eval/table.json");
    const auto cache_there = [&] { return nlohmann::json::parse(read_file(measurements))["cache"].get<int64_t>(); };
    succeed("report " + tiny.file("out/" + kCells[0]) + " --cache 16 --max-tokens 100 --text " + tiny.file("text.txt") +
            " -o " + tiny.file("page.html"));
    CHECK(cache_there() == 16);
    succeed(tiny.measured("out"));
    CHECK(cache_there() == 8);
}

TEST_CASE("cli: printed commands train the cells that a sweep, interrupted and killed, trains too") {
    const TinySweep tiny(240);
    const std::string commands = succeed(tiny.sweep("by-hand", "--print"));
    CHECK(lines_of(commands) == 4);
    CHECK_FALSE(fs::exists(tiny.file("by-hand")));
    write_file(tiny.file("commands.sh"), commands);
    REQUIRE(std::system(fmt::format("cd / && sh -e {} > /dev/null 2>&1", tiny.file("commands.sh")).c_str()) == 0);
    const std::string out = succeed(tiny.sweep("by-hand"));
    CHECK_THAT(out, ContainsSubstring("nothing is left to train"));
    CHECK(tiny.json("by-hand/table.json")["trained"] == 4);
    CHECK_FALSE(fs::exists(tiny.file("by-hand/" + kCells[0] + "/train.log")));

    const std::string first = "swept/" + kCells[0], second = "swept/" + kCells[1];
    {
        Process sweeping(tiny.sweep("swept", ">" + tiny.file("printed")));
        REQUIRE(sweeping.run_until([&] { return tiny.metrics_lines(first) >= 4; }));
        sweeping.signal(SIGINT);
        CHECK(sweeping.wait() == 0);
        CHECK(tiny.status(first) == "interrupted");
        CHECK_FALSE(fs::exists(tiny.file("swept/table.json")));
    }
    const std::string printed = read_file(tiny.file("printed")), mark = "interrupted; continue with: ";
    REQUIRE(printed.find(mark) != std::string::npos);
    const std::string continues = printed.substr(printed.find(mark) + mark.size());
    {
        CAPTURE(continues);  // wherever programs are looked for
        Process sweeping(Process::ShellCommand{"PATH=/none; exec " + continues});
        REQUIRE(sweeping.run_until([&] { return tiny.metrics_lines(second) >= 4; }));
        CHECK(tiny.status(first) == "finished");
        sweeping.signal(SIGKILL);  // the cell's process saves and ends by itself
        CHECK(sweeping.wait() == -SIGKILL);
        for (int i = 0; i < 1000 && tiny.status(second) != "interrupted"; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        CHECK(tiny.status(second) == "interrupted");
    }
    succeed(tiny.sweep("swept"));
    for (const std::string& cell : kCells) {
        CAPTURE(cell);
        CHECK(tiny.metrics("swept/" + cell) == tiny.metrics("by-hand/" + cell));
    }
    CHECK(tiny.json("swept/table.json")["rows"] == tiny.json("by-hand/table.json")["rows"]);
}

TEST_CASE("cli: a folder holds one sweep at a time") {
    const TinySweep tiny(100000);
    Process sweeping(tiny.sweep("swept"));
    REQUIRE(sweeping.run_until([&] { return tiny.metrics_lines("swept/" + kCells[0]) >= 1; }));
    refuse(tiny.sweep("swept"), {"another sweep is running in"});
    sweeping.signal(SIGINT);
    CHECK(sweeping.wait() == 0);
}

TEST_CASE("cli: a run in a cell's folder under other settings is refused while it trains, too") {
    const TinySweep tiny;
    std::istringstream commands(succeed(tiny.sweep("out", "--print")));
    std::string command;
    std::getline(commands, command);
    const std::string arguments = command.substr(command.find(" train ") + 1);
    Process training(arguments + " --set train.steps=100000");
    REQUIRE(training.run_until([&] { return tiny.metrics_lines("out/" + kCells[0]) >= 1; }));
    refuse(tiny.sweep("out", "--dry-run"), {"train.steps = 100000 there, 6 here"});
    training.signal(SIGINT);
    CHECK(training.wait() == 0);
}

TEST_CASE("cli: a sweep says what it will take, and what is wrong, before anything is written") {
    const TinySweep tiny;
    const std::string out = succeed(tiny.sweep("out", "--dry-run"));
    for (const char* part : {"plain,seed=1", "to train   4 of 4 cells", "updates timed just now", "of disk"})
        CHECK_THAT(out, ContainsSubstring(part));
    CHECK_FALSE(fs::exists(tiny.file("out")));
    refuse("sweep", {"sweep"});
    refuse("sweep " + tiny.file("none.toml"), {"none.toml"});
    refuse(tiny.sweep("out", "--set train.seed=3"), {"the sweep varies train.seed", "sweep.toml:6"});
    refuse(tiny.sweep("out", "--set data.train=none.h5"), {"none.h5"});
    refuse(tiny.sweep("out", "--text none.txt"), {"no file or folder", "none.txt"});
    write_file(tiny.file("short.txt"), "short");
    refuse(tiny.sweep("out", "--text " + tiny.file("short.txt")),
           {"cell plain,seed=1 could not be measured", "the text has"});
    write_file(tiny.file("latin1.txt"), "caf\xe9");
    refuse(tiny.sweep("out", "--text " + tiny.file("latin1.txt")), {"latin1.txt"});
    const std::string file = read_file(tiny.file("sweep.toml"));
    for (const auto& [cache, parts] : std::map<std::string, std::vector<std::string>>{
             {"cache = 33", {"33 positions", "32"}}, {"cache = 2", {"cell sinks,seed=1", "2 sink tokens"}}}) {
        std::string changed = file;
        write_file(tiny.file("sweep.toml"), changed.replace(changed.find("cache = 16"), 10, cache));
        refuse(tiny.measured("out"), parts);
    }
    write_file(tiny.file("sweep.toml"), file);
    refuse(tiny.sweep("out", "--dry-run --print"), {"--dry-run"});
    write_file(tiny.file("sweep.toml"), "base = \"config.toml\"\n[grid]\nmodel.num_sink_tokens = [0, 99]\n");
    refuse(tiny.sweep("out"), {"sweep.toml:3", "num_sink_tokens=99", "leaves no room"});
    write_file(tiny.file("sweep.toml"), "base = \"config.toml\"\n[grid]\nmodel.vocab_size = [384, 128]\n");
    refuse(tiny.sweep("out"), {"cell vocab_size=128: model.vocab_size = 128", "the tokenizer has 300 ids", "384"});
    CHECK_FALSE(fs::exists(tiny.file("out")));

    write_file(tiny.file("sweep.toml"), file);
    fs::create_directories(tiny.file("out/table.json"));
    refuse(tiny.sweep("out"), {"table.json"});
    CHECK_FALSE(fs::exists(tiny.file("out/" + kCells[0])));
}

TEST_CASE("cli: a terminal's Ctrl-C reaches a sweep's cell once: it saves") {
    const TinySweep tiny(100000);
    // Steps long enough for a second signal to come before the first has had its effect.
#ifdef __SANITIZE_THREAD__
    const char* batch = "train.global_batch=32";  // they take many times as long there
#else
    const char* batch = "train.global_batch=512";
#endif
    Terminal terminal({"sweep", tiny.file("sweep.toml"), "--out", tiny.file("out"), "--set", batch});
    REQUIRE(terminal.shows("cell 1/4 plain,seed=1"));
    terminal.type('\x03');
    CHECK(terminal.shows("interrupted; continue with: /"));
    CHECK(terminal.shows("ballast sweep"));
    CHECK(terminal.wait() == 0);
    CHECK(tiny.status("out/" + kCells[0]) == "interrupted");
    CHECK_FALSE(fs::exists(tiny.file("out/" + kCells[1])));
}
