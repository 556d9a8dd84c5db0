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
