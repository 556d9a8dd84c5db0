#include "sweep/run_cells.h"

#include <csignal>

#include "base/error.h"
#include "base/interrupt.h"
#include "sweep/cost.h"
#include "tests/sweep/sweep_fixture.h"

using namespace ballast;
using namespace ballast::sweep;

namespace {

using Cells = std::vector<size_t>;

/// Remembers what was asked for; every cell is missing and trains, unless told otherwise.
struct Script {
    std::vector<CellState> states;
    std::vector<CellEnd> ends;
    Cells trained, measured, told;
    size_t unmeasurable = 99;

    SweepOutcome run() {
        const CellActions actions{[this](size_t i) {
                                      return CellStatus{states[i], 0, {}};
                                  },
                                  [this](size_t i) {
                                      trained.push_back(i);
                                      if (ends[i] == CellEnd::interrupted) std::raise(SIGINT);
                                      return CellOutcome{ends[i], "no luck", "log"};
                                  },
                                  [this](size_t i) {
                                      if (i == unmeasurable) throw UserError("no text");
                                      measured.push_back(i);
                                  }};
        return run_cells(states.size(), actions, [this](const Failure& failure) { told.push_back(failure.cell); });
    }
};

constexpr auto kMissing = CellState::missing, kFinished = CellState::finished, kInUse = CellState::in_use,
               kResumable = CellState::resumable;
constexpr auto kOk = CellEnd::finished, kBad = CellEnd::failed, kStopped = CellEnd::interrupted;

}  // namespace

TEST_CASE("run cells: trains what is not finished, measures all that is, goes on after failures") {
    Script script{{kFinished, kMissing, kMissing, kInUse, kResumable}, {kOk, kBad, kOk, kOk, kOk}, {}, {}, {}};
    script.unmeasurable = 2;
    const SweepOutcome outcome = script.run();
    CHECK(script.trained == Cells{1, 2, 4});
    CHECK(script.measured == Cells{0, 4});
    CHECK(outcome.trained == Cells{0, 2, 4});
    CHECK(outcome.in_use == Cells{3});
    CHECK(script.told == Cells{1, 2});
    REQUIRE(outcome.failed.size() == 2);
    CHECK(outcome.failed[0].what == "no luck");
    CHECK(outcome.failed[0].log == "log");
    CHECK(outcome.failed[1].what == "no text");
    CHECK_FALSE(outcome.interrupted);
}

TEST_CASE("run cells: an interruption ends the sweep and is no failure") {
    const InterruptGuard guard;
    Script script{{kMissing, kMissing, kMissing}, {kOk, kStopped, kOk}, {}, {}, {}};
    const SweepOutcome outcome = script.run();
    CHECK(outcome.interrupted);
    CHECK(outcome.failed.empty());
    CHECK(script.trained == Cells{0, 1});
}

TEST_CASE("run cells: the time left follows the plan, then the pace") {
    CHECK_FALSE(time_left(0, 100, 0, std::nullopt));
    CHECK(time_left(25, 100, 5, 80.0) == 60);    // too early to tell: three quarters of the plan
    CHECK(time_left(25, 100, 50, 80.0) == 150);  // 2 a FLOP
}

TEST_CASE("run cells: checkpoints that stay") {
    train::CheckpointConfig config{.every = 5, .log_spaced = false, .keep_last = 2, .protect_every = 0};
    CHECK(checkpoints_kept(config, 12) == 2);  // of 5, 10, 12
    config.keep_last = 0;
    CHECK(checkpoints_kept(config, 12) == 3);
    config = {.every = 1000, .log_spaced = true, .keep_last = 1, .protect_every = 1000};
    CHECK(checkpoints_kept(config, 143000) == 154);  // Pythia's: 0, ten powers of two, 143 thousands
}

TEST_CASE("run cells: a log's reason") {
    CHECK(error_line("old\nballast: error: first\n", 0) == "first");
    CHECK(error_line("ballast: error: before\nballast: error: now\nmore\n", 23) == "now");
    CHECK(error_line("step 1\nTerminated\n", 0) == "Terminated");
    CHECK(error_line("", 5) == "no message");
}
