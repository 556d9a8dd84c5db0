// Numbers that JSON cannot write go through a file and come back.
#include "base/json_figure.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_file.h"
#include "tests/catch.h"

using namespace ballast;

namespace {

double through_text(double value) { return read_figure(parse_json(json_figure(value).dump(), "figure")); }

}  // namespace

TEST_CASE("json figures: every double survives, finite or not") {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    for (const double value : {0.0, -2.5, 1e300, 5e-324, 0.1, kInf, -kInf}) CHECK(through_text(value) == value);
    CHECK(std::isnan(through_text(std::numeric_limits<double>::quiet_NaN())));
    CHECK(std::isnan(through_text(-std::numeric_limits<double>::quiet_NaN())));
    CHECK(json_figure(kInf).dump() == "\"Infinity\"");
    CHECK(json_figures(std::vector<double>{1, -kInf}).dump() == "[1.0,\"-Infinity\"]");
}

TEST_CASE("json figures: null of older files is NaN, and what is no number is refused") {
    const auto read = [](const char* text) { return read_figure(parse_json(text, "figure")); };
    CHECK(std::isnan(read("null")));
    CHECK(read("3") == 3);
    for (const char* text : {"\"nan\"", "\"3\"", "true", "[1]", "{}"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(read(text), UserError);
    }
    CHECK(read_figures(parse_json("[1, 2.5]", "figures")) == std::vector<double>{1, 2.5});
    CHECK_THROWS_AS(read_figures(parse_json("3", "figures")), UserError);
}
