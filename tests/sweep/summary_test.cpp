#include "sweep/summary.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/sweep/sweep_fixture.h"

using namespace ballast;
using namespace ballast::sweep;
using Catch::Matchers::ContainsSubstring;

namespace {

const Column kLoss{"loss", "validation", Better::lower}, kShare{"attention", "position 1", Better::neither};

CellFigures figures(const std::string& variant, int seed, std::vector<std::pair<Column, double>> values) {
    return {variant + ",seed=" + std::to_string(seed),
            "",
            variant,
            {{"model.num_sink_tokens", "1"}, {"train.seed", std::to_string(seed)}},
            std::move(values),
            {}};
}

}  // namespace

TEST_CASE("summary: mean and sample deviation") {
    const Statistic three = statistic({2, 4, 9});  // mean 5, squares 9 + 1 + 16 = 26, over 2
    CHECK(three.mean == Approx(5));
    CHECK(three.std.value() == Approx(std::sqrt(13.0)));
    CHECK(three.n == 3);
    CHECK_FALSE(statistic({7}).std);
    CHECK(statistic({7}).mean == 7);
    CHECK(statistic({3, 3}).std == 0);
}

TEST_CASE("summary: a row a variant, the lowest mean marked, attention never") {
    const Summary summary =
        summarise({figures("a", 1, {{kLoss, 3.0}, {kShare, 0.1}}), figures("b", 1, {{kLoss, 2.5}, {kShare, 0.2}}),
                   figures("a", 2, {{kLoss, 3.2}, {kShare, 0.3}}), figures("b", 2, {{kLoss, 2.7}})},
                  5);
    REQUIRE(summary.rows.size() == 2);
    CHECK(summary.rows[0].cells == std::vector<std::string>{"a,seed=1", "a,seed=2"});
    CHECK(summary.rows[0].fields == std::vector<std::pair<std::string, std::string>>{{"model.num_sink_tokens", "1"}});
    CHECK(summary.rows[0].values[0]->mean == Approx(3.1));
    CHECK(summary.rows[0].values[0]->std.value() == Approx(std::sqrt(0.02)));
    CHECK(summary.rows[1].values[1]->n == 1);
    CHECK(best_row(summary, 0) == 1);
    CHECK_FALSE(best_row(summary, 1));
    const std::string text = to_markdown(summary);
    CHECK_THAT(text, ContainsSubstring("Incomplete: 4 of 5 cells"));
    CHECK_THAT(text, ContainsSubstring("| a    | 2 |     3.100 ± 0.141 |"));
    CHECK_THAT(text, ContainsSubstring("| b    | 2 | **2.600 ± 0.141** |"));
    CHECK_THAT(text, ContainsSubstring("0.200 (n=1)"));
    const auto json = to_json(summary);
    CHECK(json["columns"][0]["best"] == "b");
    CHECK(json["columns"][1]["best"].is_null());
    CHECK(json["rows"][0]["values"][0]["n"] == 2);
    CHECK(json["trained"] == 4);
}

TEST_CASE("summary: no best among one, among missing values, or NaN") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK_FALSE(best_row(summarise({figures("a", 1, {{kLoss, 1}})}, 1), 0));
    CHECK_FALSE(best_row(summarise({figures("a", 1, {{kLoss, 1}}), figures("b", 1, {{kLoss, nan}})}, 2), 0));
    const Summary three = summarise({figures("a", 1, {{kLoss, nan}}), figures("b", 1, {{kLoss, 2}}),
                                     figures("c", 1, {{kLoss, 1}}), figures("d", 1, {})},
                                    4);
    CHECK(best_row(three, 0) == 2);
    CHECK_FALSE(three.rows[3].values[0]);
    CHECK(to_json(three)["rows"][0]["values"][0]["mean"] == "NaN");
    CHECK(to_json(three)["rows"][0]["values"][0]["std"].is_null());  // one seed
    CHECK(to_json(three)["rows"][3]["values"][0].is_null());         // nobody has it
    CHECK_THAT(to_markdown(summarise({figures("a", 1, {{kLoss, -nan}})}, 1)),
               ContainsSubstring(" nan |") && !ContainsSubstring("-nan"));
}

