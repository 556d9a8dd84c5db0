// Power that fails at any moment: whatever of the unsynced work the disk then has, the program finds the old file or
// the new one, whole.
#include "tests/faults/kill_trials.h"
#include "tests/faults/power_loss.h"
#include "train/run_directory.h"

using namespace ballast;
using namespace ballast::test;
namespace fs = std::filesystem;

namespace {

/// Subsets a moment, and states that the program itself goes on from; by hand more.
int thoroughness(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::atoi(text) : otherwise;
}

/// A folder in which ballast is recorded.
struct Recorded {
    TemporaryFolder folder;
    DiskState before;

    std::string disk() const { return folder.file("disk"); }
    std::string at(const std::string& name) const { return disk() + "/" + name; }

    Recorded() { fs::create_directories(disk()); }

    Outcome plainly(const std::string& arguments, const std::string& environment = "") const {
        return ballast_with(arguments, fmt::format("cd '{}' && {}", disk(), environment));
    }
    PowerLoss record(const std::string& arguments) {
        before = DiskState::of(disk());
        const Outcome outcome =
            plainly(arguments, fmt::format("env LD_PRELOAD='{}' BALLAST_RECORD_FOLDER='{}' BALLAST_RECORD_LOG='{}'",
                                           BALLAST_RECORDER, disk(), folder.file("log")));
        CAPTURE(arguments, outcome.err);
        REQUIRE(outcome.code == 0);
        PowerLoss recording(folder.file("log"), before);
        // What was recorded is all that was done.
        const DiskState replayed = recording.all_kept(), there = DiskState::of(disk());
        CHECK(replayed.folders == there.folders);
        CHECK((replayed.files == there.files));
        return recording;
    }
};

/// Lines are appended; everything else is replaced as a whole. Heartbeats mean nothing after a loss of power.
bool may_be_torn(const std::string& name) {
    return name.ends_with(".jsonl") || name.ends_with(".lock") || name.find("/heartbeats/") != std::string::npos;
}

void check_whole(const PowerLoss& recording, const DiskState& state) {
    for (const auto& [name, bytes] : state.files) {
        if (may_be_torn(name) || name.find(".tmp-") != std::string::npos) continue;
        CAPTURE(name, bytes.size());
        REQUIRE(recording.was_whole(name, bytes));
    }
}

int64_t newest_checkpoint(const DiskState& state) {
    int64_t newest = -1;
    const std::string start = "run/checkpoints/step_";
    for (const auto& [name, bytes] : state.files)
        if (name.starts_with(start) && name.ends_with(".h5"))
            newest = std::max<int64_t>(newest, std::stoll(name.substr(start.size())));
    return newest;
}

/// The same files; by name, as a whole file says nothing.
void check_same(const DiskState& state, const DiskState& whole) {
    for (const auto& [name, bytes] : whole.files) {
        CAPTURE(name);
        CHECK((state.files.contains(name) && state.files.at(name) == bytes));
    }
    for (const auto& [name, bytes] : state.files) {
        CAPTURE(name);
        CHECK(whole.files.contains(name));
    }
}

/// Every step up to the newest checkpoint has its line.
void check_metrics(const DiskState& state) {
    const int64_t newest = newest_checkpoint(state);
    if (newest < 1) return;
    REQUIRE(state.files.contains("run/metrics.jsonl"));
    std::istringstream lines(state.files.at("run/metrics.jsonl"));
    std::set<int64_t> steps;
    for (std::string line; std::getline(lines, line);) {
        const auto json = nlohmann::json::parse(line, nullptr, false);
        if (json.is_object() && json.contains("loss")) steps.insert(json["step"].get<int64_t>());
    }
    for (int64_t step = 1; step <= newest; ++step) {
        CAPTURE(step, newest);
        REQUIRE(steps.contains(step));
    }
}

/// All states of a recording; prints how many.
void for_all_states(const std::string& what, const PowerLoss& recording,
                    const std::function<void(const DiskState&, size_t moment)>& check) {
    std::mt19937_64 random(fault_seed());
    size_t different = 0;
    const size_t states = recording.for_each_state(thoroughness("BALLAST_FAULT_SUBSETS", 2), random,
                                                   [&](const DiskState& state, size_t moment) {
                                                       CAPTURE(what, moment, fault_seed());
                                                       ++different;
                                                       check_whole(recording, state);
                                                       check(state, moment);
                                                   });
    fmt::print("power loss, {}: {} moments, {} states, {} of them different; seed {}\n", what, recording.operations(),
               states, different, fault_seed());
    std::fflush(stdout);
}

const std::string kRun =
    "--set train.steps=8 --set checkpoint.every=2 --set checkpoint.log_spaced=true --set checkpoint.protect_every=4 "
    "--set validation.every=4 --set sample.every=4 --set sample.tokens=4 ";

/// The states are checked, and some of them gone on from by the program.
void check_run(
    const std::string& what, const TinyRun& run, Recorded& recorded, const PowerLoss& recording,
    const std::map<std::string, std::string>& whole,
    const std::function<void(const DiskState&)>& check_more = [](const DiskState&) {}) {
    std::vector<DiskState> chosen;
    std::mt19937_64 random(fault_seed());
    const auto most = static_cast<size_t>(thoroughness("BALLAST_FAULT_RESUMES", 6));
    size_t seen = 0;
    for_all_states(what, recording, [&](const DiskState& state, size_t moment) {
        check_metrics(state);
        check_more(state);
        if (moment == recording.operations()) CHECK(newest_checkpoint(state) == 8);  // it had ended well
        ++seen;
        if (chosen.size() < most)
            chosen.push_back(state);
        else if (const size_t at = random() % seen; at < most)
            chosen[at] = state;
    });
    for (const DiskState& state : chosen) {
        state.write_to(recorded.disk());
        const Outcome outcome =
            recorded.plainly(fmt::format("train {} {} --out run --resume", run.file("config.toml"), kRun));
        CAPTURE(what, newest_checkpoint(state), outcome.err);
        REQUIRE(outcome.code == 0);
        CHECK((contents_of(recorded.at("run")) == whole));
    }
}

}  // namespace

