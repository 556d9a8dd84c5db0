#include "sweep/cell_state.h"

#include "base/config_toml.h"
#include "base/file_lock.h"
#include "tests/sweep/sweep_fixture.h"

using namespace ballast;
using namespace ballast::sweep;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Run : test::SweepFixture {
    std::vector<Cell> cells = expand("[grid]\ntrain.seed = [1]\n");
    std::string out = folder / "run";

    void file(const std::string& name, const std::string& text) const {
        const auto path = std::filesystem::path(out) / name;
        std::filesystem::create_directories(path.parent_path());
        write_file(path.string(), text);
    }
    CellStatus inspect() const { return inspect_cell(cells[0], out); }
};

}  // namespace

TEST_CASE("cell state: what is in the folder decides") {
    Run run;
    CHECK(run.inspect().state == CellState::missing);
    run.file("train.log", "");  // as a cell that failed at once leaves it
    CHECK(run.inspect().state == CellState::missing);
    run.file("config.toml", to_toml(run.cells[0].config));
    for (const char* status : {"running", "interrupted", "failed"}) {  // running without a lock: it was killed
        run.file("status.json", fmt::format(R"({{"status": "{}", "step": 5}})", status));
        CHECK(run.inspect().state == CellState::resumable);
        CHECK(run.inspect().step == 0);
    }
    run.file("checkpoints/step_00000004.h5", "");
    CHECK(run.inspect().step == 4);
    CHECK(run.inspect().checkpoint_bytes == 0);
    run.file("checkpoints/step_00000004.h5", std::string(1000, 'x'));
    run.file("checkpoints/step_00000002.h5", std::string(24, 'x'));
    CHECK(run.inspect().checkpoint_bytes == 1024);
    CHECK(describe(run.inspect()) == "from step 4");
    run.file("status.json", R"({"status": "finished", "step": 12})");
    CHECK(run.inspect().state == CellState::finished);
    CHECK(run.inspect().step == 12);
    CHECK(run.inspect().differences.empty());
    {
        const auto lock = FileLock::take(run.out + "/.lock");
        REQUIRE(lock);
        CHECK(run.inspect().state == CellState::in_use);
    }
    CHECK(run.inspect().state == CellState::finished);
}

TEST_CASE("cell state: a run made under another configuration is refused by its fields") {
    Run run;
    train::RunConfig other = run.cells[0].config;
    other.train.threads = 7;  // no result depends on these
    other.train.zero = 1 - other.train.zero;
    other.train.log_every += 3;
    other.train.hang_timeout_seconds = 7;
    other.checkpoint.background = !other.checkpoint.background;
    run.file("status.json", R"({"status": "finished", "step": 12})");
    run.file("config.toml", to_toml(other));
    CHECK(run.inspect().differences.empty());
    CHECK_NOTHROW(refuse_changed(run.cells, {run.inspect()}, {run.out}));
    other.optimizer.weight_decay = 0.25;
    other.train.steps = 24;
    run.file("config.toml", to_toml(other));
    CHECK_THROWS_WITH(
        refuse_changed(run.cells, {run.inspect()}, {run.out}),
        ContainsSubstring("cell seed=1 was trained under another configuration: train.steps = 24 there, 12 here; "
                          "optimizer.weight_decay = 0.25 there, 0.1 here; undo the change"));
    run.file("config.toml", "[train\n");
    CHECK_THROWS_AS(run.inspect(), UserError);
    std::filesystem::remove(run.out + "/config.toml");
    CHECK_THROWS_WITH(run.inspect(), ContainsSubstring("without its config.toml"));
}
