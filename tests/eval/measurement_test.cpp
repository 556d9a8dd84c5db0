// Measurements go through their files unchanged, older files are read, and of two for one thing the right one holds.
#include "eval/measurement.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "eval/figures.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/eval/made_measurements.h"

using namespace ballast;
using namespace ballast::eval;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using infer::CachePolicy;

namespace {

const StreamingResult& streaming(const Metrics& metrics) { return std::get<StreamingResult>(metrics); }

/// Equal bits, or both NaN.
bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

void check_same(const StreamingResult& a, const StreamingResult& b) {
    CHECK(same_subject(a, b));
    CHECK(a.method == b.method);
    CHECK(a.tokens == b.tokens);
    CHECK(a.of_tokens == b.of_tokens);
    CHECK(a.non_finite == b.non_finite);
    CHECK(same(a.loss, b.loss));
    CHECK(same(a.perplexity, b.perplexity));
    CHECK(a.seconds == b.seconds);
    CHECK(a.density == b.density);
    CHECK(a.kv_bytes == b.kv_bytes);
    REQUIRE(a.curve.size() == b.curve.size());
    for (size_t i = 0; i < a.curve.size(); ++i) {
        CHECK(a.curve[i].position == b.curve[i].position);
        CHECK(a.curve[i].tokens == b.curve[i].tokens);
        CHECK(same(a.curve[i].loss, b.curve[i].loss));
    }
}

void check_same(const ActivationFigures& a, const ActivationFigures& b) {
    CHECK(a.kurtosis == b.kurtosis);
    CHECK(a.largest == b.largest);
}

void check_same(const OutlierResult& a, const OutlierResult& b) {
    CHECK(std::array{a.length, a.sequences, a.tokens, a.bits} == std::array{b.length, b.sequences, b.tokens, b.bits});
    CHECK(a.loss == b.loss);
    CHECK(a.rounded_loss == b.rounded_loss);
    check_same(a.embedding, b.embedding);
    check_same(a.head, b.head);
    REQUIRE(a.layers.size() == b.layers.size());
    for (size_t l = 0; l < a.layers.size(); ++l) {
        for (size_t i = 0; i < a.layers[l].tensors.size(); ++i)
            check_same(a.layers[l].tensors[i], b.layers[l].tensors[i]);
        CHECK(a.layers[l].value_first == b.layers[l].value_first);
        CHECK(a.layers[l].value_rest == b.layers[l].value_rest);
    }
}

}  // namespace

TEST_CASE("measurements: what is written is read, finite or not, of every policy") {
    const TemporaryFolder folder;
    const double inf = std::numeric_limits<double>::infinity();
    MeasuredModel model{"runs/a", 14, {}, "bf16", "int8"};
    for (const double perplexity : {2.5, inf, std::nan("")})
        for (const StreamingPolicy& policy :
             {StreamingPolicy(CachePolicy::dense()), StreamingPolicy(CachePolicy::sink(0, 64)),
              StreamingPolicy(CachePolicy::sink(4, 60)), StreamingPolicy(Recompute{64, 2}),
              StreamingPolicy(Mixture{4, 32})})
            model.metrics.emplace_back(cell(policy, perplexity));
    model.metrics.insert(model.metrics.end(),
                         {sinks(), last_query(4096), last_query(1024), outliers(), encoder_sinks()});
    write_measurements(folder / "one.json", model);
    write_measurement_table(folder / "table.json", 64, {model, {"runs/b", -1, {cell(CachePolicy::dense())}}});
    CHECK(read_measurements(folder / "table.json").size() == 2);
    CHECK(read_measurements(folder / "table.json")[1].step == -1);
    for (const char* file : {"one.json", "table.json"}) {
        const MeasuredModel read = read_measurements(folder / file)[0];
        CHECK(read.model == "runs/a");
        CHECK(read.step == 14);
        CHECK(read.dtype == "bf16");
        CHECK(read.weights == "int8");
        REQUIRE(read.metrics.size() == model.metrics.size());
        for (size_t i = 0; i < 15; ++i) check_same(streaming(read.metrics[i]), streaming(model.metrics[i]));
        const auto& back = std::get<SinkResult>(read.metrics[15]);
        CHECK(back.heads == 3);
        CHECK(back.layers == 2);
        CHECK(back.alpha == sinks().alpha);
        CHECK(back.share == sinks().share);
        CHECK(back.share_std == sinks().share_std);
        CHECK(std::isnan(back.sink_rate[1]));
        CHECK(back.logit_first == sinks().logit_first);
        CHECK(back.logit_rest[4] == -5);
        CHECK(std::isnan(back.logit_rest[5]));
        CHECK(back.whole_sentences == 2);
        CHECK(std::get<LastQueryResult>(read.metrics[16]).length == 4096);
        const auto& query = std::get<LastQueryResult>(read.metrics[17]);
        CHECK(query.length == 1024);
        CHECK(query.sequences == 5);
        CHECK(query.layers == 2);
        CHECK(query.weight == last_query().weight);
        check_same(std::get<OutlierResult>(read.metrics[18]), outliers());
        const auto& encoder = std::get<EncoderSinkResult>(read.metrics[19]);
        CHECK(encoder.share == encoder_sinks().share);
        CHECK(std::array{encoder.length, encoder.sequences, encoder.layers, encoder.heads} ==
              std::array<int64_t, 4>{16, 3, 2, 2});
    }
}

