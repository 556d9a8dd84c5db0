#include "report/watch_frame.h"

#include <filesystem>
#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/columns.h"
#include "base/error.h"
#include "base/file_lock.h"
#include "report/watched_run.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/train/heartbeat_fixture.h"

using namespace ballast;
using namespace ballast::report;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string step_line(int step) {
    return fmt::format(
        "{{\"step\": {}, \"loss\": {}, \"grad_norm\": 1.5, \"lr\": 0.001, \"tokens\": {}, "
        "\"tokens_per_second\": 50}}\n",
        step, 8.0 / step, step * 100);
}

WatchedRun run_of(const std::string& label, int steps_done) {
    std::string text;
    for (int step = 1; step <= steps_done; ++step) text += step_line(step);
    return {label, "running", 100, parse_metrics(text)};
}

std::string joined(const std::vector<std::string>& lines) {
    std::string out;
    for (const std::string& line : lines) out += line + "\n";
    return out;
}

SeenRank rank_at(int rank, train::Place place, int64_t step, double still, double age = 1) {
    return {test::heartbeat_of(rank, place, step, still), age};
}

std::vector<SeenRank> ranks_at(int count, train::Place place, int64_t step, double still) {
    std::vector<SeenRank> ranks;
    for (int rank = 0; rank < count; ++rank) ranks.push_back(rank_at(rank, place, step, still));
    return ranks;
}

std::vector<std::string> texts(const std::vector<SeenRank>& ranks, size_t most = 5) {
    std::vector<std::string> out;
    for (const RankLine& line : describe_ranks(ranks, most)) out.push_back((line.stands_out ? "! " : "  ") + line.text);
    return out;
}

constexpr train::Place kBackward{train::Activity::backward, 7}, kForward{train::Activity::forward, 2},
    kExchange{train::Activity::exchange_gradients, 3}, kSave{train::Activity::write_checkpoint, -1};

struct Folder {
    test::TemporaryFolder folder;
    std::string run = folder / "run";

    void file(const std::string& name, const std::string& text) const {
        std::filesystem::create_directories(run);
        write_file(run + "/" + name, text);
    }
    void append(const std::string& text) const { std::ofstream(run + "/metrics.jsonl", std::ios::app) << text; }
};

}  // namespace

TEST_CASE("watch frame: figures, the time left, and plots as the terminal has room") {
    const WatchedRun run = run_of("vanilla", 40);
    CHECK(seconds_left(run) == Approx(60 * 100 / 50.0));
    const std::string text = joined(draw_frame({run}, {100, 40, false}));
    for (const char* part : {"vanilla", "running", "40/100", "0.2000", "1.00e-03", "1.500", "2m00s",
                             "loss (o validation)", "tokens/s", "learning rate", "gradient norm"})
        CHECK_THAT(text, ContainsSubstring(part));
    CHECK_THAT(joined(draw_frame({run}, {100, 20, false})), !ContainsSubstring("gradient norm"));
    for (const bool colour : {false, true})
        for (const int columns : {10, 24, 60, 80, 200})
            for (const int rows : {1, 3, 8, 24, 26, 60}) {
                CAPTURE(columns, rows, colour);
                const auto lines =
                    draw_frame({run, run_of("a-run-with-a-rather-long-name-of-its-own", 3)}, {columns, rows, colour});
                CHECK(lines.size() <= static_cast<size_t>(rows));
                for (const std::string& line : lines) {
                    if (!colour) CHECK(display_columns(line) <= static_cast<size_t>(columns));
                    if (!colour) CHECK(line.find('\x1b') == std::string::npos);
                }
            }
}

TEST_CASE("watch frame: long names give way at their beginning, where they are alike") {
    const auto lines =
        draw_frame({run_of("softmax,num_sink_tokens=2,seed=1", 5), run_of("softmax,num_sink_tokens=2,seed=2", 5)},
                   {80, 24, false});
    CHECK_THAT(lines[1], ContainsSubstring("a …"));
    CHECK_THAT(lines[1], ContainsSubstring("seed=1"));
    CHECK_THAT(lines[2], ContainsSubstring("seed=2"));
    CHECK_THAT(lines[2], ContainsSubstring("9m10s") || ContainsSubstring("3m10s"));  // the last column is there
}