TEST_CASE("summary: figures come from a run's files") {
    const test::TemporaryFolder folder;
    std::string metrics;
    for (int step = 1; step <= 30; ++step) metrics += fmt::format("{{\"step\": {}, \"loss\": {}}}\n", step, step);
    write_file(folder / "metrics.jsonl", metrics + "{\"step\": 30, \"validation_loss\": 2.0}\n");
    std::filesystem::create_directory(folder / "eval");
    write_file(folder / "eval/table.json",
               R"({"cache": 8, "models": [{"model": "m", "step": 30, "results": [
                  {"policy": "sink", "sinks": 2, "cache": 8, "tokens": 9, "of_tokens": 9, "perplexity": 5.5, "curve": []},
                  {"policy": "sink", "sinks": 2, "cache": 16, "tokens": 9, "of_tokens": 9, "perplexity": 6.5, "curve": []},
                  {"policy": "recompute", "sinks": 0, "cache": 8, "tokens": 3, "of_tokens": 9, "perplexity": 4.5, "curve": []}],
                  "sinks": {"length": 8, "sequences": 1, "epsilon": 0.3, "sink_rate": [0.25, 0], "layers": [
                  {"share": [0.4, 0.1], "share_std": [0, 0]}, {"share": [0.2, 0.1], "share_std": [0, 0]}]}}]})");
    Cell cell;
    cell.name = cell.variant = "x";
    const CellFigures have = read_figures(cell, folder.path(), 8);
    std::map<std::string, double> values;
    for (const auto& [column, value] : have.values) values[column.name] = value;
    CHECK(values.size() == 8);
    CHECK(values["train"] == 29);  // of steps 28, 29, 30
    CHECK(values["validation"] == 2);
    CHECK(values["validation perplexity"] == Approx(std::exp(2.0)));
    CHECK(values["2+6"] == 5.5);
    CHECK(values["recompute 8"] == 4.5);
    CHECK(values["position 1"] == Approx(0.3));
    CHECK(values["positions 1-2"] == Approx(0.4));
    CHECK(values["Sink_1 %"] == 25);
    CHECK(have.notes.size() == 3);
}

TEST_CASE("summary: several measurements of one cell are no seeds") {
    const test::TemporaryFolder folder;
    std::filesystem::create_directory(folder / "eval");
    const auto result = [](const std::string& policy, int cache, double perplexity, const std::string& more) {
        return fmt::format(R"({{"policy": "{}", "sinks": 0, "cache": {}, "tokens": 9, "of_tokens": 9, "curve": [],
                               "perplexity": {}{}}})",
                           policy, cache, perplexity, more);
    };
    write_file(folder / "eval/all.json",
               fmt::format(R"({{"model": "m", "step": 30, "results": [{}, {}, {}, {}, {}, {}, {}]}})",
                           result("recompute", 8, 4, ""), result("recompute", 16, 5, ""),
                           result("h2o", 8, 6, R"(, "plan": "h2o 4+4")"), result("h2o", 8, 7, R"(, "plan": "h2o 2+6")"),
                           result("moa", 8, 8, R"(, "plan": "a", "density": 0.5)"),
                           result("moa", 8, 9, R"(, "plan": "b", "density": 0.5)"),
                           result("moa", 8, 10, R"(, "plan": "b", "density": 0.25)")));  // of a longer text
    Cell cell;
    cell.name = cell.variant = "x";
    const Summary summary = summarise({read_figures(cell, folder.path(), 0)}, 1);
    std::map<std::string, Statistic> values;
    for (size_t i = 0; i < summary.columns.size(); ++i)
        values[summary.columns[i].name] = summary.rows[0].values[i].value();
    const std::map<std::string, double> expected{
        {"recompute 8", 4}, {"recompute 16", 5}, {"h2o 4+4", 6}, {"h2o 2+6", 7}, {"a", 8}, {"b", 9}};
    CHECK(values.size() == expected.size());
    for (const auto& [name, value] : expected) {
        INFO(name);
        CHECK(values[name].mean == value);
        CHECK(values[name].n == 1);
    }
    REQUIRE(summary.notes.size() == 1);
    CHECK_THAT(summary.notes[0], ContainsSubstring("perplexity, b: measured more than once"));

    const CellFigures of_8 = read_figures(cell, folder.path(), 8);  // a sweep's own cache
    CHECK(of_8.values.size() == 5);
    CHECK(of_8.notes.back() == "x: 1 perplexity under other caches than the sweep's 8 positions left out.");
}

TEST_CASE("summary: a page shows all runs, or one seed of each variant, and never more than it holds") {
    std::vector<Cell> cells(6);
    for (size_t i = 0; i < 6; ++i) cells[i].variant = std::string(1, "abcabc"[i]);
    using Numbers = std::vector<size_t>;
    CHECK(runs_to_show(cells, {0, 1, 3, 4}, 4) == Numbers{0, 1, 3, 4});
    CHECK(runs_to_show(cells, {1, 2, 3, 4, 5}, 4) == Numbers{1, 2, 3});  // a's first seed is missing
    CHECK(runs_to_show(cells, {0, 1, 2, 3, 4, 5}, 2) == Numbers{0, 1});
}