TEST_CASE("power loss: a run that begins, one that goes on, one that replaces another") {
    const TinyRun run;
    const auto train = [&](const std::string& more) {
        return fmt::format("train {} {} --out run {}", run.file("config.toml"), kRun, more);
    };
    Recorded fresh;
    const PowerLoss begun = fresh.record(train(""));
    const auto whole = contents_of(fresh.at("run"));
    const DiskState finished = DiskState::of(fresh.disk());
    check_run("a run that begins", run, fresh, begun, whole);

    Recorded resumed;
    DiskState killed = finished;  // as if after step 7
    killed.files.erase("run/checkpoints/step_00000008.h5");
    killed.write_to(resumed.disk());
    const PowerLoss gone_on = resumed.record(train("--resume"));
    check_run("a run that goes on", run, resumed, gone_on, whole);

    Recorded replaced;
    REQUIRE(replaced.plainly(train("--set train.seed=5")).code == 0);
    const DiskState old = DiskState::of(replaced.disk());
    const PowerLoss anew = replaced.record(train("--overwrite"));
    std::mt19937_64 random(fault_seed());
    for_all_states("a run that replaces another", anew, [&](const DiskState& state, size_t) {
        const auto is_old = [&](const std::string& name) {
            return old.files.contains(name) && state.files.contains(name) && old.files.at(name) == state.files.at(name);
        };
        const bool is_new = state.files.contains("run/config.toml") && !is_old("run/config.toml");
        for (const auto& [name, bytes] : state.files) {
            CAPTURE(name);
            // The old run's weights must not go on under the new one's name.
            if (is_new && name.starts_with("run/checkpoints/") && name.ends_with(".h5")) REQUIRE_FALSE(is_old(name));
        }
    });
}