TEST_CASE("watch frame: one rank says where it is, and for how long it has not moved") {
    using Lines = std::vector<std::string>;
    CHECK(texts({}) == Lines{});
    CHECK(texts({rank_at(0, kBackward, 12, 0)}) == Lines{"  rank 0: step 12, backward of layer 7"});
    CHECK(texts({rank_at(0, kBackward, 12, 9)}) == Lines{"  rank 0: step 12, backward of layer 7"});
    CHECK(texts({rank_at(0, kBackward, 12, 130)}) ==
          Lines{"! rank 0: step 12, backward of layer 7 for 2m10s (node0, process 4000)"});
    CHECK(texts({rank_at(0, kBackward, 12, 0, 14)}) == Lines{"  rank 0: step 12, backward of layer 7"});
    CHECK(texts({rank_at(0, kBackward, 12, 3, 60)}) ==
          Lines{"! rank 0: step 12, backward of layer 7 for 1m03s, no heartbeat for 1m00s (node0, process "
                "4000)"});
}

TEST_CASE("watch frame: 64 ranks are few lines, and the one that the others wait for is the first") {
    using Lines = std::vector<std::string>;
    std::vector<SeenRank> ranks = ranks_at(64, kBackward, 120, 0);
    for (int rank = 0; rank < 20; ++rank) ranks[static_cast<size_t>(rank)] = rank_at(rank, kForward, 121, 0);
    for (size_t rank = 30; rank < 40; ++rank) ranks[rank].last.place.number = static_cast<int32_t>(rank);
    CHECK(texts(ranks) == Lines{"  ranks 0-63 (64): steps 120-121, 44 backward, 20 forward"});

    ranks = ranks_at(64, kExchange, 120, 611);
    ranks[2] = rank_at(2, kBackward, 120, 610);  // by its own count; it is what the others wait for
    const std::string others = "  ranks 0-1 3-63 (63): step 120, exchange of gradients, bucket 3 for 10m11s";
    CHECK(texts(ranks) == Lines{"! rank 2: step 120, backward of layer 7 for 10m10s (node2, process 4002)", others});
    ranks[2] = rank_at(2, kExchange, 120, 5, 300);  // a dead one
    CHECK(texts(ranks) == Lines{"! rank 2: step 120, exchange of gradients, bucket 3 for 5m05s, no "
                                "heartbeat for 5m00s (node2, process 4002)",
                                others});
    ranks[2] = rank_at(2, kSave, 120, 0);  // rank 0's work, say: nobody stands out while it moves
    CHECK(texts(ranks) == Lines{others, "  rank 2: step 120, writing a checkpoint"});

    for (size_t rank = 0; rank < 64; ++rank)  // each somewhere else: no more lines than there is room for
        ranks[rank] = rank_at(static_cast<int>(rank), {train::Activity::backward, static_cast<int32_t>(rank)}, 120,
                              20 + static_cast<double>(rank));
    const Lines lines = texts(ranks);
    REQUIRE(lines.size() == 5);
    CHECK_THAT(lines[0], ContainsSubstring("! rank 63: step 120, backward of layer 63 for 1m23s"));
    CHECK(lines[4] == "  and 60 more ranks at 60 places");
    CHECK(texts(ranks, 1) == Lines{lines[0] + ", and 63 more ranks at 63 places"});
    CHECK(texts(ranks_at(64, kExchange, 120, 611), 1).size() == 1);
}

TEST_CASE("watch frame: ranks stand below the table, in as many columns as there are") {
    WatchedRun run = run_of("vanilla", 40), other = run_of("sink", 3);
    run.ranks = ranks_at(64, kExchange, 120, 611);
    run.ranks[2] = rank_at(2, kBackward, 120, 610);
    CHECK(draw_frame({run}, {100, 40, false})[2] ==
          "! rank 2: step 120, backward of layer 7 for 10m10s (node2, process 4002)");
    CHECK(draw_frame({run}, {100, 40, true})[2].starts_with("\x1b[1;31m! rank 2"));
    CHECK_THAT(joined(draw_frame({run}, {100, 40, false})), ContainsSubstring("gradient norm"));
    other.ranks = {rank_at(0, kForward, 3, 0)};
    const auto lines = draw_frame({run, other}, {50, 40, false});
    CHECK(lines[3].starts_with("! vanilla, "));
    CHECK(lines[4] == "  sink, rank 0: step 3, forward of layer 2");
    for (const std::string& line : lines) CHECK(display_columns(line) <= 50);
}

