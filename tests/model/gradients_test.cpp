// Finite differences through the whole model in double, for every parameter of every kind of model.
#include "tests/model/family_configs.h"
#include "tests/model/gradient_check.h"

using namespace ballast;
using namespace ballast::test;

// On the CPU alone: tens of thousands of passes. On every device the ops have finite differences of their own.
TEST_CASE("gradients of every parameter: normalisers, parallel and sequential", "[cpu]") {
    for (const bool parallel : {true, false})
        for (const Normaliser normaliser : {Normaliser::softmax, Normaliser::off_by_one, Normaliser::sink_logit}) {
            auto config = tiny_config();
            config.parallel_residual = parallel;
            config.normaliser = normaliser;
            INFO("parallel " << parallel << ", normaliser " << static_cast<int>(normaliser));
            check_all_parameters(config);
        }
}

TEST_CASE("gradients of every parameter: sink tokens, positions, tied head, erf", "[cpu]") {
    auto sinks = tiny_config();
    sinks.num_sink_tokens = 2;
    sinks.sink_token_id = 20;
    check_all_parameters(sinks);

    auto alibi = tiny_config();
    alibi.position = model::Position::alibi;
    alibi.num_heads = 4;
    alibi.normaliser = Normaliser::sink_logit;
    check_all_parameters(alibi);

    auto tied = tiny_config();
    tied.tie_word_embeddings = true;
    tied.hidden_act = model::Activation::gelu_erf;
    tied.position = model::Position::none;
    check_all_parameters(tied);
}

TEST_CASE("the sink tokens' own embedding rows get gradients", "[not_cuda]") {
    auto config = tiny_config();
    config.num_sink_tokens = 2;
    config.sink_token_id = 20;
    GradientSetup s(config, 2, 9);
    const model::FlatArray gradients(s.context, s.model.weights().table(), Dtype::f64);
    s.pass.forward_backward(gradients, s.scale);
    const auto d = to_host(s.context, gradients.of(s.model.weights().table().row(model::Role::embed_in)));
    for (int64_t id : {20, 21}) {
        double norm = 0;
        for (int64_t c = 0; c < config.hidden_size; ++c)
            norm += std::abs(d[static_cast<size_t>(id * config.hidden_size + c)]);
        CHECK(norm > 1e-6);
    }
}

TEST_CASE("gradients accumulate over passes and repeat to the bit for any number of threads") {
    auto config = tiny_config();
    config.hidden_size = 48;
    config.intermediate_size = 0;
    const auto ids = random_ids(3, 2 * 33, config.vocab_size), targets = random_ids(4, 2 * 33, config.vocab_size);
    std::vector<std::vector<double>> results;
    for (int threads : {1, 2, 3}) {
        Context context(test_device(), threads);
        model::Transformer model(context, config, Dtype::f32);
        model.weights().initialise(context, 5);
        model::Pass pass(context, model, model::PassKind::forward_backward, 2, 33);
        pass.set_tokens(ids, targets);
        const model::FlatArray gradients(context, model.weights().table(), Dtype::f32);
        pass.forward_backward(gradients, 0.25);
        const auto once = to_host(context, gradients.flat());
        pass.forward_backward(gradients, 0.25);
        const auto twice = to_host(context, gradients.flat());
        std::vector<double> doubled(once);
        for (auto& x : doubled) x *= 2;
        CHECK(relative_error(twice, doubled) <= 1e-6);
        results.push_back(twice);
    }
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
}

namespace {

std::string stored(const Context& context, const Tensor& tensor) {
    std::string bytes(tensor.bytes(), 0);
    context.copy_to_host(bytes.data(), tensor);
    return bytes;
}

}  // namespace

TEST_CASE("without gradients of parameters, those of activations have the same bits, on weights for reading too") {
    auto configs = family_configs();
    configs.push_back({"sink logits", tiny_config()});
    configs.back().config.normaliser = Normaliser::sink_logit;
    for (const auto& [name, config] : configs)
        for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
            INFO(name << ", " << name_of(dtype));
            // A context each: what one pass leaves in scratch memory must not help the other.
            Context context(test_device(), 2), reading(test_device(), 2);
            model::Transformer trained(context, config, dtype),
                read(reading, config, dtype, model::WeightUse::inference);
            randomise(context, trained.weights(), 5);
            randomise(reading, read.weights(), 5);
            const auto ids = random_ids(3, 2 * 9, config.vocab_size), targets = random_ids(4, 2 * 9, config.vocab_size);
            model::Pass with(context, trained, model::PassKind::forward_backward, 2, 9),
                without(reading, read, model::PassKind::forward_backward, 2, 9);
            for (model::Pass* pass : {&with, &without}) pass->set_tokens(ids, targets);
            const model::FlatArray gradients(context, trained.weights().table(), Dtype::f32);
            with.forward_backward(gradients, 0.25);

            std::vector<int64_t> layers;
            std::vector<std::string> seen;
            without.backward_activations(0.25, [&](int64_t l, const model::BlockGradients& g,
                                                   const model::LayerActivations& a) {
                layers.push_back(l);
                seen.push_back(stored(reading, g.d_attention_out));
                CHECK(stored(reading, a.attention_out) == stored(context, with.activations().layer(l).attention_out));
            });
            const std::vector<int64_t> last_first{1, 0};
            CHECK(layers == last_first);
            CHECK(seen.front() != seen.back());
            const auto &expected = with.activations(), &got = without.activations();
            CHECK(seen.back() == stored(context, expected.gradients.d_attention_out));
            CHECK(stored(reading, got.d_x) == stored(context, expected.d_x));
            CHECK(stored(reading, got.losses) == stored(context, expected.losses));
        }
}

TEST_CASE("bf16 and fp16 follow f32") {
    auto config = tiny_config();
    config.hidden_size = 64;
    config.intermediate_size = 0;
    const auto ids = random_ids(3, 2 * 33, config.vocab_size), targets = random_ids(4, 2 * 33, config.vocab_size);
    std::vector<std::vector<double>> losses, gradients;
    std::vector<Dtype> dtypes{Dtype::f32, Dtype::bf16};
    if (test_device() != Device::cpu) dtypes.push_back(Dtype::f16);
    for (const Dtype dtype : dtypes) {
        Context context(test_device(), 2);
        model::Transformer model(context, config, dtype);
        model.weights().initialise(context, 5);
        model::Pass pass(context, model, model::PassKind::forward_backward, 2, 33);
        pass.set_tokens(ids, targets);
        const model::FlatArray d(context, model.weights().table(), Dtype::f32);
        pass.forward_backward(d, 1.0 / 66);
        losses.push_back(to_host(context, pass.losses()));
        gradients.push_back(to_host(context, d.flat()));
    }
    for (size_t i = 1; i < dtypes.size(); ++i) {
        const double finer = dtypes[i] == Dtype::f16 ? 0.125 : 1;  // three more bits
        CHECK(relative_error(losses[i], losses[0]) <= 2e-3 * finer);
        CHECK(relative_error(gradients[i], gradients[0]) <= 2e-2 * finer);
    }
}

TEST_CASE("the CPU does not compute in fp16 and says what to do instead", "[cpu]") {
    Context context(Device::cpu, 1);
    std::string message;
    try {
        model::Transformer(context, tiny_config(), Dtype::f16);
    } catch (const UserError& error) {
        message = error.what();
    }
    CHECK(message == "fp16 is computed on a GPU only; choose the dtype bf16 or f32, or --backend cuda");
}
