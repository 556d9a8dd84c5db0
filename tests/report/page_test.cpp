// Names, configurations, escaping, maps, and the page as a whole.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/config_toml.h"
#include "base/safetensors.h"
#include "report/attention_maps.h"
#include "report/config_differences.h"
#include "report/page.h"
#include "report/report.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "train/run_config.h"

using namespace ballast;
using namespace ballast::report;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A folder with as little of a run as makes one.
std::string make_run(const TemporaryFolder& folder, const std::string& name, const std::string& metrics = "") {
    const std::string run = folder / name;
    std::filesystem::create_directories(run + "/eval");
    write_file(run + "/metrics.jsonl", metrics);
    return run;
}

/// The data in a page, as its script reads them.
nlohmann::json data_of(const std::string& page) {
    const std::string open = "<script type=\"application/json\" id=\"data\">";
    const size_t begin = page.find(open) + open.size();
    return nlohmann::json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

const char* const kSinks = R"({"length":4,"sequences":2,"epsilon":0.3,"sink_rate":[0.5],)"
                           R"("layers":[{"share":[0.25],"share_std":[0.125],"alpha":[[0.25]]}]})";
const char* const kCells =
    R"([{"policy":"sink","sinks":1,"cache":64,"method":"masked","tokens":9,"of_tokens":9,"loss":1,)"
    R"("perplexity":2.5,"seconds":1,"curve":[{"position":0,"tokens":9,"loss":1.0}]}])";

}  // namespace

TEST_CASE("folders that are no runs are refused by name") {
    const TemporaryFolder folder;
    const std::string run = make_run(folder, "run");
    std::filesystem::create_directories(folder / "empty");
    const auto refusal = [](const std::vector<std::string>& runs) { return message_of([&] { read_runs(runs, {}); }); };
    CHECK_THAT(refusal({folder / "none"}), ContainsSubstring("no run at"));
    CHECK_THAT(refusal({run + "/metrics.jsonl"}), ContainsSubstring("no run at"));
    CHECK_THAT(refusal({folder / "empty"}), ContainsSubstring("holds no run"));
    CHECK_THAT(refusal({run, run + "/../run"}), ContainsSubstring("given twice"));
}

TEST_CASE("all layers' parameters of a kind are one row, whatever a family calls its layers") {
    const std::string sizes = R"("vocab_size":100,"hidden_size":16,"d_model":16,"num_hidden_layers":12,"n_layers":12,)"
                              R"("num_attention_heads":2,"n_heads":2,"intermediate_size":64,"ffn_hidden_size":64,)"
                              R"("max_position_embeddings":32)";
    for (const auto& [type, layer] :
         std::vector<std::pair<std::string, std::string>>{{"gpt_neox", "gpt_neox.layers.*."},
                                                          {"llama", "model.layers.*."},
                                                          {"mpt", "transformer.blocks.*."},
                                                          {"falcon", "transformer.h.*."}}) {
        CAPTURE(type);
        const TemporaryFolder folder;
        write_file(folder / "config.json", "{\"model_type\":\"" + type + "\"," + sizes + "}");
        const auto parameters = data_of(render(read_runs({folder.path()}, {})))["runs"][0]["parameters"];
        int64_t of_layers = 0;
        for (const auto& row : parameters["rows"]) {
            const bool is_of_layer = row["name"].get<std::string>().starts_with(layer);
            CHECK(row["tensors"] == (is_of_layer ? 12 : 1));
            of_layers += is_of_layer;
        }
        CHECK(of_layers >= 6);
    }
}

