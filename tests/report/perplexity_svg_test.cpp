// The picture and the table of streaming cells, as text.
#include "report/perplexity_svg.h"

#include <cmath>
#include <limits>
#include <regex>

#include "base/error.h"
#include "tests/catch.h"

using namespace ballast;
using namespace ballast::report;
using Catch::Matchers::ContainsSubstring;
using eval::StreamingResult;
using infer::CachePolicy;

namespace {

StreamingResult cell(const eval::StreamingPolicy& policy, const std::vector<double>& perplexities, double all = 20) {
    StreamingResult out;
    out.policy = policy;
    out.tokens = out.of_tokens = 1000 * static_cast<int64_t>(perplexities.size());
    out.perplexity = all;
    for (size_t i = 0; i < perplexities.size(); ++i)
        out.curve.push_back({1000 * static_cast<int64_t>(i), 1000, std::log(perplexities[i])});
    return out;
}

struct Place {
    double x, y;
    bool operator==(const Place&) const = default;
};

/// The points of every path; an M begins a piece.
std::vector<std::vector<Place>> paths(const std::string& svg, std::vector<int>* pieces = nullptr) {
    std::vector<std::vector<Place>> out;
    const std::regex path("<path d=\"([^\"]*)\""), point("([ML])([0-9.]+),([0-9.]+)");
    for (std::sregex_iterator at(svg.begin(), svg.end(), path), end; at != end; ++at) {
        const std::string d = (*at)[1];
        auto& points = out.emplace_back();
        int begun = 0;
        for (std::sregex_iterator p(d.begin(), d.end(), point); p != end; ++p) {
            points.push_back({std::stod((*p)[2]), std::stod((*p)[3])});
            begun += (*p)[1] == "M";
        }
        if (pieces != nullptr) pieces->push_back(begun);
    }
    return out;
}

/// Where a text stands, by what it says.
double height_of(const std::string& svg, const std::string& label) {
    std::smatch found;
    REQUIRE(
        std::regex_search(svg, found, std::regex("<text x=\"[0-9.]+\" y=\"([0-9.]+)\" [^>]*>" + label + "</text>")));
    return std::stod(found[1]);
}

}  // namespace

TEST_CASE("perplexity picture: curves go through their buckets' middles, on a logarithmic scale") {
    const std::string svg =
        perplexity_svg({cell(CachePolicy::dense(), {10, 100, 1000}), cell(CachePolicy::sink(4, 508), {10, 10, 10})},
                       {.title = "A <title>", .context = 1500});
    const auto drawn = paths(svg);
    REQUIRE(drawn.size() == 2);
    REQUIRE(drawn[0].size() == 3);
    CHECK(drawn[0][1].x - drawn[0][0].x == Approx(drawn[0][2].x - drawn[0][1].x).margin(0.2));
    CHECK(drawn[0][0].y - drawn[0][1].y == Approx(drawn[0][1].y - drawn[0][2].y).margin(0.2));  // decades
    CHECK(drawn[0][0] == drawn[1][0]);
    CHECK(drawn[1][0].y == drawn[1][2].y);
    CHECK_THAT(svg, ContainsSubstring("A &lt;title&gt;") && ContainsSubstring("trained context"));
    CHECK_THAT(svg, ContainsSubstring(">dense</text>") && ContainsSubstring(">4+508</text>"));
    // The mark of the context stands where position 1500, the middle of the second bucket, is.
    std::smatch mark;
    REQUIRE(std::regex_search(svg, mark, std::regex("<line x1=\"([0-9.]+)\"[^/]*stroke-dasharray=\"3 3\"")));
    CHECK(std::stod(mark[1]) == Approx(drawn[0][1].x).margin(0.2));
    CHECK_THAT(perplexity_svg({cell(CachePolicy::dense(), {10, 20})}, {.context = 2000}),
               !ContainsSubstring("trained context"));
}

TEST_CASE("perplexity picture: what is not finite is a gap, and nothing to draw is an error") {
    const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
    std::vector<int> pieces;
    const std::string svg = perplexity_svg({cell(CachePolicy::sink(0, 512), {10, nan, 20, 30, inf, 40})}, {});
    CHECK(paths(svg, &pieces)[0].size() == 4);
    CHECK(pieces[0] == 3);
    CHECK_THAT(svg, !ContainsSubstring("nan") && !ContainsSubstring("inf"));
    CHECK_THROWS_AS(perplexity_svg({cell(CachePolicy::dense(), {nan, inf})}, {}), UserError);
}

TEST_CASE("perplexity picture: names at the curves' ends stand apart and inside") {
    std::vector<StreamingResult> cells;
    for (int64_t sinks = 1; sinks <= 6; ++sinks) cells.push_back(cell(CachePolicy::sink(sinks, 100), {50, 10}));
    cells.push_back(cell(CachePolicy::sink(0, 100), {50, 500}));
    const std::string svg = perplexity_svg(cells, {});
    std::vector<double> heights;
    for (int64_t sinks = 0; sinks <= 6; ++sinks) heights.push_back(height_of(svg, std::to_string(sinks) + "\\+100"));
    std::sort(heights.begin(), heights.end());
    for (size_t i = 1; i < heights.size(); ++i) CHECK(heights[i] - heights[i - 1] >= 14.9);
    CHECK(heights.back() <= 440 - 52 + 5);
    CHECK(heights.front() == height_of(svg, "0\\+100"));  // the worst is on top
}

TEST_CASE("perplexity table: caches down, kept positions across") {
    StreamingResult recompute = cell(eval::Recompute{512, 0}, {30}, 28.5);
    recompute.tokens = 63;
    StreamingResult broken = cell(CachePolicy::sink(0, 256), {30}, std::nan(""));
    broken.non_finite = 7;
    const std::string table = perplexity_markdown({cell(CachePolicy::sink(0, 512), {30}, 52.58),
                                                   cell(CachePolicy::sink(4, 508), {30}, 28.875), broken,
                                                   cell(CachePolicy::dense(), {30}, 28.18), recompute});
    CHECK_THAT(table, ContainsSubstring("total cache") && ContainsSubstring("0 + y") && ContainsSubstring("4 + y"));
    const std::regex row256("\\| *256 *\\| *nan *\\| *– *\\| *– *\\| *28\\.18 *\\|"),
        row512("\\| *512 *\\| *52\\.58 *\\| *28\\.8[78] *\\| *28\\.50\\* *\\| *28\\.18 *\\|");
    CHECK(std::regex_search(table, row256));
    CHECK(std::regex_search(table, row512));
    CHECK_THAT(table,
               ContainsSubstring("recompute 512: scored on 63 of 1000 tokens") && ContainsSubstring("0+256: 7 of"));
    CHECK_THAT(perplexity_markdown({cell(CachePolicy::dense(), {30}, 28.18)}), ContainsSubstring("28.18"));
}
