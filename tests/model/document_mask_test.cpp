// Documents packed into one sample, none of which sees an earlier one.
#include "model/sink_tokens.h"
#include "tests/catch.h"
#include "tests/model/family_configs.h"

using namespace ballast;
using namespace ballast::test;

namespace {

struct Result {
    std::vector<double> losses, gradients;
};

/// Losses and gradients of samples of equal length, one after another; `first_keys` may be empty.
Result run(Context& context, model::Transformer& model, const std::vector<int32_t>& ids,
           const std::vector<int32_t>& targets, const std::vector<int32_t>& first_keys, int64_t batch) {
    const auto T = static_cast<int64_t>(ids.size()) / batch;
    model::Pass pass(context, model, model::PassKind::forward_backward, batch, T);
    const auto buffer = context.allocate(3 * ids.size() * sizeof(int32_t));
    const Tensor all(buffer.data(), Dtype::i32, {3, batch * T});
    const auto upload = [&](int64_t which, const std::vector<int32_t>& values) {
        const Tensor to = all.slice(0, which, which + 1).view({batch * T});
        context.copy_from_host(to, values.data());
        return to;
    };
    pass.use_tokens(upload(0, ids), upload(1, targets), first_keys.empty() ? Tensor{} : upload(2, first_keys));
    const model::FlatArray d(context, model.weights().table(), accumulation_dtype(model.dtype()));
    pass.forward_backward(d, 1.0);
    return {to_host(context, pass.losses()), to_host(context, d.flat())};
}

}  // namespace

TEST_CASE("packed documents have the losses and gradients they have alone", "[not_cuda]") {
    constexpr size_t kFirst = 5, kSecond = 9, kAll = kFirst + kSecond;
    for (const auto& [name, config] : family_configs()) {
        if (config.num_sink_tokens > 0 || config.rope_scaling.kind == model::RopeScalingKind::dynamic)
            continue;  // sinks are nearer to the first document; dynamic angles are those of the whole sample
        INFO(name);
        Context context(test_device(), 1, Gemm::reference);
        model::Transformer model(context, config, Dtype::f64);
        randomise(context, model.weights(), 7);
        const auto ids = random_ids(3, kAll, config.vocab_size), targets = random_ids(4, kAll, config.vocab_size);
        const auto part = [](const std::vector<int32_t>& all, size_t first, size_t count) {
            return std::vector<int32_t>(all.begin() + static_cast<long>(first),
                                        all.begin() + static_cast<long>(first + count));
        };
        std::vector<int32_t> first_keys(kAll, 0);
        for (size_t i = kFirst; i < kAll; ++i) first_keys[i] = kFirst;
        const Result packed = run(context, model, ids, targets, first_keys, 1);
        Result alone = run(context, model, part(ids, 0, kFirst), part(targets, 0, kFirst), {}, 1);
        const Result second = run(context, model, part(ids, kFirst, kSecond), part(targets, kFirst, kSecond), {}, 1);
        alone.losses.insert(alone.losses.end(), second.losses.begin(), second.losses.end());
        for (size_t i = 0; i < alone.gradients.size(); ++i) alone.gradients[i] += second.gradients[i];
        CHECK(relative_error(packed.losses, alone.losses) <= 1e-12);
        CHECK(relative_error(packed.gradients, alone.gradients) <= 1e-11);
        CHECK(relative_error(run(context, model, ids, targets, {}, 1).losses, alone.losses) > 1e-4);
    }
}

TEST_CASE("first keys are read anew by every pass, and each sample of a batch has its own") {
    const auto config = tiny_config();
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 7);
    const auto ids = random_ids(3, 16, config.vocab_size), targets = random_ids(4, 16, config.vocab_size);
    std::vector<int32_t> first_keys(16, 0);
    for (size_t i = 8 + 3; i < 16; ++i) first_keys[i] = 3;
    const auto masked = run(context, model, ids, targets, first_keys, 2).losses,
               plain = run(context, model, ids, targets, {}, 2).losses;
    for (size_t i = 0; i < 16; ++i) {
        INFO(i);
        if (i < 11)
            CHECK(std::abs(masked[i] - plain[i]) <= 1e-6);
        else
            CHECK(std::abs(masked[i] - plain[i]) > 1e-6);
    }
}

TEST_CASE("first keys count the sink tokens, which every document sees", "[cpu]") {
    auto config = tiny_config();
    config.num_sink_tokens = 2;
    config.sink_token_id = 20;
    const std::vector<int32_t> starts{0, 0, 0, 3, 3, 5, 5};
    std::vector<int32_t> first_keys(6);
    model::fill_first_keys(starts, config, first_keys);
    CHECK(first_keys == std::vector<int32_t>{0, 0, 2, 2, 2, 5});

    Context context(Device::cpu, 1);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 7);
    auto ids = random_ids(3, 6, 20);
    ids[0] = 20, ids[1] = 21;
    const auto targets = random_ids(4, 6, 20);
    const auto losses = run(context, model, ids, targets, first_keys, 1).losses;
    auto other_sink = ids, other_text = ids;
    other_sink[0] = 19;
    other_text[3] = (other_text[3] + 1) % 20;
    CHECK(std::abs(run(context, model, other_sink, targets, first_keys, 1).losses[5] - losses[5]) > 1e-6);
    CHECK(run(context, model, other_text, targets, first_keys, 1).losses[5] == losses[5]);
}