TEST_CASE("measurements: the keys of their files") {
    const auto json = to_json(Measurement{cell(CachePolicy::sink(4, 60)), 7, ""});
    CHECK(json["kind"] == "streaming");
    CHECK(json["step"] == 7);
    std::vector<std::string> keys;
    for (const auto& [key, value] : json["metrics"].items()) keys.push_back(key);
    CHECK(keys == std::vector<std::string>{"policy", "sinks", "cache", "method", "tokens", "of_tokens", "non_finite",
                                           "loss", "perplexity", "seconds", "curve", "density", "kv_bytes"});
    CHECK(json["metrics"]["policy"] == "sink");
    CHECK(json["metrics"]["sinks"] == 4);
    CHECK(json["metrics"]["cache"] == 64);
    CHECK(to_json(Measurement{cell(CachePolicy::dense()), 7, ""})["metrics"]["cache"] == 0);
    CHECK(to_json(Measurement{sinks(), 7, ""})["kind"] == "sinks");
    const auto query = to_json(Measurement{last_query(), 7, ""});
    CHECK(query["kind"] == "last_query");
    CHECK(query["metrics"]["layers"][0]["mean"] == 0.5);
    CHECK(query["metrics"]["layers"][1]["weight"] == std::vector<double>{0.1, 0.2, 0.6});
    CHECK(to_json(Measurement{encoder_sinks(), 7, ""})["metrics"]["layers"][1]["sep"] == std::vector<double>{0.3, 0.4});
    const auto out = to_json(Measurement{outliers(), 7, ""});
    CHECK(out["kind"] == "outliers");
    CHECK(out["metrics"]["rounded_perplexity"] == "Infinity");
    CHECK(out["metrics"]["layers"][1]["down"]["largest"] == 104);
    CHECK(out["metrics"]["layers"][1]["value_norm"]["first"] == 1.25);
}

TEST_CASE("measurements: plans of one name and other densities are two cells") {
    const auto of_plan = [](const std::string& name, double density) {
        StreamingResult out = cell(Mixture{4, 32});
        out.plan = name;
        out.density = density;
        return Measurement{out, 7, ""};
    };
    std::vector<Measurement> all;
    for (const auto& measurement :
         {of_plan("plan", 0.5), of_plan("plan", 0.25), of_plan("other", 0.5), of_plan("plan", 0.5)})
        put(all, measurement);
    CHECK(all.size() == 3);
    const auto json = to_json(all[1]);
    CHECK(json["metrics"]["policy"] == "moa");
    CHECK(json["metrics"]["plan"] == "plan");
    CHECK(json["metrics"]["density"] == 0.25);
}

