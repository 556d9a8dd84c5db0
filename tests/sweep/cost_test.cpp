// What a sweep will take: only what is left, and disk for the file that is being written.
#include "sweep/cost.h"

#include "tests/base/message_of.h"
#include "tests/sweep/sweep_fixture.h"

using namespace ballast;
using namespace ballast::sweep;
using Catch::Matchers::ContainsSubstring;

namespace {

CellStatus at(CellState state, int64_t step) {
    CellStatus status;
    status.state = state;
    status.step = step;
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
    const CellCost whole = cost_of(context, cells[0], at(CellState::missing, 0)),
                   third = cost_of(context, cells[0], at(CellState::resumable, 8)),
                   done = cost_of(context, cells[0], at(CellState::finished, 12));
    CHECK(whole.tokens == 12 * 4 * 32);
    CHECK(third.tokens == whole.tokens);
    CHECK(whole.flops > 0);
    CHECK(third.flops == Approx(whole.flops / 3));
    CHECK(done.flops == 0);
    CHECK(whole.disk_peak == static_cast<size_t>(12 * whole.parameters));  // weights and two moments in f32
    CHECK(whole.disk % whole.disk_peak == 0);
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
