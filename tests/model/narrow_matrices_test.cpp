// Weights for reading whose matrices are held in bf16 or 8 bits.
#include <limits>

#include "tests/catch.h"
#include "tests/model/family_configs.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr auto kReading = model::WeightUse::inference;

/// Losses of a forward pass over fixed ids.
std::vector<double> losses_of(Context& context, model::Transformer& model) {
    const int64_t B = 2, T = 9, V = model.config().vocab_size;
    model::Pass pass(context, model, model::PassKind::forward, B, T);
    pass.set_tokens(random_ids(3, B * T, V), random_ids(4, B * T, V));
    pass.forward();
    return to_host(context, pass.losses());
}

/// Logits of `ids`, sequences of `length`, all products by row.
std::vector<double> logits_by_row(Context& context, model::Transformer& model, const std::vector<int32_t>& ids,
                                  int64_t length) {
    const auto rows = static_cast<int64_t>(ids.size()), batch = rows / length;
    const auto build = [&](Arena& arena) {
        model::Activations a(arena, model.config(), model.dtype(), model::PassKind::forward, batch, length);
        return std::pair(a, arena.tensor(accumulation_dtype(model.dtype()), {rows, model.config().vocab_size}));
    };
    Arena plan;
    build(plan);
    const DeviceBuffer memory = context.allocate(plan.peak_bytes());
    Arena arena(memory.data(), memory.bytes());
    auto [a, logits] = build(arena);
    a.temporaries.products = ops::Products::by_row;
    context.copy_from_host(a.ids, ids.data());
    model.positions().ensure(context, length);
    const auto attend = [&](int64_t l, const Tensor& qkv, const model::LayerActivations& layer) {
        ops::qkv_split_rope_forward(context, layer.q, layer.k, layer.v, qkv, model.positions().rope(), {},
                                    model.qkv_layout());
        ops::attention_forward(context, layer.attention_out, layer.lse, {layer.q, layer.k, layer.v, Tensor{}},
                               model.attention(l));
    };
    model.forward_layers(context, a, attend);
    model.head_logits(context, logits, a.final_out, ops::Products::by_row);
    return to_host(context, logits);
}

}  // namespace

TEST_CASE("narrow matrices: 8 bits round to nearest even by the row's largest magnitude", "[cpu]") {
    const std::vector<float> values{127, -127, 0.5f, 1.5f, 2.5f, -2.5f, 126.4f, 0};
    std::vector<int8_t> out(values.size());
    CHECK(model::quantise_row(values.data(), 8, out.data()) == 1.0f);
    CHECK(out == std::vector<int8_t>{127, -127, 0, 2, 2, -2, 126, 0});
    // A scale that is no power of two: no magnitude rounds beyond 127.
    std::vector<float> thirds(8, -0.1f / 3);
    CHECK(model::quantise_row(thirds.data(), 8, out.data()) == 0.1f / 3 / 127);
    CHECK(out == std::vector<int8_t>(8, -127));
    const std::vector<float> zeros(8, 0.0f);
    CHECK(model::quantise_row(zeros.data(), 8, out.data()) == 0.0f);
    CHECK(out == std::vector<int8_t>(8, 0));
    for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        thirds[3] = wrong;
        CHECK(std::isnan(model::quantise_row(thirds.data(), 8, out.data())));
    }
}

TEST_CASE("narrow matrices: which they are", "[cpu]") {
    using enum model::Role;
    auto config = tiny_llama();
    config.gate = model::Gate::headwise;
    config.normaliser = Normaliser::sink_logit;
    for (const bool tied : {false, true}) {
        config.tie_word_embeddings = tied;
        const model::ParameterTable table(config);
        for (const auto role : {query_weight, key_weight, value_weight, attention_dense_weight, mlp_gate_weight,
                                mlp_up_weight, mlp_down_weight})
            CHECK(table.row(role, 1).may_narrow);
        for (const auto role : {norm1_weight, norm2_weight, attention_sinks, attention_gate_weight})
            CHECK_FALSE(table.row(role, 1).may_narrow);
        CHECK(table.row(embed_in).may_narrow == tied);
        if (!tied) CHECK(table.row(embed_out).may_narrow);
    }
}

