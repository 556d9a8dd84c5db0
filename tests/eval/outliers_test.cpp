// Outliers: the figures against plain sums in double, rounding by hand, and what the hooks see of a model.
#include "eval/outliers.h"

#include <algorithm>

#include "eval/text_stream.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::eval;
using namespace ballast::test;

namespace {

/// Two passes over all values, as the definitions are written.
ActivationFigures by_definition(const std::vector<float>& x) {
    ActivationFigures out;
    double mean = 0, second = 0, fourth = 0;
    const auto n = static_cast<double>(x.size());
    for (const float v : x) mean += static_cast<double>(v) / n;
    for (const float v : x) {
        const double d = static_cast<double>(v) - mean;
        second += d * d / n;
        fourth += d * d * d * d / n;
        out.largest = std::max(out.largest, std::fabs(static_cast<double>(v)));
    }
    out.kurtosis = fourth / (second * second);
    return out;
}

void check_near(const ActivationFigures& got, const ActivationFigures& expected) {
    CHECK(got.kurtosis == Approx(expected.kurtosis).epsilon(1e-5));
    CHECK(got.largest == Approx(expected.largest).epsilon(1e-6));
}

std::vector<uint32_t> random_text(uint32_t seed, size_t count) {
    std::vector<uint32_t> out;
    for (const int32_t id : random_ids(seed, count, 20)) out.push_back(static_cast<uint32_t>(id));
    return out;
}

model::ModelConfig config_of(bool parallel, int64_t sink_tokens) {
    auto config = tiny_config();
    config.parallel_residual = parallel;
    config.num_sink_tokens = sink_tokens;
    config.sink_token_id = sink_tokens > 0 ? 20 : -1;
    return config;
}

/// Mean norm of the rows [begin, end) of D values.
double mean_norm(const std::vector<double>& values, size_t D, size_t begin, size_t end) {
    double total = 0;
    for (size_t row = begin; row < end; ++row) {
        double squares = 0;
        for (size_t i = row * D; i < (row + 1) * D; ++i) squares += values[i] * values[i];
        total += std::sqrt(squares);
    }
    return total / static_cast<double>(end - begin);
}

}  // namespace

TEST_CASE("outliers: kurtosis and the largest value, in pieces of any size") {
    const std::vector<float> x{1, -2, 3.5f, 0.25f, -40, 2, 2, 7};
    Moments moments;
    moments.add(std::span(x).first(3));
    moments.add(std::span(x).subspan(3));
    check_near(moments.figures(), by_definition(x));

    std::mt19937 random(3);
    std::normal_distribution<float> normal(5, 2);
    std::vector<float> many(20001);
    for (float& v : many) v = normal(random);
    Moments of_many;
    of_many.add(many);
    check_near(of_many.figures(), by_definition(many));
    CHECK(of_many.figures().kurtosis == Approx(3).epsilon(0.1));

    Moments broken;
    broken.add(std::vector<float>{1, std::nanf(""), 2});
    CHECK(std::isnan(broken.figures().kurtosis));
    CHECK(std::isnan(broken.figures().largest));
}

TEST_CASE("outliers: rounding is symmetric, to the nearest of 2^bits - 1 values of the tensor's own scale") {
    std::vector<float> x{12.7f, -12.7f, 0.04f, 0.06f, -0.06f, 6.33f};
    round_symmetric(x, 8);  // steps of 0.1
    const std::vector<double> expected{12.7, -12.7, 0, 0.1, -0.1, 6.3};
    for (size_t i = 0; i < x.size(); ++i) CHECK(static_cast<double>(x[i]) == Approx(expected[i]).margin(1e-6));

    std::vector<float> ties{7, 0.5f, 1.5f, -2.5f};
    round_symmetric(ties, 4);  // steps of 1
    CHECK(ties == std::vector<float>{7, 0, 2, -2});

    std::vector<float> zeros{0, 0};
    round_symmetric(zeros, 8);
    CHECK(zeros == std::vector<float>{0, 0});
    std::vector<float> infinite{1.26f, INFINITY};
    round_symmetric(infinite, 8);
    CHECK(infinite[0] == 1.26f);
}