TEST_CASE("power loss: token stores, a tokenizer, an export, new and over old ones") {
    const TinyRun run;
    Recorded recorded;
    write_file(run.file("short.txt"), read_file(run.file("text.txt")).substr(0, 3000));
    const auto command = [&](const std::string& text) {
        return fmt::format(
            "data prepare -t {} -o train.h5 --validation-output validation.h5 --validation-fraction 0.3 "
            "--threads 1 {}",
            run.file("tokenizer.json"), run.file(text));
    };
    for (const char* text : {"text.txt", "short.txt"}) {
        fs::remove(recorded.folder.file("log"));
        const PowerLoss recording = recorded.record(command(text));
        for_all_states("data prepare", recording, [&](const DiskState& state, size_t moment) {
            if (moment == recording.operations()) check_same(state, DiskState::of(recorded.disk()));
        });
    }
    // The index of one pair beside the tokens of another would cut documents in wrong places.
    write_file(run.file("one.txt"), "The whale. And the sea.");
    write_file(run.file("other.jsonl"), "{\"text\": \"The whale.\"}\n{\"text\": \" And the sea\"}\n");
    std::vector<DiskState> pairs;
    for (const char* text : {"one.txt", "other.jsonl"}) {
        fs::remove(recorded.folder.file("log"));
        const PowerLoss recording = recorded.record(
            fmt::format("data prepare -t {} -o set.idx --threads 1 {}", run.file("tokenizer.json"), run.file(text)));
        pairs.push_back(DiskState::of(recorded.disk()));
        for_all_states("data prepare, .idx", recording, [&](const DiskState& state, size_t moment) {
            if (moment == recording.operations()) check_same(state, pairs.back());
            if (!state.files.contains("set.idx")) return;  // nothing that could be read
            REQUIRE(std::any_of(pairs.begin(), pairs.end(), [&](const DiskState& whole) {
                return state.files.at("set.idx") == whole.files.at("set.idx") && state.files.contains("set.bin") &&
                       state.files.at("set.bin") == whole.files.at("set.bin");
            }));
        });
    }
    for (const int size : {300, 310}) {
        fs::remove(recorded.folder.file("log"));
        const PowerLoss recording = recorded.record(fmt::format(
            "tokenizer train -o tokenizer.json --vocab-size {} {} --threads 1", size, run.file("text.txt")));
        for_all_states("tokenizer train", recording, [&](const DiskState& state, size_t moment) {
            if (moment == recording.operations()) check_same(state, DiskState::of(recorded.disk()));
        });
    }
    succeed(run.train("a"));
    succeed(run.train("b", "--set train.seed=5"));
    std::vector<DiskState> exports;
    for (const char* model : {"a", "b"}) {
        fs::remove(recorded.folder.file("log"));
        const PowerLoss recording =
            recorded.record(fmt::format("export {} hf --max-shard-gb 0.00005", run.file(model)));
        exports.push_back(DiskState::of(recorded.disk()));
        for_all_states("export", recording, [&](const DiskState& state, size_t moment) {
            if (moment == recording.operations()) check_same(state, exports.back());
            if (!state.files.contains("hf/config.json")) return;  // nothing that could be loaded
            const bool one = std::any_of(exports.begin(), exports.end(), [&](const DiskState& whole) {
                return std::all_of(whole.files.begin(), whole.files.end(), [&](const auto& file) {
                    return state.files.contains(file.first) && state.files.at(file.first) == file.second;
                });
            });
            REQUIRE(one);  // not half of one, half of the other
        });
    }
}

TEST_CASE("a clock that jumps changes no result") {
    const TinyRun run;
    Recorded plain, jumping;
    const std::string command = fmt::format("train {} {} --out run", run.file("config.toml"), kRun);
    REQUIRE(plain.plainly(command).code == 0);
    const Outcome outcome =
        jumping.plainly(command, fmt::format("env LD_PRELOAD='{}' BALLAST_CLOCK_JUMPS=1", BALLAST_RECORDER));
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK((contents_of(jumping.at("run")) == contents_of(plain.at("run"))));
}
