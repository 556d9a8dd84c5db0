#include "model/parameter_table.h"
#include "model/sink_tokens.h"
#include "tests/catch.h"
#include "tests/kernels/test_device.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using ballast::test::test_device;
using namespace ballast::model;

namespace {

ModelConfig pythia(int64_t layers, int64_t hidden, int64_t heads) {
    ModelConfig config;
    config.num_layers = layers;
    config.hidden_size = hidden;
    config.num_heads = heads;
    return config;
}

}  // namespace

TEST_CASE("parameter counts are Pythia's") {
    CHECK(ParameterTable(pythia(6, 128, 4)).num_parameters() == 14067712);
    CHECK(ParameterTable(pythia(6, 256, 8)).num_parameters() == 30494720);
    CHECK(ParameterTable(pythia(6, 512, 8)).num_parameters() == 70426624);
    CHECK(ParameterTable(pythia(12, 768, 12)).num_parameters() == 162322944);
    CHECK(ParameterTable(pythia(24, 1024, 16)).num_parameters() == 405334016);
    CHECK(ParameterTable(pythia(16, 2048, 8)).num_parameters() == 1011781632);
}

TEST_CASE("decay group and initial deviations of Pythia-160M") {
    const ParameterTable table(pythia(12, 768, 12));
    int64_t decayed = 0, kept = 0;
    for (const auto& row : table.rows()) (row.decay ? decayed : kept) += row.count;
    CHECK(decayed == 162201600);
    CHECK(kept == 121344);
    CHECK(table.rows().size() == 148);
    CHECK(table.init_std(table.row(Role::embed_in)) == Approx(0.022822).epsilon(1e-4));
    CHECK(table.init_std(table.row(Role::mlp_down_weight, 3)) == Approx(0.006014).epsilon(1e-4));
    CHECK(table.find("gpt_neox.layers.11.mlp.dense_4h_to_h.weight") != nullptr);
    CHECK(flops_per_token(pythia(12, 768, 12), table.num_parameters(), 2048).palm == Approx(9.686e8).epsilon(1e-3));
}

TEST_CASE("sink logits are one undecayed row a layer, and only where they are learned") {
    auto config = pythia(2, 64, 4);
    CHECK_FALSE(ParameterTable(config).has(Role::attention_sinks, 0));
    config.normaliser = Normaliser::off_by_one;
    CHECK_FALSE(ParameterTable(config).has(Role::attention_sinks, 0));
    config.normaliser = Normaliser::sink_logit;
    const ParameterTable table(config);
    const auto& row = table.row(Role::attention_sinks, 1);
    CHECK(row.name == "gpt_neox.layers.1.attention.sinks");
    CHECK(row.shape == std::vector<int64_t>{4});
    CHECK_FALSE(row.decay);
}

TEST_CASE("places do not overlap and start on 64-byte boundaries") {
    const ParameterTable table(test::tiny_config());
    int64_t end = 0;
    for (const auto& row : table.rows()) {
        CHECK(row.offset % 16 == 0);
        CHECK(row.offset >= end);
        end = row.offset + row.count;
    }
    CHECK(table.flat_size() >= end);
}

TEST_CASE("variants share every common weight, and seeds differ") {
    Context context(test_device(), 2);
    auto plain = test::tiny_config();
    auto sinks = plain;
    sinks.normaliser = Normaliser::sink_logit;
    sinks.vocab_size = 40;
    Weights a(context, plain, Dtype::f32), b(context, sinks, Dtype::f32), c(context, plain, Dtype::f32);
    a.initialise(context, 1234);
    b.initialise(context, 1234);
    c.initialise(context, 1235);
    double sum = 0, squares = 0;
    int64_t count = 0;
    for (const auto& row : a.table().rows()) {
        const auto x = test::to_host(context, a.master(row));
        const auto y = test::to_host(context, b.master(*b.table().find(row.name)));
        CHECK(std::equal(x.begin(), x.end(), y.begin()));  // a larger vocabulary only appends rows
        if (row.init == Init::small || row.init == Init::wang) {
            CHECK(x != test::to_host(context, c.master(row)));
            for (double v : x) {
                sum += v / a.table().init_std(row);
                squares += v * v / (a.table().init_std(row) * a.table().init_std(row));
                ++count;
            }
        }
    }
    CHECK(std::abs(sum / static_cast<double>(count)) < 0.05);
    CHECK(std::abs(squares / static_cast<double>(count) - 1) < 0.05);
}

TEST_CASE("samples with and without sink tokens") {
    auto config = test::tiny_config();
    const std::vector<int32_t> window{1, 2, 3, 4, 5, 6};
    std::vector<int32_t> in(5), out(5);
    fill_sample(window, config, in, out);
    CHECK(in == std::vector<int32_t>{1, 2, 3, 4, 5});
    CHECK(out == std::vector<int32_t>{2, 3, 4, 5, 6});
    CHECK(targets_per_sample(config, 5) == 5);
    config.num_sink_tokens = 1;
    config.sink_token_id = 20;
    fill_sample(window, config, in, out);
    CHECK(in == std::vector<int32_t>{20, 1, 2, 3, 4});
    CHECK(out == std::vector<int32_t>{1, 2, 3, 4, 5});
    CHECK(targets_per_sample(config, 5) == 5);
    config.num_sink_tokens = 3;
    fill_sample(window, config, in, out);
    CHECK(in == std::vector<int32_t>{20, 21, 22, 1, 2});
    CHECK(out == std::vector<int32_t>{-1, -1, 1, 2, 3});
    CHECK(targets_per_sample(config, 5) == 3);
}

TEST_CASE("ALiBi slopes for powers of two and other head counts") {
    CHECK(PositionTables::alibi_slope(0, 8) == 0.5);
    CHECK(PositionTables::alibi_slope(7, 8) == Approx(1.0 / 256));
    CHECK(PositionTables::alibi_slope(8, 12) == Approx(std::exp2(-0.5)));  // every second slope of 16 heads
    CHECK(PositionTables::alibi_slope(11, 12) == Approx(std::exp2(-3.5)));
}

TEST_CASE("configurations that make no sense are the user's errors") {
    const auto refused = [](auto&& change) {
        auto config = test::tiny_config();
        change(config);
        CHECK_THROWS_AS(config.validate(), UserError);
    };
    refused([](ModelConfig& c) { c.num_heads = 3; });
    refused([](ModelConfig& c) { c.hidden_size = 1024; });
    refused([](ModelConfig& c) { c.rotary_pct = 0.4; });
    refused([](ModelConfig& c) { c.num_sink_tokens = 64; });
    refused([](ModelConfig& c) { c.num_sink_tokens = 2, c.sink_token_id = 22; });
}