TEST_CASE("a model's folder shows its own configuration and parameters, not a run's defaults") {
    const TemporaryFolder folder;
    write_file(folder / "config.json", R"({"model_type":"gpt_neox","vocab_size":100,"hidden_size":8,)"
                                       R"("num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":32,)"
                                       R"("max_position_embeddings":16,"rotary_pct":0.5,"hidden_act":"gelu"})");
    const auto runs = read_runs({folder / "."}, {});
    CHECK(runs[0].config.size() > 20);
    for (const auto& [field, value] : runs[0].config) {
        CHECK(field.starts_with("model."));
        if (field == "model.hidden_size") CHECK(value == "8");
    }
    const auto run = data_of(render(runs))["runs"][0];
    CHECK(run["context"] == 16);
    // Embedding and head, four linear layers with biases, three norms.
    CHECK(run["parameters"]["total"] == 2 * 100 * 8 + (24 * 9 + 8 * 9 + 32 * 9 + 8 * 33) + 3 * 2 * 8);
    CHECK_FALSE(run.contains("steps"));

    write_file(folder / "config.json", R"({"model_type":"something else"})");
    CHECK(read_runs({folder / "."}, {})[0].config.empty());
}

TEST_CASE("configurations are compared field by field") {
    train::RunConfig one, two;
    two.model.num_sink_tokens = 1;
    two.sample.prompt = "a = b # c";
    const auto rows =
        compare_configs({config_fields(to_toml(one)), config_fields(to_toml(two) + "[new]\nfield = 1\n")});
    std::vector<std::string> differing;
    for (const ConfigRow& row : rows)
        if (row.differs) differing.push_back(row.field);
    CHECK(differing == std::vector<std::string>{"model.num_sink_tokens", "sample.prompt", "new.field"});
    CHECK(rows.size() == config_fields(to_toml(one)).size() + 1);
    CHECK_FALSE(rows.back().values[0].has_value());
    CHECK(rows.back().values[1] == "1");
}

TEST_CASE("a field that only a later run has joins its section") {
    const auto rows =
        compare_configs({config_fields("[a]\nx = 1\n[b]\ny = 2"), config_fields("[a]\nz = 3\n# w = 4\nnothing\n")});
    REQUIRE(rows.size() == 3);
    CHECK(rows[0].field == "a.x");
    CHECK(rows[1].field == "a.z");
    CHECK(rows[2].field == "b.y");
}

