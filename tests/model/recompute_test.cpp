// Activations computed again in the backward pass change memory and time, and no bit of the result.
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::test;
using model::Recompute;

namespace {

constexpr int64_t kBatch = 2, kLength = 19;

/// Losses and gradients of two accumulated passes.
std::vector<std::vector<double>> results_with(Recompute recompute, const model::ModelConfig& config, Dtype dtype) {
    Context context(test_device(), 2);
    model::Transformer model(context, config, dtype);
    randomise(context, model.weights(), 11);
    model::Pass pass(context, model, model::PassKind::forward_backward, kBatch, kLength, recompute);
    pass.set_tokens(random_ids(3, kBatch * kLength, config.vocab_size),
                    random_ids(4, kBatch * kLength, config.vocab_size));
    const model::FlatArray gradients(context, model.weights().table(), accumulation_dtype(dtype));
    pass.forward_backward(gradients, 0.25);
    pass.forward_backward(gradients, 0.25);
    return {to_host(context, pass.losses()), to_host(context, gradients.flat())};
}

}  // namespace

TEST_CASE("recomputed activations give the same losses and gradients to the bit") {
    for (const bool parallel : {true, false})
        for (const auto normaliser : {Normaliser::softmax, Normaliser::sink_logit})
            for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
                CAPTURE(parallel, static_cast<int>(normaliser), name_of(dtype));
                auto config = tiny_config();
                config.num_layers = 3;
                config.parallel_residual = parallel;
                config.normaliser = normaliser;
                const auto kept = results_with(Recompute::none, config, dtype);
                CHECK(results_with(Recompute::attention, config, dtype) == kept);
                CHECK(results_with(Recompute::full, config, dtype) == kept);
            }
}

TEST_CASE("recomputation saves the memory it promises", "[cpu]") {
    auto config = tiny_config();
    config.num_layers = 6;
    const auto bytes = [&](Recompute recompute) {
        return model::Pass::activation_bytes(config, Dtype::f32, model::PassKind::forward_backward, 4, 128, recompute);
    };
    const auto row = static_cast<size_t>(4 * 128 * config.hidden_size) * sizeof(float);
    const auto saved = [&](Recompute recompute) {
        return static_cast<double>(bytes(Recompute::none) - bytes(recompute)) / static_cast<double>(row);
    };
    const double mlp = 2.0 * static_cast<double>(config.feed_forward_dim()) / static_cast<double>(config.hidden_size);
    // Five layers fewer; beside the rows [N,C] only statistics and padding.
    CHECK(saved(Recompute::attention) == Approx(5 * 4).epsilon(0.1));
    CHECK(saved(Recompute::full) == Approx(5 * (6 + mlp)).epsilon(0.1));
}