TEST_CASE("measurements: files of older versions are read") {
    const TemporaryFolder folder;
    write_file(folder / "old.json",
               R"({"cache": 64, "models": [{"model": "m", "results": [
                  {"policy": "sink", "sinks": 0, "cache": 64, "method": "masked", "tokens": 9, "of_tokens": 9, "loss": null,
                   "perplexity": null, "seconds": 1, "curve": [{"position": 0, "tokens": 9, "loss": null}]},
                  {"policy": "recompute", "sinks": 2, "cache": 64, "method": "recompute", "tokens": 3, "of_tokens": 9,
                   "loss": 1.5, "perplexity": 4.5, "seconds": 1, "curve": []}]}]})");
    const MeasuredModel model = read_measurements(folder / "old.json")[0];
    CHECK(model.step == -1);
    CHECK(std::isnan(streaming(model.metrics[0]).perplexity));
    CHECK(std::isnan(streaming(model.metrics[0]).curve[0].loss));
    CHECK(streaming(model.metrics[0]).policy == StreamingPolicy(CachePolicy::sink(0, 64)));
    CHECK(streaming(model.metrics[1]).policy == StreamingPolicy(Recompute{64, 2}));
    CHECK(streaming(model.metrics[1]).loss == 1.5);
}

TEST_CASE("measurements: what is none is refused by its file's name, with a reason") {
    const TemporaryFolder folder;
    const auto refusal = [&](const std::string& text) {
        write_file(folder / "bad.json", text);
        const std::string message = message_of([&] { read_measurements(folder / "bad.json"); });
        CHECK_THAT(message, ContainsSubstring(folder / "bad.json"));
        return message;
    };
    const auto with_cell = [](const std::string& policy, const std::string& sinks, const std::string& cache) {
        return R"({"model": "m", "results": [{"policy": )" + policy + R"(, "sinks": )" + sinks + R"(, "cache": )" +
               cache + R"(, "tokens": 1, "of_tokens": 1, "perplexity": 2, "curve": []}]})";
    };
    write_file(folder / "good.json", with_cell("\"sink\"", "4", "64"));
    CHECK_NOTHROW(read_measurements(folder / "good.json"));
    CHECK_THAT(refusal(with_cell("\"lru\"", "4", "64")), ContainsSubstring("lru"));
    CHECK_THAT(refusal(with_cell("\"sink\"", "64", "64")), ContainsSubstring("keeps no recent key"));
    for (const char* number : {"-1", "-9223372036854775808", "65", "1e30", "\"4\"", "null"}) {
        CAPTURE(number);
        CHECK_FALSE(refusal(with_cell("\"sink\"", number, "64")).empty());
    }
    CHECK_FALSE(refusal(with_cell("5", "4", "64")).empty());
    for (const char* text :
         {"{}", "[]", "5", "{\"models\":3}", "{\"models\":[{}]}", R"({"model":"a","results":[1]})",
          R"({"model":"a","results":{"a":1}})", R"({"model":"a"})", R"({"results":[]})",
          R"({"model":"a","sinks":{"length":4,"sequences":2,"epsilon":0.3,"sink_rate":[0.5],
                                 "layers":[{"share":[0.25, 0.1],"share_std":[0.125]}]}})",
          R"({"model":"a","sinks":{"length":4,"sequences":2,"epsilon":0.3,"sink_rate":[0.5],
                                 "layers":[{"share":[0.25],"share_std":[0.125],"alpha":[[0.5]],"logits":{"first":[1,2],"rest":[1]}}]}})",
          R"({"model":"a","last_queries":[{"length":4,"sequences":1,"layers":[{"weight":[1,2]},{"weight":[1]}]}]})",
          R"({"model":"a","last_queries":{"length":4}})", R"({"model":"a","outliers":{"length":4}})"}) {
        CAPTURE(text);
        CHECK_THAT(refusal(text), ContainsSubstring("is not a file of ballast eval"));
    }
    CHECK_THAT(refusal("{"), ContainsSubstring("not valid JSON"));
}

