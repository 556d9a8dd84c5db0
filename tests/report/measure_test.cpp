// Which files of a run's folder hold, and what a report would measure again.
#include "report/measure.h"

#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "eval/figures.h"
#include "report/report.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/model/bert_fixture.h"
#include "train/checkpoint.h"
#include "train/run_directory.h"

using namespace ballast;
using namespace ballast::report;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A run's folder with checkpoints of a model that was never trained.
struct Run {
    TemporaryFolder folder;
    std::string path = folder / "run";
    Context context{Device::cpu, 1};

    Run() { std::filesystem::create_directories(path + "/eval"); }

    void checkpoint(int64_t step) {
        train::CheckpointInfo info;
        auto& config = info.config.model;
        config.vocab_size = 8, config.hidden_size = 8, config.num_layers = 1, config.num_heads = 1;
        config.max_position_embeddings = 16;
        info.step = step;
        const model::Weights weights(context, config, Dtype::f32);
        const train::Optimizer optimizer(context, weights, {}, 1.0);
        const std::string file = train::RunDirectory(path).checkpoint_path(step);
        std::filesystem::create_directories(std::filesystem::path(file).parent_path());
        train::save_checkpoint(file, info, weights, optimizer);
    }
    void damage(int64_t step) const {
        const std::string file = train::RunDirectory(path).checkpoint_path(step);
        put_bytes(file, bytes_of(file).substr(0, 100));
    }
    void cell(const std::string& file, int64_t step, int64_t sinks, double perplexity, const std::string& weights = "",
              const std::string& text = "") const {
        eval::StreamingResult result;
        result.policy = infer::CachePolicy::sink(sinks, 64 - sinks);
        result.perplexity = perplexity;
        eval::write_measurement_table(path + "/eval/" + file, 64, {{path, step, {result}, "f32", weights, text}});
    }
    void sinks(int64_t step, const std::string& text = "") const {
        eval::SinkResult result;
        result.length = 4, result.sequences = 1;
        eval::write_measurements(path + "/" + kSinksFile, {path, step, {result}, "", "", text});
        write_file(path + "/" + kMapsFile, "");
    }
    Evaluations read(const std::vector<std::string>& tables = {}) const { return read_evaluations(path, tables); }
    Missing missing(const MeasureOptions& wanted = {}) const { return missing_evaluations(path, read(), wanted); }
};

double perplexity(const eval::Measurement& measurement) {
    return std::get<eval::StreamingResult>(measurement.metrics).perplexity;
}

}  // namespace

TEST_CASE("evaluations: each cell keeps the step and the file it was measured at") {
    const Run run;
    run.cell("a.json", 10, 1, 3.5);
    run.cell("table.json", 12, 4, 2.5);
    const auto have = run.read().measurements;
    REQUIRE(have.size() == 2);
    CHECK(have[0].step == 10);
    CHECK(have[1].step == 12);
    CHECK_THAT(have[0].file, ContainsSubstring("a.json"));
}

TEST_CASE("evaluations: an older file never wins over a newer one") {
    const Run run;
    run.cell("a.json", 12, 4, 2.5);
    run.cell("b.json", 10, 4, 3.5);  // the later name, but the older checkpoint
    REQUIRE(run.read().measurements.size() == 1);
    CHECK(perplexity(run.read().measurements[0]) == 2.5);
    run.cell("b.json", 12, 4, 3.5);  // of one checkpoint: the later name
    CHECK(perplexity(run.read().measurements[0]) == 3.5);
    run.cell("../named.json", 12, 4, 4.5);  // and a named table after both
    CHECK(perplexity(run.read({run.path + "/named.json"}).measurements[0]) == 4.5);
    run.cell("../named.json", 11, 4, 4.5);
    CHECK(perplexity(run.read({run.path + "/named.json"}).measurements[0]) == 3.5);
}

TEST_CASE("evaluations: a model in 8 bits is measured beside itself, not in its place") {
    Run run;
    run.checkpoint(3);
    run.cell("a.json", 3, 4, 2.5);
    run.cell("b.json", 3, 4, 3.5, "int8");
    const auto have = run.read().measurements;
    REQUIRE(have.size() == 2);
    CHECK(perplexity(have[0]) == 2.5);
    CHECK(perplexity(have[1]) == 3.5);
    CHECK(eval::figures(have[0]).values[0].name == "4+60");
    CHECK(eval::figures(have[1]).values[0].name == "4+60, int8");
    CHECK_FALSE(eval::to_json(have[0]).contains("weights"));
    CHECK(eval::to_json(have[1])["weights"] == "int8");
    CHECK_FALSE(run.missing().cells);
    std::filesystem::remove(run.path + "/eval/a.json");
    CHECK(run.missing().cells);  // in 8 bits alone
}

TEST_CASE("missing evaluations: without a checkpoint there is nothing to measure") {
    const Run run;
    CHECK_FALSE(run.missing().any());
}

TEST_CASE("missing evaluations: a model's folder lacks what was never measured") {
    const TemporaryFolder root;
    const std::string folder = root / "model";
    std::filesystem::create_directories(folder + "/eval");
    CHECK_FALSE(is_model_folder(folder));
    write_file(folder + "/config.json", "{}");
    CHECK(is_model_folder(folder));
    const auto missing = [&] { return missing_evaluations(folder, read_evaluations(folder, {})); };
    CHECK(missing().cells);
    CHECK(missing().attention);
    eval::StreamingResult cell;
    cell.policy = infer::CachePolicy::sink(4, 60);
    eval::write_measurements(folder + "/eval/any.json", {folder, -1, {cell}});
    CHECK_FALSE(missing().cells);
    CHECK(missing().attention);
    eval::SinkResult sinks;
    sinks.length = 4, sinks.sequences = 1;
    eval::write_measurements(folder + "/" + kSinksFile, {folder, -1, {sinks}});
    CHECK(missing().attention);  // without maps
    write_file(folder + "/" + kMapsFile, "");
    CHECK_FALSE(missing().any());
    write_file(folder + "/status.json", "{}");
    CHECK_FALSE(is_model_folder(folder));
}

