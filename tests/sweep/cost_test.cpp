// What a sweep will take: only what is left, and disk for the file that is being written.
#include "sweep/cost.h"

#include "tests/base/message_of.h"
#include "tests/sweep/sweep_fixture.h"

using namespace ballast;
using namespace ballast::sweep;
using Catch::Matchers::ContainsSubstring;

namespace {

CellStatus at(CellState state, int64_t step, size_t checkpoint_bytes = 0) {
    CellStatus status;
    status.state = state;
    status.step = step;
    status.checkpoint_bytes = checkpoint_bytes;
    return status;
}

CellCost with_disk(size_t disk, size_t peak) {
    CellCost cost;
    cost.disk = disk;
    cost.disk_peak = peak;
    return cost;
}

}  // namespace

TEST_CASE("sweep cost: a resumed cell counts what is left of it") {
    const test::SweepFixture sweep;
    const auto cells = sweep.expand("[grid]\ntrain.seed = [1]\n");  // 12 steps of 4 samples of 32 positions
    const Context context(Device::cpu, 1);
    const CellCost whole = cost_of(context, cells[0], at(CellState::missing, 0));
    const size_t file = whole.disk_peak;
    const CellCost third = cost_of(context, cells[0], at(CellState::resumable, 8, 2 * file)),
                   done = cost_of(context, cells[0], at(CellState::finished, 12, whole.disk + 1000));
    CHECK(whole.tokens == 12 * 4 * 32);
    CHECK(third.tokens == 4 * 4 * 32);
    CHECK(done.tokens == 0);
    CHECK(whole.flops > 0);
    CHECK(third.flops == Approx(whole.flops / 3));
    CHECK(done.flops == 0);
    CHECK(whole.disk_peak == static_cast<size_t>(12 * whole.parameters));  // weights and two moments in f32
    CHECK(whole.disk % file == 0);
    CHECK(whole.disk > 2 * file);
    CHECK(third.disk == whole.disk - 2 * file);  // the rest takes its place already
    CHECK(third.disk_peak == file);
    CHECK(done.disk == 0);
}

TEST_CASE("sweep cost: what is shown of a resumed cell is what is left") {
    const test::SweepFixture sweep;
    const auto cells = sweep.expand("[grid]\ntrain.seed = [1, 2]\n");
    const Context context(Device::cpu, 1);
    const std::vector<CellStatus> statuses{at(CellState::resumable, 9), at(CellState::finished, 12)};
    std::vector<CellCost> costs;
    for (size_t i = 0; i < cells.size(); ++i) costs.push_back(cost_of(context, cells[i], statuses[i]));
    const std::string shown = format_cost(cells, statuses, costs, 0);
    CHECK_THAT(shown, ContainsSubstring("1 of 2 cells, one after another: 384 tokens"));  // 3 steps
    CHECK_THAT(shown, !ContainsSubstring("1.5k"));                                        // of 12
}

TEST_CASE("sweep cost: all kept checkpoints and the largest one that is being written need room") {
    const std::vector<CellStatus> statuses{at(CellState::missing, 0), at(CellState::resumable, 3),
                                           at(CellState::finished, 12), at(CellState::in_use, 2)};
    const std::vector<CellCost> costs{with_disk(1000, 100), with_disk(2000, 300), with_disk(4000, 4000),
                                      with_disk(8000, 8000)};
    CHECK_NOTHROW(require_disk(statuses, costs, 3300, "out"));
    CHECK_THAT(test::message_of([&] { require_disk(statuses, costs, 3299, "out"); }),
               ContainsSubstring("out has") && ContainsSubstring("free"));
}