TEST_CASE("outliers: each tensor of each layer is the one its name says") {
    auto gated = config_of(false, 0);  // Llama's kind of layer, two heads on one key-value head
    gated.family = model::FamilyName::llama;
    gated.norm = model::Norm::rmsnorm;
    gated.norm_bias = gated.qkv_bias = gated.attention_out_bias = gated.mlp_bias = false;
    gated.hidden_act = model::Activation::swiglu;
    gated.num_key_value_heads = 1;
    gated.rotary_pct = 1;
    for (const auto& config : {config_of(true, 0), config_of(false, 0), gated}) {
        CAPTURE(config.parallel_residual, config.gated());
        Context context(test_device(), 2);
        model::Transformer model(context, config, Dtype::f32);
        randomise(context, model.weights(), 9, 0.4);
        const auto text = random_text(4, 13);
        const OutlierResult r =
            evaluate_outliers(context, model, text, {.length = 13, .sequences = 1, .bits = 8}, [](int64_t) {});

        // A pass that keeps every layer's tensors.
        model::Pass pass(context, model, model::PassKind::forward_backward, 1, 13);
        const TextStream stream = make_text_stream(text, config, 0);
        pass.set_tokens(stream.tokens, std::vector<int32_t>(13, -1));
        pass.forward();
        const model::Activations& a = pass.activations();
        REQUIRE(r.layers.size() == 2);
        check_near(r.embedding, by_definition(context.read_floats(a.residual_stream(0))));
        check_near(r.head, by_definition(context.read_floats(a.final_out)));
        for (int64_t l = 0; l < 2; ++l) {
            const auto& tensors = r.layers[static_cast<size_t>(l)].tensors;
            const auto& layer = a.layer(l);
            check_near(tensors[0], by_definition(context.read_floats(a.residual_stream(l + 1))));
            check_near(tensors[1], by_definition(context.read_floats(layer.norm1_out)));
            check_near(tensors[2], by_definition(context.read_floats(layer.attention_out)));
            check_near(tensors[3], by_definition(context.read_floats(layer.norm2_out)));
            check_near(tensors[4], by_definition(context.read_floats(layer.mlp_hidden)));
            const auto values = to_host(context, layer.v);
            const auto D = static_cast<size_t>(config.head_dim()), G = static_cast<size_t>(config.key_value_heads());
            CHECK(r.layers[static_cast<size_t>(l)].value_first == Approx(mean_norm(values, D, 0, G)).epsilon(1e-5));
            CHECK(r.layers[static_cast<size_t>(l)].value_rest == Approx(mean_norm(values, D, G, 13 * G)).epsilon(1e-5));
        }
    }
}

TEST_CASE("outliers: the rounded loss is that of a model whose linear layers' inputs are rounded") {
    Context context(test_device(), 2);
    const auto config = config_of(true, 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.5);
    const auto text = random_text(6, 60);
    const auto loss_at = [&](int64_t bits) {
        return evaluate_outliers(context, model, text, {.length = 17, .sequences = 4, .bits = bits}, [](int64_t) {});
    };
    const OutlierResult fine = loss_at(16), coarse = loss_at(4);
    CHECK(fine.sequences == 4);
    CHECK(fine.tokens == 4 * 14);  // 17 - 2 sink tokens - the first of the text
    CHECK(fine.loss == coarse.loss);
    CHECK(fine.rounded_loss == Approx(fine.loss).epsilon(1e-3));
    CHECK(std::fabs(coarse.rounded_loss - coarse.loss) > 20 * std::fabs(fine.rounded_loss - fine.loss));

    // The first sequence's loss with some kinds of inputs rounded to 3 bits.
    using model::LinearInput;
    const std::vector<uint32_t> first{text.begin(), text.begin() + 15};
    const TextStream stream = make_text_stream(first, config, 0);
    std::vector<int32_t> targets;
    for (size_t i = 0; i < stream.tokens.size(); ++i) targets.push_back(stream.target(i));
    const auto loss_of = [&](const std::vector<LinearInput>& inputs) {
        model::Pass pass(context, model, model::PassKind::forward, 1, 17);
        size_t calls = 0;
        pass.observe_linear_inputs([&](LinearInput which, const Tensor& x) {
            if (std::find(inputs.begin(), inputs.end(), which) == inputs.end()) return;
            ++calls;
            auto values = context.read_floats(x);
            round_symmetric(values, 3);
            context.copy_from_host(x, values.data());
        });
        pass.set_tokens(stream.tokens, targets);
        pass.forward();
        const bool head = std::find(inputs.begin(), inputs.end(), LinearInput::head) != inputs.end();
        CHECK(calls == (inputs.size() - head) * static_cast<size_t>(config.num_layers) + head);
        double loss = 0;
        for (const float x : context.read_floats(pass.losses())) loss += static_cast<double>(x) / 14;
        return loss;
    };
    const std::vector<LinearInput> all{LinearInput::qkv, LinearInput::out, LinearInput::up, LinearInput::down,
                                       LinearInput::head};
    std::vector<double> losses{loss_of({})};
    for (const LinearInput input : all) {  // each is a place of its own
        losses.push_back(loss_of({input}));
        for (size_t i = 0; i + 1 < losses.size(); ++i) CHECK(losses[i] != Approx(losses.back()).epsilon(1e-6));
    }
    const OutlierResult one =
        evaluate_outliers(context, model, first, {.length = 17, .sequences = 1, .bits = 3}, [](int64_t) {});
    CHECK(one.loss == Approx(losses[0]).epsilon(1e-6));
    CHECK(one.rounded_loss == Approx(loss_of(all)).epsilon(1e-6));
    std::vector<uint32_t> begun = first;
    begun.front() = first.front() == 7 ? 8 : 7;
    const auto loss_begun_with = [&](const std::vector<uint32_t>& tokens, int64_t first_id) {
        const OutlierOptions options{.length = 17, .sequences = 1, .bits = 3, .first_id = first_id};
        return evaluate_outliers(context, model, tokens, options, [](int64_t) {}).loss;
    };
    CHECK(loss_begun_with(first, begun.front()) == loss_begun_with(begun, -1));
    CHECK(loss_begun_with(begun, -1) != one.loss);
}

TEST_CASE("outliers: a text that is too short is refused") {
    Context context(test_device(), 1);
    const auto config = config_of(true, 2);
    CHECK_NOTHROW(check_outliers(config, 30, {.length = 32}));
    CHECK(message_of([&] { check_outliers(config, 29, {.length = 32}); }).find("29 tokens") != std::string::npos);
    CHECK(message_of([&] { check_outliers(config, 29, {.length = 3}); }).find("2 sink tokens") != std::string::npos);
}
