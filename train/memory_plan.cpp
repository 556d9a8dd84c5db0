#include "train/memory_plan.h"

#include <algorithm>
#include <fmt/format.h>

#include "kernels/backend.h"
#include "train/background_save.h"
#include "train/optimizer.h"
#include "train/planned_ranks.h"
#include "train/sample_writer.h"
#include "train/train_step.h"

namespace ballast::train {

std::string format_bytes(size_t bytes) {
    const double mebibytes = static_cast<double>(bytes) / (1 << 20);
    return mebibytes >= 1024 ? fmt::format("{:.2f} GiB", mebibytes / 1024) : fmt::format("{:.1f} MiB", mebibytes);
}

std::vector<std::pair<std::string, size_t>> MemoryPlan::parts() const {
    return {{"master weights", master_weights},
            {"compute weights", compute_weights},
            {"gradients", gradients},
            {"other ranks' gradients", received_gradients},
            {"AdamW moments", moments},
            {"activations", activations},
            {"validation activations", validation},
            {"sampling", sampling},
            {"tokens", tokens},
            {"kernel scratch", scratch},
            {"checkpoint snapshot", snapshot},
            {"sample order", sample_order}};
}

MemoryPlan plan_memory(const Context& context, const RunConfig& config, const Distribution& distribution) {
    const model::ParameterTable table(config.model);
    const auto flat = static_cast<size_t>(table.flat_size());
    const Dtype dtype = computable_on(context.device(), config.train.dtype), acc = accumulation_dtype(dtype);
    const int64_t batch = config.samples_per_pass(), length = config.train.sequence_length;
    using model::Pass, model::PassKind;

    MemoryPlan plan;
    plan.master_weights = flat * size_of(acc);
    plan.compute_weights = dtype == acc ? 0 : flat * size_of(dtype);
    plan.gradients = GradientSum::array_bytes(table, acc, distribution);
    plan.received_gradients = GradientSum::received_bytes(table, acc, distribution);
    plan.moments = Optimizer::moment_bytes(table, dtype, distribution);
    plan.activations =
        Pass::activation_bytes(config.model, dtype, PassKind::forward_backward, batch, length, config.train.recompute);
    plan.scratch = Pass::scratch_bytes(context, config.model, dtype, PassKind::forward_backward, batch, length);
    plan.tokens = TrainStep::bytes(config, distribution);
    if (!distribution.ranks().is_first()) return plan;  // the rest is rank 0's
    if (config.checkpoint.background && config.checkpoint.any_before_the_end())
        plan.snapshot = Snapshot::bytes(table, dtype, distribution);
    if (!config.data.validation.empty()) {
        plan.validation = Pass::activation_bytes(config.model, dtype, PassKind::forward, batch, length);
        if (config.data.document_mask) plan.validation += static_cast<size_t>(batch * length) * sizeof(int32_t);
    }
    if (config.sample.every > 0) {
        plan.sampling = SampleWriter::bytes(context, config.model, dtype);
        plan.scratch = std::max(plan.scratch, SampleWriter::scratch_bytes(context, config.model, dtype));
    }
    return plan;
}

size_t memory_of_neighbours(const Context& context, const RunConfig& config, const Distribution& distribution,
                            const MemoryPlan& plan) {
    const Communicator& ranks = distribution.ranks();
    if (context.device() == Device::cuda || ranks.local_size() == 1) return 0;
    PlannedRank last(ranks.size() - 1, ranks.size());
    MemoryPlan other = plan_memory(context, config, Distribution(config, last));
    other.sample_order = plan.sample_order;
    return static_cast<size_t>(ranks.local_size() - 1) * other.total(context.device());
}

void require_fit(const MemoryPlan& plan, Device device, size_t available, size_t neighbours) {
    const size_t total = plan.total(device), order = device == Device::cuda ? 0 : plan.sample_order;
    if (total + neighbours <= available) return;
    const char* const advice =
        order > total / 2 ? "lower train.steps or train.global_batch: the order of the samples takes most of it"
                          : "lower train.micro_batch or train.sequence_length, set train.recompute = \"full\" or "
                            "checkpoint.background = false, or take a smaller model";
    throw UserError(fmt::format(
        "this run needs {} of {} and {} is available{} (weights {}, optimiser {}, activations {}, sampling {}, "
        "checkpoint snapshot {}, sample order {}); {}{}",
        format_bytes(total), device == Device::cuda ? "GPU memory" : "memory", format_bytes(available),
        neighbours > 0 ? fmt::format(", of which the other ranks on this machine need {}", format_bytes(neighbours))
                       : "",
        format_bytes(plan.master_weights + plan.compute_weights),
        format_bytes(plan.gradients + plan.received_gradients + plan.moments),
        format_bytes(plan.activations + plan.validation), format_bytes(plan.sampling),
        format_bytes(device == Device::cuda ? 0 : plan.snapshot), format_bytes(order), advice,
        neighbours > 0 ? ", or start fewer ranks on a machine" : ""));
}

}  // namespace ballast::train
