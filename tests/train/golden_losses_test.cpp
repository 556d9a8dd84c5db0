// A hundred steps of a tiny model with the reference GEMM, compared to the last bit with values written down once. A
// change here is a change of what training computes: find out why before new values go in (run with
// BALLAST_PRINT_GOLDEN=1).
#include <cstdio>
#include <cstdlib>

#include "base/atomic_file.h"
#include "kernels/simd.h"
#include "model/sink_tokens.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"
#include "train/optimizer.h"
#include "train/schedule.h"

using namespace ballast;

namespace {

constexpr int kGoldenSteps = 100;

struct Golden {
    const char* name;
    Normaliser normaliser;
    int64_t num_sink_tokens;
    Dtype dtype;
    double losses[kGoldenSteps];
};

const Golden kGolden[] = {
#include "tests/train/golden_losses.inc"
};

/// Trains on the bytes of the project's licence.
std::vector<double> golden_run(Normaliser normaliser, int64_t num_sink_tokens, Dtype dtype) {
    model::ModelConfig config;
    config.vocab_size = 130;
    config.hidden_size = 32;
    config.num_layers = 2;
    config.num_heads = 4;
    config.max_position_embeddings = 24;
    config.normaliser = normaliser;
    config.num_sink_tokens = num_sink_tokens;
    config.sink_token_id = 128;
    constexpr int64_t kBatch = 3, kLength = 24;

    Context context(Device::cpu, 2, Gemm::reference);
    model::Transformer model(context, config, dtype);
    model.weights().initialise(context, 1234);
    train::Optimizer optimizer(context, model.weights(), {}, 1.0);
    model::Pass pass(context, model, model::PassKind::forward_backward, kBatch, kLength);
    const train::Schedule schedule{train::ScheduleKind::corrected, 3e-3, 3e-4, 10, kGoldenSteps};
    const std::string text = read_file(std::string(BALLAST_SOURCE_DIR) + "/LICENSE");
    const double targets = static_cast<double>(kBatch * model::targets_per_sample(config, kLength));

    std::vector<double> losses;
    double sum = 0;
    const Tensor loss(&sum, Dtype::f64, {1});
    size_t at = 0;
    for (int step = 1; step <= kGoldenSteps; ++step) {
        std::vector<int32_t> ids(kBatch * kLength), next(kBatch * kLength);
        for (size_t b = 0; b < kBatch; ++b, at = (at + 977) % (text.size() - kLength - 1)) {
            const std::vector<int32_t> window(text.begin() + static_cast<int64_t>(at),
                                              text.begin() + static_cast<int64_t>(at) + kLength + 1);
            model::fill_sample(window, config, std::span(ids).subspan(b * kLength, kLength),
                               std::span(next).subspan(b * kLength, kLength));
        }
        pass.set_tokens(ids, next);
        optimizer.begin(step, schedule.at_update(step));
        pass.forward_backward(optimizer.gradients(), 1.0 / targets);
        ops::sum(context, loss, pass.losses());
        REQUIRE(optimizer.step(model.weights(), loss).applied());
        losses.push_back(sum / targets);
    }
    return losses;
}

void check_golden_losses() {
    INFO("SIMD target " << simd_target_name());
    for (const Golden& golden : kGolden) {
        const auto losses = golden_run(golden.normaliser, golden.num_sink_tokens, golden.dtype);
        if (std::getenv("BALLAST_PRINT_GOLDEN")) {
            std::printf("// %s\n", golden.name);
            for (int i = 0; i < kGoldenSteps; ++i)
                std::printf("%a,%s", losses[static_cast<size_t>(i)], i % 5 == 4 ? "\n" : " ");
        }
        INFO(golden.name);
        CHECK(losses.back() <= losses.front() - 1.5);
        for (size_t i = 0; i < kGoldenSteps; ++i) {
            INFO("step " << i + 1);
#if defined(__x86_64__)
            CHECK(losses[i] == golden.losses[i]);
#else
            CHECK(losses[i] == Approx(golden.losses[i]).epsilon(golden.dtype == Dtype::bf16 ? 2e-2 : 1e-4));
#endif
        }
    }
}

}  // namespace

TEST_CASE("golden losses, to the last bit, on the widest vector units and the narrowest", "[cpu]") {
#if !defined(__x86_64__)
    WARN("golden values are x86-64's; other processors are compared with a tolerance");
#endif
    const std::string widest = simd_target_name();
    check_golden_losses();
    use_baseline_simd();  // for the rest of this process
    if (simd_target_name() != widest) check_golden_losses();
}
