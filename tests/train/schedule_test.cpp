// The published values of the three schedules for Pythia-160M.
#include "tests/catch.h"
#include "train/schedule.h"

using namespace ballast::train;

namespace {
const Schedule kPythia{ScheduleKind::pythia, 6e-4, 6e-5, 1430, 143000};
const Schedule kCorrected{ScheduleKind::corrected, 6e-4, 6e-5, 1430, 143000};
const Schedule kNeox{ScheduleKind::neox, 6e-4, 6e-5, 1430, 143000};
}  // namespace

TEST_CASE("the published and the corrected schedule at the recipe's steps") {
    const auto check = [](int64_t t, double pythia, double corrected) {
        CHECK(kPythia.at(t) == Approx(pythia).epsilon(2e-4));
        CHECK(kCorrected.at(t) == Approx(corrected).epsilon(2e-4));
    };
    check(20000, 5.754e-4, 5.774e-4);
    check(50000, 4.448e-4, 4.578e-4);
    check(71500, 3.094e-4, 3.343e-4);
    check(100000, 1.319e-4, 1.739e-4);
    check(130000, 6.000e-5, 7.116e-5);
}

TEST_CASE("warm-up, the floor and the first update") {
    CHECK(kPythia.at_update(1) == 0.0);
    CHECK(kCorrected.at_update(1) == 0.0);
    CHECK(kNeox.at_update(1) == Approx(6e-4 / 1430));
    CHECK(kPythia.at(715) == Approx(3e-4));
    CHECK(kPythia.at(1430) == Approx(6e-4));
    CHECK(kPythia.at(115138) > 6e-5);
    CHECK(kPythia.at(115139) == 6e-5);  // a clamp, not the cosine's floor
    CHECK(kPythia.at(142999) == 6e-5);
    CHECK(kCorrected.at(143000) == Approx(6e-5));
    CHECK(kNeox.at(50000) == kCorrected.at(50000));
}

TEST_CASE("no warm-up starts at the full rate") {
    const Schedule s{ScheduleKind::corrected, 1.0, 0.1, 0, 100};
    CHECK(s.at_update(1) == 1.0);
    CHECK(s.at(100) == Approx(0.1));
}
