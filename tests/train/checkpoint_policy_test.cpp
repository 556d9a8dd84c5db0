#include "tests/catch.h"
#include "train/checkpoint.h"

using namespace ballast::train;

TEST_CASE("Pythia's 154 checkpoints") {
    const CheckpointConfig config{1000, true, 3, 1000};
    int count = 0;
    for (int64_t step = 0; step <= 143000; ++step) count += checkpoint_due(config, step, 143000);
    CHECK(count == 154);
    for (int64_t step : {0, 1, 2, 4, 512, 1000, 143000}) CHECK(checkpoint_due(config, step, 143000));
    for (int64_t step : {3, 5, 1024, 999}) CHECK_FALSE(checkpoint_due(config, step, 143000));
    CHECK(checkpoint_due({0, false, 3, 0}, 77, 77));  // the last always
    CHECK_FALSE(checkpoint_due({0, false, 3, 0}, 0, 77));
}

TEST_CASE("keep the last K, and never remove the protected") {
    const CheckpointConfig config{100, true, 2, 1000};
    CHECK(checkpoints_to_remove(config, {0, 1, 2, 100, 200, 300, 512, 1000, 1100}) == std::vector<int64_t>{100, 200});
    CHECK(checkpoints_to_remove(config, {0, 1, 100}).empty());
    CHECK(checkpoints_to_remove({100, false, 0, 0}, {1, 2, 3}).empty());  // 0 keeps all
    CHECK(checkpoints_to_remove({100, false, 1, 0}, {0, 100, 200}) == std::vector<int64_t>{0, 100});
}