TEST_CASE("measurements: of two for one thing the later checkpoint's holds, or else the one put in later") {
    std::vector<Measurement> have;
    const auto put_in = [&](const StreamingResult& result, int64_t step) { put(have, {result, step, ""}); };
    const auto perplexity = [&](size_t i) { return streaming(have[i].metrics).perplexity; };
    put_in(cell(CachePolicy::sink(4, 60), 1), 10);
    put_in(cell(CachePolicy::sink(4, 60), 2), 12);
    put_in(cell(CachePolicy::sink(4, 60), 3), 10);  // read later, but measured on an older checkpoint
    REQUIRE(have.size() == 1);
    CHECK(perplexity(0) == 2);
    CHECK(have[0].step == 12);
    put_in(cell(CachePolicy::sink(4, 60), 4), 12);
    CHECK(perplexity(0) == 4);
    put_in(cell(CachePolicy::sink(4, 60), 5), -1);  // unknown
    CHECK(perplexity(0) == 4);
    StreamingResult plan = cell(CachePolicy::sink(4, 60), 6), other = plan;
    plan.plan = "a", other.plan = "b";
    for (const StreamingResult& distinct :
         {cell(CachePolicy::sink(4, 61)), cell(CachePolicy::sink(5, 59)), cell(CachePolicy::sink(0, 64)),
          cell(CachePolicy::dense()), cell(Recompute{64, 4}), cell(Recompute{64, 0}), plan, other})
        put_in(distinct, 12);
    CHECK(have.size() == 9);
    put(have, {sinks(), 12, ""});
    put(have, {sinks(), 12, ""});
    CHECK(have.size() == 10);
    for (const int64_t length : {64, 128, 64}) put(have, {last_query(length), 12, ""});
    for (int i = 0; i < 2; ++i) put(have, {outliers(), 12, ""});
    CHECK(have.size() == 13);
}

TEST_CASE("measurements: a mixture, its plan and its memory go through a file") {
    const TemporaryFolder folder;
    StreamingResult plan = cell(Mixture{4, 64});
    plan.plan = "moa-4k";
    plan.density = 0.375;
    plan.kv_bytes = 12345;
    write_measurements(folder / "plan.json", {"m", 1, {plan}});
    check_same(streaming(read_measurements(folder / "plan.json")[0].metrics[0]), plan);
}

TEST_CASE("measurements: the figures that tables over several models show") {
    const auto names = [](const Figures& figures) {
        std::vector<std::string> out;
        for (const Figure& figure : figures.values) out.push_back(figure.group + "/" + figure.name);
        return out;
    };
    const Figures one = figures(cell(CachePolicy::sink(4, 60)));
    CHECK(names(one) == std::vector<std::string>{"perplexity/4+60"});
    CHECK(one.values[0].value == 2.5);
    CHECK(one.values[0].lower_is_better);
    REQUIRE(one.notes.size() == 1);
    CHECK_THAT(one.notes[0], ContainsSubstring("scored on 8 of 9 tokens"));
    const Figures broken = figures(Measurement{cell(CachePolicy::dense(), std::nan("")), 1, ""});
    REQUIRE(broken.notes.size() == 2);
    CHECK_THAT(broken.notes[1], ContainsSubstring("dense: 3 of 8 losses are not finite"));
    const Figures attention = figures(sinks());
    CHECK(names(attention) ==
          std::vector<std::string>{"attention/position 1", "attention/positions 1-2", "attention/Sink_1 %"});
    CHECK(attention.values[0].value == Approx(0.2));  // (0.1 + 0.3) / 2
    CHECK(attention.values[1].value == Approx(0.5));
    CHECK(attention.values[2].value == 50);
    CHECK_FALSE(attention.values[0].lower_is_better);
    CHECK(figures(SinkResult{}).values.empty());
    const Figures query = figures(last_query());
    CHECK(names(query) == std::vector<std::string>{"attention/query 4096 on position 1"});
    CHECK(query.values[0].value == Approx(0.4));
    CHECK(figures(encoder_sinks()).values[1].value == Approx(0.25));
    const Figures rounding = figures(outliers());
    CHECK(names(rounding) == std::vector<std::string>{"outliers/kurtosis", "outliers/largest", "outliers/perplexity",
                                                      "outliers/perplexity, 8 bits"});
    CHECK(rounding.values[0].value == 10);  // the residual stream after layer 1
    CHECK(rounding.values[1].value == 100);
    CHECK(rounding.values[2].value == Approx(std::exp(1.5)));
}

TEST_CASE("measurements: the figures of outliers keep a NaN of any layer") {
    for (const size_t layer : {size_t{0}, size_t{1}}) {
        OutlierResult broken = outliers();
        broken.layers[layer].tensors[static_cast<size_t>(LayerTensor::residual)] = {std::nan(""), std::nan("")};
        const Figures shown = figures(broken);
        CHECK(std::isnan(shown.values[0].value));
        CHECK(std::isnan(shown.values[1].value));
    }
}
