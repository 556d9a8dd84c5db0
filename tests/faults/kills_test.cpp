// SIGKILL at random moments of everything that writes, then the same command again: the same bytes as undisturbed.
#include "base/file_lock.h"
#include "tests/faults/kill_trials.h"
#include "train/checkpoint.h"
#include "train/run_directory.h"

using namespace ballast;
using namespace ballast::test;
namespace fs = std::filesystem;

namespace {

/// A run whose saves, validations and samples take a good part of its time.
const std::string kRun =
    "--resume --set train.steps=60 --set checkpoint.every=3 --set checkpoint.log_spaced=true "
    "--set checkpoint.protect_every=15 --set validation.every=8 --set sample.every=16 --set sample.tokens=8 ";

/// Checkpoints are whole whatever happened; the protected ones before the newest are there.
void check_run(const std::string& folder, const train::CheckpointConfig& config) {
    const train::RunDirectory run(folder);
    const std::vector<int64_t> steps = run.checkpoint_steps();
    for (const int64_t step : steps) CHECK_NOTHROW(train::verify_checkpoint(run.checkpoint_path(step)));
    for (int64_t step = 0; !steps.empty() && step < steps.back(); ++step)
        if (train::checkpoint_due(config, step, steps.back()) && train::checkpoint_protected(config, step))
            CHECK(std::find(steps.begin(), steps.end(), step) != steps.end());
}

Work training(const TinyRun& run) {
    return {.name = "training and saving",
            .arguments = fmt::format("train {} --out run {}", run.file("config.toml"), kRun),
            .check_killed =
                [](const std::string& folder, const auto&) {
                    check_run(folder + "/run", {.every = 3, .log_spaced = true, .keep_last = 2, .protect_every = 15});
                },
            .written_to = "run/checkpoints"};
}

/// Text enough to take a moment.
void write_long_text(const TinyRun& run) {
    std::string text;
    for (int i = 0; i < 60; ++i) text += read_file(run.file("text.txt"));
    write_file(run.file("long.txt"), text);
}

}  // namespace

TEST_CASE("kills: training and saving") {
    const TinyRun run;
    const TemporaryFolder folder;
    run_kills(training(run), folder, share_of_kills(0.44));
}

TEST_CASE("kills: preparing data") {
    const TinyRun run;
    const TemporaryFolder folder;
    write_long_text(run);
    run_kills({.name = "preparing data",
               .arguments = fmt::format("data prepare -t {} -o train.h5 --validation-output validation.h5 "
                                        "--validation-fraction 0.3 --threads 1 {}",
                                        run.file("tokenizer.json"), run.file("long.txt")),
               .check_killed = check_whole_files,
               .written_to = "."},
              folder, share_of_kills(0.16));
}

TEST_CASE("kills: preparing data as one of several processes") {
    const TinyRun run;
    const TemporaryFolder folder;
    std::istringstream text(read_file(run.file("text.txt")));
    std::vector<std::string> documents;
    for (std::string line; std::getline(text, line);)
        documents.push_back(nlohmann::json{{"text", line}}.dump() + "\n");
    std::filesystem::create_directories(run.file("texts"));
    for (size_t i = 0; i < 12; ++i) {  // each the beginning of the one before, so full of its documents
        std::string lines;
        for (size_t d = 0; d < documents.size() * (12 - i) / 12; ++d) lines += documents[d];
        write_file(run.file(fmt::format("texts/{}.jsonl", i)), lines);
    }
    const std::string prepare = fmt::format(
        "data prepare -t {} -o train.json --validation-output validation.json --validation-fraction 0.3 "
        "--validation-by hash --drop-duplicates --threads 1 {}",
        run.file("tokenizer.json"), run.file("texts"));
    // Two of them. Either one is killed and the other takes over what it was at, or both and the next start does.
    run_kills({.name = "preparing data as one of several processes",
               .arguments = prepare,
               .check_killed = check_whole_files,
               .written_to = "train.parts",
               .kill =
                   [](const Process& process, std::mt19937_64& any) {
                       const std::vector<pid_t> both = children_of(process.id());
                       if (both.empty()) return process.signal(SIGKILL);  // none was started yet
                       const bool one = any() % 2 == 0;
                       for (size_t i = any() % both.size(), n = one ? 1 : both.size(); n > 0; --n, ++i)
                           ::kill(both[i % both.size()], SIGKILL);
                   },
               .launcher = fmt::format("sh -c '\"$0\" {} & \"$0\" \"$@\"; code=$?; wait; exit $code'", prepare)},
              folder, share_of_kills(0.1));
}