TEST_CASE("text cannot leave its place in the page") {
    CHECK(html_escaped("<a href='x'>\"&\"</a>") == "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
    const std::string hostile = "</script><script>alert(1)</script><!-- & \xff";
    const std::string json = script_json({{"text", hostile}});
    for (const char* part : {"<", ">", "&", "\xff"}) CHECK(json.find(part) == std::string::npos);
    CHECK(nlohmann::json::parse(json)["text"].get<std::string>().starts_with(
        "</script><script>alert(1)</script><!-- & "));
}

TEST_CASE("samples are cut at a character's end") {
    CHECK(shortened("short", 10) == "short");
    CHECK(shortened("aé", 2) == "a…");
    CHECK(shortened("aéb", 3) == "aé…");
}

TEST_CASE("maps become small and stay true") {
    AttentionMaps maps{1, 1, 4, {1, 0, 0, 0, 0.5f, 0.5f, 0, 0, 0.2f, 0.2f, 0.6f, 0, 0.25f, 0.25f, 0.25f, 0.25f}};
    const auto whole = pack_maps(maps, 4);
    REQUIRE(whole.size() == 10);
    CHECK(whole[0] == 255);
    CHECK(whole[1] == 180);  // sqrt(0.5)
    const auto half = pack_maps(maps, 2);
    REQUIRE(half.size() == 3);
    const auto weight = [](uint8_t byte) { return byte / 255.0 * byte / 255.0; };
    CHECK(weight(half[0]) == Approx(1).epsilon(0.01));
    CHECK(weight(half[1]) == Approx(0.45).epsilon(0.01));
    CHECK(weight(half[1]) + weight(half[2]) == Approx(1).epsilon(0.01));  // a row's sum is kept
    maps.weights[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK(pack_maps(maps, 4)[0] == 0);
    CHECK(map_side(48, 2'400'000) == 64);
    const int64_t side = map_side(4 * 24 * 16, 2'400'000);
    CHECK(side < 64);
    CHECK(4 * 24 * 16 * side * (side + 1) / 2 <= 2'400'000);
    CHECK(base64({}) == "");
    CHECK(base64({'M'}) == "TQ==");
    CHECK(base64({'M', 'a'}) == "TWE=");
    CHECK(base64({'M', 'a', 'n', 0xff}) == "TWFu/w==");
}

TEST_CASE("maps of an encoder are kept whole") {
    AttentionMaps maps{1, 1, 2, {0.25f, 0.75f, 0.5f, 0.5f}, {1, -3, 2, 5}, false};
    CHECK(pack_maps(maps, 2) == std::vector<uint8_t>{128, 221, 180, 180});  // 255 sqrt(weight)
    CHECK(pack_maps(maps, 1) == std::vector<uint8_t>{255});
    const PackedLogits whole = pack_logits(maps, 2);
    CHECK(whole.cells == std::vector<uint8_t>{128, 0, 159, 255});  // (x + 3) / 8
    CHECK(pack_logits(maps, 1).low[0] == 1.25);

    const TemporaryFolder folder;
    const auto causal = [&](std::vector<float> weights) {
        SafetensorsWriter writer(folder / "maps.safetensors");
        writer.add("attention", Dtype::f32, std::vector<int64_t>{1, 2, 2, 2}, weights.data());
        writer.commit();
        return read_attention_maps(folder / "maps.safetensors").causal;
    };
    CHECK(causal({1, 0, 0.5f, 0.5f, 1, 0, 0.25f, 0.75f}));
    CHECK_FALSE(causal({1, 0, 0.5f, 0.5f, 0.5f, 0.5f, 0.25f, 0.75f}));
}

TEST_CASE("maps of logits become small and stay true, what a query cannot see left out") {
    // Two heads of 4 positions; 99 is what no query sees.
    AttentionMaps maps{1, 2, 4, {}, {}};
    maps.logits = {5, 99, 99, 99, 4, -1, 99, 99, 3, -2, 0, 99, 2, -5, -3, 1,  //
                   7, 99, 99, 99, 7, 7,  99, 99, 7, 7,  7, 99, 7, 7,  7,  7};
    const PackedLogits whole = pack_logits(maps, 4);
    REQUIRE(whole.cells.size() == 20);
    CHECK(whole.low == std::vector<double>{-5, 7});
    CHECK(whole.high == std::vector<double>{5, 7});
    CHECK(whole.cells[0] == 255);
    CHECK(whole.cells[7] == 0);    // query 4 on key 2: -5
    CHECK(whole.cells[2] == 102);  // query 2 on key 2: (-1 + 5) / 10
    CHECK(whole.cells[10] == 0);   // a map of equal logits
    const PackedLogits half = pack_logits(maps, 2);
    REQUIRE(half.cells.size() == 6);
    CHECK(half.high[0] == Approx((5 + 4 - 1) / 3.0));  // queries 1 and 2 on keys 1 and 2
    CHECK(half.low[0] == Approx((0 - 3 + 1) / 3.0));   // queries 3 and 4 on keys 3 and 4
    CHECK(half.cells[1] == std::lround(255 * ((3 - 2 + 2 - 5) / 4.0 - half.low[0]) / (half.high[0] - half.low[0])));
    maps.logits[0] = std::numeric_limits<float>::infinity();
    CHECK(std::isnan(pack_logits(maps, 4).low[0]));
    CHECK(pack_logits(maps, 4).low[1] == 7);
}

TEST_CASE("maps of a file: weights, and logits where there are any, of one shape") {
    const TemporaryFolder folder;
    const std::vector<float> values(2 * 3 * 3, 0.5f);
    const auto write = [&](std::vector<int64_t> logits) {
        SafetensorsWriter writer(folder / "maps.safetensors");
        writer.add("attention", Dtype::f32, std::vector<int64_t>{1, 2, 3, 3}, values.data());
        if (!logits.empty()) writer.add("attention_logits", Dtype::f32, logits, values.data());
        writer.commit();
    };
    write({});
    CHECK(read_attention_maps(folder / "maps.safetensors").logits.empty());
    write({1, 2, 3, 3});
    CHECK(read_attention_maps(folder / "maps.safetensors").logits == values);
    write({2, 1, 3, 3});
    CHECK_THROWS_AS(read_attention_maps(folder / "maps.safetensors"), UserError);
}

TEST_CASE("a page of whatever lies in a run's folder") {
    const TemporaryFolder folder;
    const std::string run = make_run(folder, "<b>run", "{\"step\":1,\"loss\":7.5,\"tokens\":10}\n{\"step\":2,\"lo");
    write_file(run + "/samples.jsonl",
               "{\"step\":1,\"prompt\":\"p\",\"text\":\"</script>\"}\nnot json\n{\"text\":5}\n");
    write_file(run + "/config.toml", "[model]\nhidden_size = \"many\"\n");
    write_file(run + "/status.json", "[]");
    write_file(run + "/environment.json", "{");
    write_file(run + "/eval/b.json", std::string("{\"model\":\"m\",\"step\":3,\"sinks\":") + kSinks + "}");
    write_file(run + "/eval/a.json", "{\"model\":\"m\",\"results\":[{\"policy\":5}]}");
    write_file(run + "/eval/c.json", "{\"loss\":");
    write_file(run + "/eval/maps.safetensors", "nonsense");
    const std::string page = render(read_runs({run}, {}));
    const auto data = data_of(page)["runs"][0];
    CHECK_THAT(page, ContainsSubstring("<title>&lt;b&gt;run: Ballast report</title>"));
    CHECK(data["label"] == "<b>run");
    CHECK(data["metrics"]["lines"] == 1);
    CHECK(data["samples"]["list"][0]["text"] == "</script>");
    CHECK(data["samples"]["total"] == 1);
    REQUIRE(data["measurements"].size() == 1);
    CHECK(data["measurements"][0]["kind"] == "sinks");
    CHECK(data["measurements"][0]["step"] == 3);
    CHECK(data["measurements"][0]["metrics"]["sink_rate"][0] == 0.5);
    CHECK(data["notes"].size() == 3);  // a.json, c.json, the maps
    CHECK_FALSE(data.contains("parameters"));
    for (const char* outside : {"src=", "href=", "@import", "fetch("}) CHECK(page.find(outside) == std::string::npos);
}

TEST_CASE("a page draws the plans it is given") {
    const TemporaryFolder folder;
    const std::string run = make_run(folder, "run"), plan = folder / "half.json";
    write_file(plan, R"({"alphas":[[0,-64]],"betas":[[0.5,1]],"figures":[{"length":512,"density":0.5}]})");
    CHECK(data_of(render(read_runs({run}, {})))["plans"].empty());
    const auto plans = data_of(render(read_runs({run}, {}), {plan}))["plans"];
    REQUIRE(plans.size() == 1);
    CHECK(plans[0]["name"] == "half.json");
    CHECK(plans[0]["length"] == 512);
    CHECK(plans[0]["svg"].get<std::string>().starts_with("PHN2Zy"));               // "<svg"
    CHECK_THAT(plans[0]["table"].get<std::string>(), ContainsSubstring("352.0"));  // (256 + 448) / 2
    write_file(plan, "{}");
    CHECK_THAT(message_of([&] { render(read_runs({run}, {}), {plan}); }), ContainsSubstring("half.json"));
}

TEST_CASE("measurements that are not finite are read, as older versions and this one write them") {
    const TemporaryFolder folder;
    const std::string run = make_run(folder, "run");
    for (const std::string value : {"\"NaN\"", "null"}) {
        CAPTURE(value);
        write_file(run + "/eval/table.json",
                   R"({"model":"m","step":3,"results":[{"policy":"dense","sinks":0,"cache":0,"tokens":9,"of_tokens":9,)"
                   R"("perplexity":)" +
                       value + R"(,"curve":[{"position":0,"tokens":9,"loss":)" + value +
                       R"(}]}],)"
                       R"("sinks":{"length":4,"sequences":2,"epsilon":0.3,"sink_rate":[)" +
                       value + R"(],"layers":[{"share":[)" + value + R"(],"share_std":[)" + value + "]}]}}");
        const auto data = data_of(render(read_runs({run}, {})))["runs"][0];
        CHECK(data["notes"].empty());
        REQUIRE(data["measurements"].size() == 2);
        CHECK(data["measurements"][0]["metrics"]["perplexity"] == "NaN");
        CHECK(data["measurements"][1]["metrics"]["sink_rate"][0] == "NaN");
    }
}

TEST_CASE("a table that was named must be one, and gives each run its rows") {
    const TemporaryFolder folder;
    const std::string a = make_run(folder, "a"), b = make_run(folder, "b"), table = folder / "table.json";
    const auto model = [](const std::string& path, const std::string& perplexity) {
        std::string cells = kCells;
        cells.replace(cells.find("2.5"), 3, perplexity);
        return "{\"model\":\"" + path + "\",\"results\":" + cells + ",\"sinks\":" + kSinks + "}";
    };
    write_file(table, "{\"cache\":64,\"models\":[" + model(a, "2.5") + "," + model("elsewhere/b", "3.5") + "]}");
    const auto runs = read_runs({a, b}, {table});
    for (size_t i = 0; i < 2; ++i) {
        const auto& measured = runs[i].evaluations.measurements;
        REQUIRE(measured.size() == 2);
        CHECK(std::get<eval::StreamingResult>(measured[0].metrics).perplexity == (i == 0 ? 2.5 : 3.5));
        CHECK(std::get<eval::SinkResult>(measured[1].metrics).length == 4);
    }
    for (const char* text :
         {"{}", "[]", "5", "{\"models\":3}", "{\"models\":[{}]}", "{\"models\":[{\"model\":\"a\",\"results\":[1]}]}"}) {
        CAPTURE(text);
        write_file(table, text);
        CHECK_THAT(message_of([&] { read_runs({a}, {table}); }), ContainsSubstring("is not a file of ballast eval"));
    }
    write_file(table, "{");
    CHECK_THAT(message_of([&] { read_runs({a}, {table}); }), ContainsSubstring("not valid JSON"));
    CHECK_THAT(message_of([&] { read_runs({a}, {folder / "none.json"}); }), ContainsSubstring("No such file"));
}

TEST_CASE("maps go through the file of eval sinks, of any other a note is made") {
    const TemporaryFolder folder;
    const std::string run = make_run(folder, "run");
    const auto write = [&](std::vector<int64_t> shape, const std::string& name = "attention", float first = 0.01f) {
        std::vector<float> weights(2 * 3 * 100 * 100, 0.01f);
        weights[0] = first;
        SafetensorsWriter writer(run + "/eval/maps.safetensors");
        writer.add(name, Dtype::f32, shape, weights.data());
        writer.commit();
        return data_of(render(read_runs({run}, {})))["runs"][0];
    };
    const auto good = write({2, 3, 100, 100});
    CHECK(good["maps"]["side"] == 64);
    CHECK(good["maps"]["length"] == 100);
    CHECK(good["maps"]["data"].get<std::string>().size() == (6 * 64 * 64 + 2) / 3 * 4);
    CHECK(good["notes"].empty());
    const auto broken = write({2, 3, 100, 100}, "attention", std::numeric_limits<float>::quiet_NaN());
    CHECK(broken["maps"]["side"] == 64);
    CHECK_THAT(broken["notes"][0].get<std::string>(), ContainsSubstring("1 of 60000 attention weights are not finite"));
    for (const auto& bad :
         {write({2, 3, 100, 99}), write({6, 100, 100}), write({1, 1, 1, 1}, "other"), write({0, 3, 4, 4})}) {
        CHECK_FALSE(bad.contains("maps"));
        CHECK(bad["notes"].size() == 1);
    }
}
