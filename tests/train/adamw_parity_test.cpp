// Twenty AdamW steps of a small GPT-NeoX against PyTorch's (left out where BALLAST_SHARED_DATA is not there,
// tests/CMakeLists.txt).
#include <filesystem>

#include "base/safetensors.h"
#include "model/hugging_face.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"
#include "train/optimizer.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("losses, gradient norms and final weights of 20 steps equal PyTorch's") {
    const std::string folder = std::string(BALLAST_SHARED_DATA) + "/hf/gpt_neox_adamw";
    if (!std::filesystem::exists(folder)) {
        WARN(folder << " is not there: AdamW parity not checked");
        return;
    }
    constexpr int64_t kSteps = 20, B = 2, T = 48;
    const SafetensorsReader history(folder + "/adamw.safetensors"), final(folder + "/adamw_final.safetensors");
    std::vector<int32_t> batches(static_cast<size_t>(kSteps * B * T));
    history.read_as("batches", Dtype::i32, batches.data());
    std::vector<double> losses(kSteps), norms(kSteps);
    history.read_as("losses", Dtype::f64, losses.data());
    history.read_as("grad_norms", Dtype::f64, norms.data());

    Context context(test_device(), 2);
    model::Transformer model(context, model::read_hugging_face_config(folder), Dtype::f32);
    model::read_hugging_face_weights(folder, context, model.weights());
    model::Pass pass(context, model, model::PassKind::forward_backward, B, T);
    train::Optimizer optimizer(context, model.weights(), {0.9, 0.95, 1e-8, 0.1}, 1.0);
    const OnDevice<double> sum(0.0);
    const Tensor loss = sum.tensor(Dtype::f64);
    for (int64_t step = 1; step <= kSteps; ++step) {
        const auto begin = batches.begin() + (step - 1) * B * T;
        const std::vector<int32_t> ids(begin, begin + B * T);
        std::vector<int32_t> targets;
        for (int64_t i = 0; i < B * T; ++i) targets.push_back((i + 1) % T == 0 ? -1 : ids[static_cast<size_t>(i + 1)]);
        optimizer.begin(step, 1e-3);
        pass.set_tokens(ids, targets);
        pass.forward_backward(optimizer.gradients(), 1.0 / (B * (T - 1)));
        ops::sum(context, loss, pass.losses());
        const auto result = optimizer.step(model.weights(), loss);
        const auto at = static_cast<size_t>(step - 1);
        INFO("step " << step);
        CHECK(sum.get() / (B * (T - 1)) == Approx(losses[at]).epsilon(2e-5));
        CHECK(result.grad_norm == Approx(norms[at]).epsilon(1e-4));
    }
    for (const auto& row : model.weights().table().rows()) {
        std::vector<float> expected(static_cast<size_t>(row.count));
        final.read_f32(row.name, expected);
        INFO(row.name);
        // Early on, AdamW moves a weight by about its rate whatever the gradient's size, so rounding in a gradient near
        // zero shows.
        CHECK(relative_error(to_host(context, model.weights().master(row)), expected) <= 2e-3);
    }
}
