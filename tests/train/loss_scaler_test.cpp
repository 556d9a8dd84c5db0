// The rule of the loss scale against a plain re-statement of DeepSpeed's DynamicLossScaler, in its own variables.
#include "train/loss_scaler.h"

#include <random>
#include <vector>

#include "tests/catch.h"

using namespace ballast::train;

namespace {

struct DeepSpeedScaler {
    double cur_scale, min_scale;
    int64_t scale_window, delayed_shift, cur_hysteresis, cur_iter = 0, last_overflow_iter = -1;

    explicit DeepSpeedScaler(const Fp16Config& c)
        : cur_scale(c.initial_scale()),
          min_scale(c.min_loss_scale),
          scale_window(c.loss_scale_window),
          delayed_shift(c.hysteresis),
          cur_hysteresis(c.hysteresis) {}

    /// False where DeepSpeed raises.
    bool update_scale(bool overflow) {
        if (overflow) {
            if (delayed_shift == 1 || cur_hysteresis == 1) {
                if (cur_scale == min_scale) return false;
                cur_scale = std::max(cur_scale / 2, min_scale);
            } else {
                cur_hysteresis -= 1;
            }
            last_overflow_iter = cur_iter;
        } else if ((cur_iter - last_overflow_iter) % scale_window == 0) {
            cur_hysteresis = delayed_shift;
            cur_scale *= 2;
        }
        cur_iter += 1;
        return true;
    }
};

}  // namespace

TEST_CASE("loss scale: Pythia's numbers, step by step") {
    LossScaler scaler({});
    const auto good = [&](int n) {
        for (int i = 0; i < n; ++i) REQUIRE(scaler.update(false));
    };
    CHECK(scaler.scale() == 4096);
    good(999);
    CHECK(scaler.scale() == 4096);
    good(1);
    CHECK(scaler.scale() == 8192);
    CHECK(scaler.update(true));  // the first overflow is forgiven
    CHECK(scaler.scale() == 8192);
    good(999);
    CHECK(scaler.update(true));  // 999 good updates have not forgotten it
    CHECK(scaler.scale() == 4096);
    CHECK(scaler.update(true));  // nor has a smaller scale
    CHECK(scaler.scale() == 2048);
    good(1000);
    CHECK(scaler.scale() == 4096);
    CHECK(scaler.update(true));  // a thousand have
    CHECK(scaler.scale() == 4096);
    for (double scale = 2048; scale >= 1; scale /= 2) {
        CHECK(scaler.update(true));
        CHECK(scaler.scale() == scale);
    }
    CHECK_FALSE(scaler.update(true));  // at the minimum: give up
    CHECK(scaler.scale() == 1);
}

TEST_CASE("loss scale: any sequence of overflows gives DeepSpeed's scale and hysteresis") {
    std::mt19937 random(20261125);
    const Fp16Config configs[] = {{}, {12, 10, 2, 1}, {3, 4, 1, 0.5}, {5, 1, 3, 4}, {40, 7, 2, 3}};
    int gave_up = 0;
    for (const Fp16Config& config : configs)
        for (const double share : {0.001, 0.02, 0.2, 0.6}) {
            LossScaler scaler(config);
            DeepSpeedScaler expected(config);
            std::bernoulli_distribution overflows(share);
            for (int step = 0; step < 5000; ++step) {
                INFO("window " << config.loss_scale_window << ", share " << share << ", step " << step);
                const bool overflow = overflows(random) || scaler.scale() > 1e30, goes_on = scaler.update(overflow);
                REQUIRE(goes_on == expected.update_scale(overflow));
                REQUIRE(scaler.scale() == expected.cur_scale);
                REQUIRE(scaler.state().hysteresis == expected.cur_hysteresis);
                gave_up += !goes_on;
                if (!goes_on) break;
                if (step % 97 != 0) continue;
                const LossScalerState saved = scaler.state();  // through a checkpoint
                scaler = LossScaler(config);
                scaler.restore(saved);
            }
        }
    CHECK(gave_up > 0);
}