TEST_CASE("watch frame: nothing yet") {
    MetricsParser empty;
    const WatchedRun run{"run", "not there yet", 0, empty.log()};
    CHECK_THAT(joined(draw_frame({run}, {80, 24, false})), ContainsSubstring("nothing to draw yet"));
    CHECK(seconds_left(run) < 0);
}

TEST_CASE("watched run: follows a file that is missing, empty, torn, growing and replaced") {
    const Folder f;
    RunWatcher watcher(f.run, "run");
    CHECK(watcher.run().state == "not there yet");
    CHECK_FALSE(watcher.ended());
    f.file("metrics.jsonl", "");
    watcher.refresh();
    CHECK(watcher.run().log.step.empty());
    const std::string line = step_line(1);
    f.append(line.substr(0, 20));
    watcher.refresh();
    CHECK(watcher.run().log.step.empty());
    f.append(line.substr(20) + "no json\n" + step_line(2));
    CHECK(watcher.refresh());
    CHECK(watcher.run().log.step == std::vector<double>{1, 2});
    CHECK(watcher.run().log.lines_ignored == 1);
    CHECK_FALSE(watcher.refresh());
    f.file("metrics.jsonl", step_line(1));  // as --resume cuts it back
    CHECK(watcher.refresh());
    CHECK(watcher.run().log.step == std::vector<double>{1});
}

TEST_CASE("watched run: the heartbeats of its ranks, while somebody trains it") {
    const Folder f;
    f.file("metrics.jsonl", step_line(1));
    f.file("status.json", R"({"status": "running", "step": 0})");
    const train::HeartbeatFolder heartbeats(f.run);
    for (const int rank : {11, 2, 0}) heartbeats.write(rank_at(rank, kBackward, 7, 3).last);
    f.file("heartbeats/rank_0005.json", "torn");
    const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::seconds(100);
    std::filesystem::last_write_time(heartbeats.file(2), old);
    RunWatcher watcher(f.run, "run");
    CHECK(watcher.run().ranks.empty());  // nobody holds the folder: they are a killed run's
    auto lock = FileLock::take(f.run + "/.lock");
    RunWatcher locked(f.run, "run");
    const auto& ranks = locked.run().ranks;
    REQUIRE(ranks.size() == 3);
    CHECK((ranks[0].last.rank == 0 && ranks[1].last.rank == 2 && ranks[2].last.rank == 11));
    CHECK((ranks[0].last.place == kBackward && ranks[0].last.step == 7 && ranks[0].still() == 3));
    CHECK((ranks[1].age >= 100 && ranks[1].age < 1000 && ranks[1].is_silent() && ranks[1].still() >= 103));
    CHECK_FALSE(ranks[2].is_silent());
    lock.reset();
    CHECK(locked.refresh());
    CHECK(locked.run().ranks.empty());
}

TEST_CASE("watched run: its state, and whether anybody trains it") {
    const Folder f;
    f.file("metrics.jsonl", step_line(1));
    f.file("config.toml", "[train]\nsteps = 77\n");
    RunWatcher watcher(f.run, "run");
    CHECK(watcher.run().steps == 77);
    CHECK_FALSE(watcher.ended());
    f.file("status.json", R"({"status": "running", "step": 0})");
    {
        const auto lock = FileLock::take(f.run + "/.lock");
        watcher.refresh();
        CHECK(watcher.run().state == "running");
        CHECK_FALSE(watcher.ended());
    }
    watcher.refresh();
    CHECK(watcher.run().state == "killed");
    CHECK(watcher.ended());
    for (const char* state : {"finished", "interrupted", "failed"}) {
        f.file("status.json", fmt::format(R"({{"status": "{}", "step": 1}})", state));
        CHECK(watcher.refresh());
        CHECK(watcher.run().state == state);
        CHECK(watcher.ended());
    }
}
