#include "report/terminal_plot.h"

#include <cmath>
#include <limits>

#include "base/columns.h"
#include "tests/catch.h"

using namespace ballast;
using namespace ballast::report;
using Catch::Matchers::ContainsSubstring;
using Drawing = std::vector<std::string>;

namespace {

constexpr double kGap = std::numeric_limits<double>::quiet_NaN();

/// Four lines of plot, sixteen columns: the axes take three and nine.
const PlotOptions kSmall{25, 7, false};

PlotSeries line(std::vector<double> x, std::vector<double> y, size_t colour = 0) {
    return {std::move(x), std::move(y), {}, {}, colour};
}

}  // namespace

TEST_CASE("terminal plot: a falling line runs from corner to corner") {
    const Drawing lines = draw_plot("loss", {line({1, 100}, {4, 0.5})}, kSmall);
    REQUIRE(lines.size() == 7);
    CHECK(lines[0] == "loss");
    CHECK(lines[1] == "      4 ┤⠉⠑⠢⢄⡀");
    CHECK(lines[2] == "        │    ⠈⠑⠢⢄⡀");
    CHECK(lines[3] == "        │        ⠈⠑⠢⢄⡀");
    CHECK(lines[4] == "    0.5 ┤            ⠈⠑⠢⢄");
    CHECK(lines[5] == "        └────────────────");
    CHECK(lines[6] == "         1            100");
    for (const std::string& text : lines) CHECK(display_columns(text) <= 25);
}

TEST_CASE("terminal plot: NaN breaks the curve, single values and infinities draw") {
    const Drawing broken = draw_plot("x", {line({0, 1, 2, 3, 4}, {1, 1, kGap, 1, 1})}, kSmall);
    const Drawing whole = draw_plot("x", {line({0, 1, 2, 3, 4}, {1, 1, 1, 1, 1})}, kSmall);
    std::string drawn, unbroken;
    for (const std::string& text : broken) drawn += text;
    for (const std::string& text : whole) unbroken += text;
    CHECK_THAT(drawn, ContainsSubstring("   "));
    CHECK(drawn != unbroken);
    CHECK(draw_plot("x", {line({5}, {0})}, kSmall).size() == 7);
    CHECK(draw_plot("x", {line({1, 2}, {3, std::numeric_limits<double>::infinity()})}, kSmall).size() == 7);
    CHECK(draw_plot("x", {line({1, 2}, {kGap, kGap})}, kSmall) == Drawing{"x: nothing to draw yet"});
    CHECK(draw_plot("x", {}, kSmall) == Drawing{"x: nothing to draw yet"});
}

TEST_CASE("terminal plot: several curves by colour or by letter, marks over them") {
    PlotSeries first = line({0, 10}, {1, 1}), second = line({0, 10}, {3, 3}, 1);
    first.marks_x = {10};
    first.marks_y = {2};
    const Drawing plain = draw_plot("x", {first, second}, kSmall);
    CHECK(plain[1] == "      3 ┤bbbbbbbbbbbbbbbb");
    CHECK(plain[4] == "      1 ┤aaaaaaaaaaaaaaaa");
    CHECK_THAT(plain[2] + plain[3], ContainsSubstring("               o"));
    const Drawing coloured = draw_plot("x", {first, second}, {25, 7, true});
    CHECK_THAT(coloured[1], ContainsSubstring("\x1b[33m"));
    CHECK_THAT(coloured[4], ContainsSubstring("\x1b[36m"));
    for (const std::string& text : plain) CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("terminal plot: a column shows the mean of its values") {
    std::vector<double> x, y;
    for (int i = 0; i < 6400; ++i) x.push_back(i), y.push_back(i % 2 == 0 ? 0 : 2);
    y.front() = 2, y.back() = 2;  // the range stays 0 to 2
    const Drawing lines = draw_plot("x", {line(x, y)}, kSmall);
    for (const int row : {1, 4}) CHECK(display_columns(lines[static_cast<size_t>(row)]) == 9);  // nothing but the axis
}
