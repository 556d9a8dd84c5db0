// `ballast report` on runs as they are found: finished, training, damaged, named twice.
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

nlohmann::json data_of(const std::string& path) {
    const std::string page = read_file(path), open = "<script type=\"application/json\" id=\"data\">";
    const size_t begin = page.find(open) + open.size();
    return nlohmann::json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

/// The page's measurements of one kind.
std::vector<nlohmann::json> measured(const nlohmann::json& run, const std::string& kind) {
    std::vector<nlohmann::json> out;
    for (const auto& measurement : run["measurements"])
        if (measurement["kind"] == kind) out.push_back(measurement);
    return out;
}

std::string text_option(const TinyRun& run) {
    return " --cache 16 --max-tokens 300 --threads 1 --text " + run.file("text.txt");
}

}  // namespace

TEST_CASE("cli: a report measures what is missing, once") {
    const TinyRun run;
    succeed(run.train("a"));
    const std::string report = "report " + run.file("a") + " -o " + run.file("report.html");
    const Outcome bare = ballast_with(report);
    CHECK(bare.code == 0);
    CHECK_THAT(bare.err, ContainsSubstring("--text HELDOUT.txt"));
    CHECK(data_of(run.file("report.html"))["runs"][0]["measurements"].empty());

    succeed(report + text_option(run));
    const auto data = data_of(run.file("report.html"))["runs"][0];
    CHECK(data["metrics"]["lines"] == 12);
    const auto cells = measured(data, "streaming");
    REQUIRE(cells.size() == 6);  // 0+16, 1+15, 2+14, 4+12, dense, recompute
    for (const auto& cell : cells) CHECK(cell["step"] == 12);
    REQUIRE(measured(data, "sinks").size() == 1);
    CHECK(measured(data, "sinks")[0]["metrics"]["layers"].size() == 2);
    CHECK(data["maps"]["heads"] == 2);
    CHECK(data["environment"]["run"]["backend"] == "cpu");
    CHECK(data["parameters"]["total"].get<int64_t>() > 10000);

    const auto measured = std::filesystem::last_write_time(run.file("a/eval/table.json"));
    const Outcome again = ballast_with(report + text_option(run));
    CHECK(again.err.empty());
    CHECK(std::filesystem::last_write_time(run.file("a/eval/table.json")) == measured);

    succeed(run.train("a", "--resume --set train.steps=14"));  // a newer checkpoint: measured again
    succeed(report + text_option(run));
    const nlohmann::json newer = data_of(run.file("report.html"))["runs"][0]["measurements"];
    for (const auto& cell : newer) CHECK(cell["step"] == 14);
    CHECK(leftovers(run.folder.path()).empty());

    succeed(run.train("a", "--overwrite"));
    CHECK_FALSE(std::filesystem::exists(run.file("a/eval")));
}

TEST_CASE("cli: a report measures anew what is there of another cache or another text") {
    const TinyRun run;
    succeed(run.train("a"));
    write_file(run.file("other.txt"), read_file(run.file("text.txt")).substr(3000));
    const std::string page = run.file("report.html");
    const auto report = [&](const std::string& more) {
        succeed("report " + run.file("a") + " -o " + page + " --threads 1 " + more);
        return data_of(page)["runs"][0];
    };
    const auto caches = [](const nlohmann::json& shown) {
        std::vector<int64_t> out;
        for (const auto& cell : measured(shown, "streaming"))
            if (cell["metrics"]["policy"] == "sink") out.push_back(cell["metrics"]["cache"].get<int64_t>());
        return out;
    };
    using Caches = std::vector<int64_t>;
    const std::string text = " --max-tokens 300 --text " + run.file("text.txt"),
                      other = " --max-tokens 300 --text " + run.file("other.txt");
    const auto first = report("--cache 16" + text);
    CHECK(caches(first) == Caches{16, 16, 16});
    const auto second = report("--cache 8" + text);
    CHECK(caches(second) == Caches{8, 8, 8});
    CHECK(measured(second, "sinks") == measured(first, "sinks"));  // which have no cache
    const auto written = std::filesystem::last_write_time(run.file("a/eval/table.json"));
    CHECK(report(text) == second);  // whatever cache
    CHECK(std::filesystem::last_write_time(run.file("a/eval/table.json")) == written);
    const auto third = report(other);
    CHECK(caches(third) == Caches{16, 16, 16});  // half the trained context
    CHECK(measured(third, "sinks") != measured(second, "sinks"));
    CHECK(measured(report("--max-tokens 200 --text " + run.file("other.txt")), "streaming") !=
          measured(third, "streaming"));
}