TEST_CASE("missing evaluations: what is older than the newest valid checkpoint") {
    Run run;
    run.checkpoint(3);
    CHECK(run.missing().cells);
    CHECK(run.missing().attention);
    run.cell("table.json", 3, 4, 2.5);
    CHECK_FALSE(run.missing().cells);
    CHECK(run.missing().attention);
    run.sinks(3);
    CHECK_FALSE(run.missing().any());
    std::filesystem::remove(run.path + "/" + kMapsFile);
    CHECK(run.missing().attention);
    run.sinks(3);
    run.checkpoint(5);
    CHECK(run.missing().cells);
    CHECK(run.missing().attention);
    run.damage(5);  // nothing can be measured on it, however often a report is made
    CHECK_FALSE(run.missing().any());
    run.checkpoint(4);
    CHECK(run.missing().cells);
    run.cell("table.json", 4, 4, 2.5);
    CHECK_FALSE(run.missing().cells);
    CHECK(run.missing().attention);
}

TEST_CASE(
    "missing evaluations: a stale table is measured again beside a user's newer cell, a user's stale cell is not") {
    Run run;
    run.checkpoint(5);
    run.sinks(5);
    run.cell("table.json", 3, 4, 2.5);
    run.cell("mine.json", 5, 1, 2.5);
    CHECK(run.missing().cells);
    run.cell("table.json", 5, 4, 2.5);
    run.cell("mine.json", 3, 1, 2.5);
    CHECK_FALSE(run.missing().cells);
    std::filesystem::remove(run.path + "/eval/table.json");
    CHECK(run.missing().cells);
    run.cell("mine.json", 5, 1, 2.5);  // the user's own table will do
    CHECK_FALSE(run.missing().cells);
}

TEST_CASE("missing evaluations: what is there of another cache or text than is asked for") {
    Run run;
    run.checkpoint(3);
    run.cell("table.json", 3, 4, 2.5, "", "a");  // of 64 positions
    run.sinks(3, "a");
    CHECK_FALSE(run.missing().any());
    CHECK_FALSE(run.missing({.cache = 64, .text = "a"}).any());
    CHECK(run.missing({.cache = 32}).cells);
    CHECK_FALSE(run.missing({.cache = 32}).attention);  // which has no cache
    CHECK(run.missing({.text = "b"}).cells);
    CHECK(run.missing({.text = "b"}).attention);
    run.cell("table.json", 3, 4, 2.5);  // files that do not say their text
    run.sinks(3);
    CHECK_FALSE(run.missing({.text = "b"}).any());
    CHECK(run.missing({.cache = 63}).cells);
}

TEST_CASE("a text's name says where it lies and how much of it counts") {
    const TemporaryFolder folder;
    write_file(folder / "a.txt", "a");
    const std::string whole = text_label({folder / "a.txt"}, 0);
    CHECK_THAT(whole, Catch::Matchers::EndsWith("a.txt"));
    CHECK(text_label({folder / "./none/../a.txt"}, 0) == whole);
    CHECK(text_label({folder / "b.txt"}, 0) != whole);
    CHECK(text_label({folder / "a.txt"}, 10) != whole);
    CHECK(text_label({folder / "a.txt"}, 10) != text_label({folder / "a.txt"}, 11));
}

TEST_CASE("measuring refuses a folder it cannot write to before it loads anything") {
    Run run;
    std::filesystem::remove_all(run.path + "/eval");
    put_bytes(run.path + "/eval", "in the way");
    const auto never = [](const train::ModelSource&) -> std::vector<uint32_t> { throw InternalError("text was read"); };
    CHECK_THAT(message_of([&] {
                   measure(run.context, run.path, {true, true}, {}, {never, {}});
               }),
               ContainsSubstring("cannot make the folder") && ContainsSubstring("/eval"));
}

TEST_CASE("measure: of an encoder's folder attention, and nothing that it has not") {
    const TemporaryFolder folder;
    const std::string bert = bert_folder(folder, random_bert());
    CHECK_FALSE(missing_evaluations(bert, read_evaluations(bert, {})).cells);
    CHECK(missing_evaluations(bert, read_evaluations(bert, {})).attention);

    Context context(Device::cpu, 1);
    const auto no_tokens = [](const train::ModelSource&) -> std::vector<uint32_t> {
        throw std::logic_error("an encoder has no tokens to predict");
    };
    int64_t asked = 0;
    const auto sequences = [&](const train::ModelSource& source, int64_t length, int64_t) {
        CHECK(source.source == bert);
        asked = length;
        return std::vector<std::vector<int32_t>>{{1, 3, 4, 2}, {1, 5, 6, 2}};
    };
    measure(context, bert, {false, true}, {}, {no_tokens, sequences});
    CHECK(asked == 6);  // positions that the model has
    const Evaluations have = read_evaluations(bert, {});
    CHECK_FALSE(missing_evaluations(bert, have).any());
    const auto results = measurements_of_kind<eval::EncoderSinkResult>(have.measurements);
    REQUIRE(results.size() == 1);
    CHECK(results[0]->sequences == 2);

    const std::string page = render(read_runs({bert}, {}));
    CHECK_THAT(page, ContainsSubstring(R"("is_encoder":true)") && ContainsSubstring(R"("causal":false)") &&
                         ContainsSubstring("encoder_sinks"));
}