TEST_CASE("kills: training a tokenizer") {
    const TinyRun run;
    const TemporaryFolder folder;
    write_long_text(run);
    run_kills({.name = "training a tokenizer",
               .arguments = fmt::format("tokenizer train -o tokenizer.json --vocab-size 2000 {} --threads 1",
                                        run.file("long.txt")),
               .check_killed = check_whole_files,
               .written_to = "."},
              folder, share_of_kills(0.1));
}

TEST_CASE("kills: exporting") {
    const TinyRun run;
    const TemporaryFolder folder;
    succeed(run.train("run"));
    run_kills({.name = "exporting",
               .arguments = fmt::format("export {} hf --max-shard-gb 0.00002", run.file("run")),
               .check_killed = check_whole_files,
               .written_to = "hf"},
              folder, share_of_kills(0.14));
}

TEST_CASE("kills: a sweep, with the run it trains or without it") {
    const TinyRun run;
    const TemporaryFolder folder;
    // Every step, as a run that is told to stop saves where it is and that counts among those it keeps.
    write_file(run.file("sweep.toml"),
               "base = \"config.toml\"\n[set]\ntrain.steps = 20\ncheckpoint.every = 1\ncheckpoint.keep_last = 2\n"
               "[grid]\ntrain.seed = [1, 2]\n[evaluate]\ncache = 16\nmax_tokens = 100\n");
    const auto cells = [](const std::string& to) { return std::vector{to + "/sweep/seed=1", to + "/sweep/seed=2"}; };
    run_kills({.name = "sweeping",
               .arguments = fmt::format("sweep {} --out sweep --text {}", run.file("sweep.toml"), run.file("text.txt")),
               .check_killed =
                   [&](const std::string& to, const auto&) {
                       for (const std::string& cell : cells(to))
                           check_run(cell, {.every = 1, .log_spaced = false, .keep_last = 2, .protect_every = 0});
                   },
               .kill =
                   [](const Process& process, std::mt19937_64& any) {
                       const std::vector<pid_t> trained = children_of(process.id());
                       process.signal(SIGKILL);
                       if (any() % 2 == 0)  // else it is told, saves and ends
                           for (const pid_t child : trained) ::kill(child, SIGKILL);
                   },
               .wait_for_end =
                   [&](Process& process, const std::string& to) {
                       process.wait();
                       for (const std::string& cell : cells(to))
                           while (FileLock::held(cell + "/.lock"))
                               std::this_thread::sleep_for(std::chrono::milliseconds(2));
                   }},
              folder, share_of_kills(0.16));
}

#if BALLAST_MPI
TEST_CASE("mpi: kills of single ranks") {
    const TinyRun run;
    const TemporaryFolder folder;
    Work work = training(run);
    work.name = "training on ranks, one of which is killed";
    work.arguments += "--set train.micro_batch=1 --set train.reduction_lanes=4 --set train.zero=1";
    work.launcher = "env " + kMpiEnvironment + kMpirun + " --bind-to none -np 3";
    work.kill = [](const Process& process, std::mt19937_64& any) {
        const std::vector<pid_t> ranks = children_of(process.id());
        if (ranks.empty()) return process.signal(SIGKILL);  // none was started yet
        ::kill(ranks[any() % ranks.size()], SIGKILL);
    };
    work.wait_for_end = [](Process& process, const std::string& to) {
        process.wait();
        while (FileLock::held(to + "/run/.lock")) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    };
    run_kills(work, folder, share_of_kills(0.1));
}
#endif
