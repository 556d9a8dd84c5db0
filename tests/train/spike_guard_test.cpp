// The rule for spikes against plain sums in long double.
#include "train/spike_guard.h"

#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"
#include "tests/catch.h"

using namespace ballast;
using namespace ballast::train;

namespace {

/// m + z s of the last `window` values.
double plain_limit(const std::vector<double>& values, size_t window, double z) {
    const size_t first = values.size() > window ? values.size() - window : 0;
    long double sum = 0, squares = 0;
    const auto n = static_cast<long double>(values.size() - first);
    for (size_t i = first; i < values.size(); ++i) sum += values[i];
    for (size_t i = first; i < values.size(); ++i) squares += (values[i] - sum / n) * (values[i] - sum / n);
    return static_cast<double>(sum / n + z * std::sqrt(squares / (n - 1)));
}

const SpikeConfig kConfig{SpikeAction::skip, 3, 9};

}  // namespace

TEST_CASE("spikes: limits are those of the window's plain sums, and none before half of it is there") {
    SpikeGuard guard(kConfig);
    std::mt19937 random(5);
    std::normal_distribution<double> normal(0, 0.1);
    std::vector<double> losses, norms;
    for (int i = 0; i < 40; ++i) {
        const SpikeGuard::Limits limits = guard.limits();
        CHECK(guard.acts() == (i >= 5));
        if (i < 5) {
            CHECK(limits.loss == std::numeric_limits<double>::infinity());
            CHECK(limits.norm == std::numeric_limits<double>::infinity());
        } else {
            CHECK(std::abs(limits.loss - plain_limit(losses, 9, 3)) <= 1e-14 * limits.loss);
            CHECK(std::abs(limits.norm - plain_limit(norms, 9, 3)) <= 1e-14 * limits.norm);
        }
        losses.push_back(4 - 0.05 * i + normal(random));
        norms.push_back(1 + normal(random));
        guard.accept(i + 1, losses.back(), norms.back());
        CHECK(guard.state().losses.size() == std::min<size_t>(losses.size(), 9));
    }
}

TEST_CASE("spikes: what is skipped moves no limit, NaN cannot be accepted, and too many in a row end the run") {
    SpikeGuard guard(kConfig);
    for (int i = 0; i < 9; ++i) guard.accept(i + 1, 3 + 0.1 * (i % 3), 1 + 0.2 * (i % 2));
    const SpikeGuard::Limits before = guard.limits();
    for (int i = 0; i < SpikeGuard::kMostSkippedInARow; ++i) CHECK_NOTHROW(guard.skip());
    CHECK(guard.limits().loss == before.loss);
    CHECK(guard.limits().norm == before.norm);
    CHECK_THROWS_AS(guard.skip(), RunError);
    guard.accept(30, 3, 1);
    CHECK_NOTHROW(guard.skip());  // counted anew
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(guard.accept(31, nan, 1), InternalError);
    CHECK_THROWS_AS(guard.accept(31, 1, nan), InternalError);
}

TEST_CASE("spikes: rollbacks are counted until the run is a window past the furthest of their spikes") {
    SpikeGuard guard(kConfig);
    const SpikeState saved{{3, 3.1, 3.2}, {1, 1.1, 1}, 0, 0, 0};
    for (int64_t i = 1; i <= 3; ++i) guard.roll_back(100 - i, saved);
    CHECK(guard.state() == SpikeState{saved.losses, saved.norms, 0, 3, 99});
    guard.accept(107, 3, 1);
    CHECK(guard.state().rollbacks == 3);
    guard.accept(108, 3, 1);
    CHECK(guard.state().rollbacks == 0);
    for (int64_t i = 1; i <= SpikeGuard::kMostRollbacks; ++i) CHECK_NOTHROW(guard.roll_back(100, saved));
    CHECK_THROWS_AS(guard.roll_back(100, saved), RunError);
}

TEST_CASE("spikes: a guard that is restored goes on as the first, one of a shorter window with its last values") {
    SpikeGuard first(kConfig), second(kConfig), shorter({SpikeAction::skip, 3, 4}), none({});
    for (int i = 0; i < 14; ++i) first.accept(i + 1, 5 - 0.1 * i, 1 + 0.03 * (i % 5));
    for (SpikeGuard* guard : {&second, &shorter, &none}) guard->restore(first.state());
    CHECK(second.state() == first.state());
    CHECK(second.limits().loss == first.limits().loss);
    CHECK(shorter.state().losses == std::vector<double>(first.state().losses.end() - 4, first.state().losses.end()));
    CHECK_FALSE(none.acts());
    CHECK(none.limits().norm == std::numeric_limits<double>::infinity());
}

TEST_CASE("spikes: the reason names the signal that is above its limit") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(why_spike(5, 1, {4.5, 2}) == "loss 5 above 4.5");
    CHECK(why_spike(4, 3, {4.5, 2}) == "norm 3 above 2");
    CHECK(why_spike(nan, nan, {4.5, 2}) == "loss not finite");
    CHECK(why_spike(4, nan, {4.5, 2}) == "norm not finite");
}
