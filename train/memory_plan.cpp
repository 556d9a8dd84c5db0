#include "train/memory_plan.h"

#include <algorithm>
#include <fmt/format.h>

#include "kernels/backend.h"
#include "train/optimizer.h"
#include "train/train_step.h"

namespace ballast::train {

std::string format_bytes(size_t bytes) {
    const double mebibytes = static_cast<double>(bytes) / (1 << 20);
    return mebibytes >= 1024 ? fmt::format("{:.2f} GiB", mebibytes / 1024) : fmt::format("{:.1f} MiB", mebibytes);
}

std::vector<std::pair<std::string, size_t>> MemoryPlan::parts() const {
    return {{"master weights", master_weights}, {"compute weights", compute_weights},
            {"gradients", gradients},           {"AdamW moments", moments},
            {"activations", activations},       {"validation activations", validation},
            {"tokens", tokens},                 {"kernel scratch", scratch}};
}

MemoryPlan plan_memory(const Context& context, const RunConfig& config) {
    const model::ParameterTable table(config.model);
    const auto flat = static_cast<size_t>(table.flat_size());
    const Dtype dtype = computable_on(context.device(), config.train.dtype), acc = accumulation_dtype(dtype);
    const int64_t batch = config.samples_per_pass(), length = config.train.sequence_length;
    using model::Pass, model::PassKind;

    MemoryPlan plan;
    plan.master_weights = flat * size_of(acc);
    plan.compute_weights = dtype == acc ? 0 : flat * size_of(dtype);
    plan.gradients = flat * size_of(acc);
    plan.moments = Optimizer::bytes(table, dtype) - plan.gradients;
    plan.activations = Pass::activation_bytes(config.model, dtype, PassKind::forward_backward, batch, length,
                                              config.train.recompute);
    plan.scratch = Pass::scratch_bytes(context, config.model, dtype, PassKind::forward_backward, batch, length);
    plan.tokens = TrainStep::bytes(config);
    if (!config.data.validation.empty())
        plan.validation = Pass::activation_bytes(config.model, dtype, PassKind::forward, batch, length);
    return plan;
}

void require_fit(const MemoryPlan& plan, Device device, size_t available) {
    if (plan.total() <= available) return;
    throw UserError(fmt::format(
        "this run needs {} of {} and {} is available (weights {}, optimiser {}, activations {}); lower "
        "train.micro_batch or train.sequence_length, set train.recompute = \"full\", or take a smaller model",
        format_bytes(plan.total()), device == Device::cuda ? "GPU memory" : "memory", format_bytes(available), format_bytes(plan.master_weights + plan.compute_weights),
        format_bytes(plan.gradients + plan.moments), format_bytes(plan.activations + plan.validation)));
}

}  // namespace ballast::train
