// The GPU backend trains as the CPU does, whatever the model: 20 steps from the same weights on the same text.
#include "tests/catch.h"
#include "tests/train/run_fixture.h"

using namespace ballast;
using namespace ballast::test;

namespace {

struct Variant {
    const char* name;
    Normaliser normaliser;
    int64_t sink_tokens;
    model::Position position;
    Dtype cpu_dtype, gpu_dtype;
};

const Variant kVariants[] = {
    {"softmax, rope", Normaliser::softmax, 0, model::Position::rope, Dtype::f32, Dtype::f32},
    {"off by one, rope", Normaliser::off_by_one, 0, model::Position::rope, Dtype::f32, Dtype::f32},
    {"sink logit, two sink tokens, ALiBi", Normaliser::sink_logit, 2, model::Position::alibi, Dtype::f32, Dtype::f32},
    {"softmax, a sink token, no positions", Normaliser::softmax, 1, model::Position::none, Dtype::f32, Dtype::f32},
    {"softmax, a sink token, rope, bf16", Normaliser::softmax, 1, model::Position::rope, Dtype::bf16, Dtype::bf16},
    {"softmax, rope, fp16 with loss scaling", Normaliser::softmax, 0, model::Position::rope, Dtype::f32, Dtype::f16},
    {"sink logit, a sink token, rope, fp16", Normaliser::sink_logit, 1, model::Position::rope, Dtype::f32, Dtype::f16},
};

std::vector<double> losses_on(RunFixture& run, Device device, const Variant& variant, const std::string& name) {
    run.device = device;
    run.config.model.normaliser = variant.normaliser;
    run.config.model.num_sink_tokens = variant.sink_tokens;
    run.config.model.position = variant.position;
    run.config.train.dtype = device == Device::cpu ? variant.cpu_dtype : variant.gpu_dtype;
    run.config.validation.every = 0;
    run.config.checkpoint.every = 0;
    REQUIRE(run.run(name, train::StartMode::fresh) == train::RunStatus::finished);
    return run.losses(name);
}

}  // namespace

TEST_CASE("twenty steps on the GPU backend follow the CPU's, and repeat to the bit", "[cpu]") {
    const Device gpu = is_built(Device::cuda) ? Device::cuda : Device::simt;
    if (!is_built(gpu)) {
        WARN("skipped: this build has no GPU backend");
        return;
    }
    if (gpu == Device::cuda && !cuda::why_unusable().empty()) {
        WARN("skipped: " << cuda::why_unusable());
        return;
    }
    for (const Variant& variant : kVariants) {
        INFO(variant.name);
        RunFixture run;
        const auto cpu = losses_on(run, Device::cpu, variant, "cpu");
        const auto first = losses_on(run, gpu, variant, "first"), second = losses_on(run, gpu, variant, "second");
        REQUIRE(first.size() == 20);
        REQUIRE(cpu.size() == 20);
        CHECK(first == second);
        run.config.train.cuda_graph = false;
        CHECK(losses_on(run, gpu, variant, "without a graph") == first);
        CHECK(cpu.back() <= cpu.front() - 0.3);  // they learn, so there is something to follow
        const Dtype dtype = variant.gpu_dtype;
        const double tolerance = dtype == Dtype::bf16 ? 3e-3 : dtype == Dtype::f16 ? 3e-4 : 2e-5;
        for (size_t i = 0; i < 20; ++i) {
            INFO("step " << i + 1);
            CHECK(std::abs(first[i] - cpu[i]) <= tolerance * cpu[i]);
        }
    }
}