TEST_CASE("cli: a report that measures the cache table leaves what was measured of attention") {
    const TinyRun run;
    succeed(run.train("a"));
    std::filesystem::create_directories(run.file("a/eval"));
    succeed("eval sinks " + run.file("a") + " --text " + run.file("text.txt") + " --length 16 --json " +
            run.file("a/eval/sinks.json") + " --maps " + run.file("a/eval/maps.safetensors"));
    const std::string sinks = read_file(run.file("a/eval/sinks.json"));
    succeed("report " + run.file("a") + " -o " + run.file("report.html") + text_option(run));
    CHECK(read_file(run.file("a/eval/sinks.json")) == sinks);
    CHECK(measured(data_of(run.file("report.html"))["runs"][0], "streaming").size() == 6);
}

TEST_CASE("cli: a report takes the tables of eval table") {
    const TinyRun run;
    succeed(run.train("a"));
    succeed(run.train("b", "--set model.num_sink_tokens=1"));
    succeed("eval table " + run.file("a") + " " + run.file("b") + " --json " + run.file("table.json") + text_option(run));
    succeed("report " + run.file("a") + " " + run.file("b") + " --table " + run.file("table.json") + " -o " +
            run.file("report.html"));
    const auto data = data_of(run.file("report.html"));
    const auto table = run.json("table.json")["models"];
    for (size_t i = 0; i < 2; ++i) {
        const auto cell = measured(data["runs"][i], "streaming").at(0);
        CHECK(cell["metrics"]["perplexity"] == table[i]["results"][0]["perplexity"]);
        CHECK(cell["step"] == 12);
    }
    size_t differing = 0;
    for (const auto& row : data["config"]) differing += row["differs"] == true;
    CHECK(differing == 2);  // the number of sink tokens, and the first one's id
}

TEST_CASE("cli: a report while the run trains") {
    const TinyRun run;
    Process training(run.train("run", "--set train.steps=100000"));
    REQUIRE(training.run_until([&] { return run.metrics_lines("run") >= 20; }));
    succeed("report " + run.file("run") + " -o " + run.file("report.html"));
    const auto data = data_of(run.file("report.html"))["runs"][0];
    CHECK(data["status"]["status"] == "running");
    CHECK(data["metrics"]["lines"].get<int64_t>() >= 20);
    CHECK(data["metrics"]["ignored"] == 0);
}

TEST_CASE("cli: a report checks every run before it measures the first") {
    const TinyRun run;
    succeed(run.train("long", "--set train.steps=1"));
    succeed(run.train("short",
                      "--set train.steps=1 --set train.sequence_length=16 --set "
                      "model.max_position_embeddings=16"));
    const auto report = [&](const std::string& first, const std::string& second, const std::string& more) {
        return fmt::format("report {} {} -o {} --threads 1 --text {} {}", run.file(first), run.file(second),
                           run.file("report.html"), run.file("text.txt"), more);
    };
    refuse(report("long", "short", "--max-tokens 300 --cache 20"), {run.file("short") + ": ", "20", "16"});
    refuse(report("short", "long", "--max-tokens 20 --cache 8"), {run.file("long") + ": the text has 20 tokens"});
    for (const char* name : {"long/eval/table.json", "short/eval/table.json", "report.html"})
        CHECK_FALSE(std::filesystem::exists(run.file(name)));
    succeed(report("long", "short", "--max-tokens 50 --cache 8"));
    for (const char* name : {"long/eval/table.json", "short/eval/table.json", "report.html"})
        CHECK(std::filesystem::exists(run.file(name)));
}

TEST_CASE("cli: what cannot be reported is refused before anything is measured or written") {
    const TinyRun run;
    succeed(run.train("run"));
    const std::string out = " -o " + run.file("report.html"), good = "report " + run.file("run");
    refuse("report" + out, {"runs"});
    refuse("report " + run.file("none") + out, {"no run at", "none"});
    refuse("report " + run.folder.path() + out, {"holds no run"});
    refuse(good + " " + run.file("run/") + out, {"given twice"});
    refuse(good + " -o " + run.file("no/such/report.html") + text_option(run), {"no/such/report.html"});
    refuse(good + " --table " + run.file("none.json") + out, {"none.json"});
    refuse(good + " --table " + run.file("run/status.json") + out, {"is not a file of ballast eval"});
    refuse(good + " --cache 16" + out, {"--text"});
    refuse(good + " --text " + run.file("none.txt") + out, {"none.txt"});
    CHECK_FALSE(std::filesystem::exists(run.file("report.html")));
    CHECK(leftovers(run.folder.path()).empty());
}