TEST_CASE("narrow matrices: a model computes with the very numbers that they stand for") {
    for (const auto& [name, config] : family_configs())
        for (const Dtype matrices : {Dtype::bf16, Dtype::i8}) {
            INFO(name << ", " << name_of(matrices));
            Context context(test_device(), 2);
            model::Transformer narrow(context, config, Dtype::f32, kReading, matrices),
                plain(context, config, Dtype::f32, kReading), original(context, config, Dtype::f32, kReading);
            randomise(context, narrow.weights(), 5);
            randomise(context, original.weights(), 5);
            double difference = 0, norm = 0;
            for (const auto& row : plain.weights().table().rows()) {
                const auto numbers = narrow.weights().read(context, row), exact = original.weights().read(context, row);
                plain.weights().write(context, row, numbers.data());
                for (size_t i = 0; i < numbers.size(); ++i) {
                    difference += (numbers[i] - exact[i]) * (numbers[i] - exact[i]);
                    norm += exact[i] * exact[i];
                }
                if (!row.may_narrow) CHECK(numbers == exact);
            }
            const double error = std::sqrt(difference / norm);
            CHECK((error > 1e-4 && error < 8e-3));  // 8 bits: half a step of 1/127 of the largest; bf16: half of 2^-8
            CHECK(losses_of(context, narrow) == losses_of(context, plain));
            CHECK(losses_of(context, narrow) != losses_of(context, original));
        }
}

TEST_CASE("narrow matrices: their memory, and what they are not for", "[cpu]") {
    Context context(Device::cpu, 1);
    const auto config = tiny_llama();
    const model::ParameterTable table(config);
    const auto bytes = [&](std::optional<Dtype> matrices) {
        return model::Weights::bytes(table, Dtype::f32, kReading, matrices);
    };
    int64_t held = 0, rest = 0, outputs = 0;
    for (const auto& row : table.rows()) {
        (row.may_narrow ? held : rest) += model::ParameterTable::padded(row.count);
        if (row.may_narrow) outputs += row.shape[0];
    }
    CHECK(bytes({}) == static_cast<size_t>(4 * (held + rest)));
    CHECK(bytes(Dtype::f32) == bytes({}));
    CHECK(bytes(Dtype::bf16) == static_cast<size_t>(2 * held + 4 * rest));
    CHECK(bytes(Dtype::i8) == static_cast<size_t>(held + 4 * outputs + 4 * rest));
    CHECK_THROWS_AS(model::Transformer(context, config, Dtype::f32, model::WeightUse::training, Dtype::i8),
                    InternalError);
    model::Transformer narrow(context, config, Dtype::f32, kReading, Dtype::i8);
    model::Pass pass(context, narrow, model::PassKind::forward_backward, 1, 4);
    pass.set_tokens(std::vector<int32_t>(4, 1), std::vector<int32_t>(4, 1));
    CHECK_THROWS_AS(pass.backward_activations(1.0, {}), InternalError);
}

TEST_CASE("products by row: a whole model's logits do not depend on the sequences beside") {
    for (const auto& [name, config] : {family_configs().front(), NamedConfig{"neox", tiny_config()}})
        for (const Dtype matrices : {Dtype::f32, Dtype::i8}) {
            INFO(name << ", " << name_of(matrices));
            Context context(test_device(), 2);
            model::Transformer model(context, config, Dtype::f32, kReading, matrices);
            randomise(context, model.weights(), 5);
            const int64_t T = 5, B = 7;
            const auto ids = random_ids(8, static_cast<size_t>(B * T), config.vocab_size);
            const auto all = logits_by_row(context, model, ids, T);
            const auto each = static_cast<ptrdiff_t>(T * config.vocab_size);
            for (const int64_t b : {0, 4, 6}) {
                const std::vector<int32_t> own(ids.begin() + b * T, ids.begin() + (b + 1) * T);
                CHECK(logits_by_row(context, model, own, T) ==
                      std::vector<double>(all.begin() + b * each, all.begin() + (b + 1) * each));
            }
        }
}
