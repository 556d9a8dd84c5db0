#include "cli/dry_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include "base/columns.h"
#include "base/error.h"
#include "base/progress.h"
#include "train/cost_model.h"
#include "train/memory_plan.h"
#include "train/planned_ranks.h"

namespace ballast {
namespace {

using namespace train;

std::string milliseconds(double seconds) {
    return seconds < 10 ? fmt::format("{:.4g} ms", seconds * 1e3) : fmt::format("{:.4g} s", seconds);
}
std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

double tokens_a_step(const RunConfig& config) {
    return static_cast<double>(config.train.global_batch * config.train.sequence_length);
}

const std::vector<std::string> kHead{"ranks",  "memory", "passes",   "adding", "optimiser", "received", "communication",
                                     "hidden", "update", "tokens/s", "MFU",    "scaling",   "run"};

/// Bytes on the device of rank 0, which has more to keep than the others; of a GPU without its kernels' scratch.
size_t memory_of_rank(const Context& context, RunConfig config, const Distribution& distribution, bool on_gpu) {
    // As large, and the context that plans is a CPU's, which has no fp16.
    if (on_gpu && config.train.dtype == Dtype::f16) config.train.dtype = Dtype::bf16;
    MemoryPlan plan = plan_memory(context, config, distribution);
    if (on_gpu) plan.scratch = 0;  // this processor's, which another would not take, nor a GPU
    return plan.total(on_gpu ? Device::cuda : Device::cpu);
}

/// What a number of ranks costs, beside what one rank's update takes.
std::vector<std::string> line_of(const Context& context, const Machine& machine, const Network& network,
                                 const RunConfig& config, int ranks, double one_rank_seconds, bool on_gpu) {
    PlannedRank first(0, ranks);
    const Distribution distribution(config, first);
    const size_t memory = memory_of_rank(context, config, distribution, on_gpu);
    const StepCost cost = cost_of_step(machine, network, config, distribution);
    const double seconds = cost.total();
    return {fmt::format("{}", ranks),
            format_bytes(memory) + (static_cast<double>(memory) > machine.memory ? " (!)" : ""),
            milliseconds(cost.passes),
            milliseconds(cost.adding),
            milliseconds(cost.optimizer),
            format_bytes(static_cast<size_t>(received_bytes(config, distribution))),
            milliseconds(cost.communication),
            cost.communication > 0 ? percent(cost.hidden / cost.communication) : "-",
            milliseconds(seconds),
            format_count(tokens_a_step(config) / seconds),
            percent(model_flops_utilisation(machine, config, ranks, seconds)),
            percent(one_rank_seconds / (seconds * ranks)),
            format_duration(seconds * static_cast<double>(config.train.steps))};
}

double seconds_of_one(const Machine& machine, RunConfig config) {
    config.train.reduction_lanes = 1;
    return cost_of_step(machine, {}, config, Distribution(config)).total();
}

}  // namespace

void print_dry_run(const DryRun& options, const RunConfig& config) {
    const int most = *std::max_element(options.ranks.begin(), options.ranks.end());
    if (most > 1 && options.net.empty())
        throw UserError(fmt::format("{} ranks need a network between them; give its rate, e.g. --net 400Gb/s", most));
    const Network network = options.net.empty() ? Network{} : parse_network(options.net);
    Context context(Device::cpu, static_cast<int>(config.train.threads), config.train.gemm);
    const bool here = options.gpu == "cpu";
    const Machine machine =
        here ? measure_cpu(context, config) : machine_named(options.gpu, config.train.dtype, config.model.head_dim());
    const model::ParameterTable table(config.model);
    std::cout << fmt::format(
        "model       {:L} parameters; an update of {} tokens in {} passes of {} x {}, {}; ZeRO {}, {} updates\n",
        table.num_parameters(), format_count(tokens_a_step(config)),
        config.train.global_batch / config.samples_per_pass(), config.samples_per_pass(), config.train.sequence_length,
        name_of(config.train.dtype), config.train.zero, config.train.steps);
    std::cout << fmt::format(
        "machine     {}: {:.4g} TFLOP/s of products, {:.4g} GB/s of memory, {} ({})\n"
        "shares      {} of the products' rate, {} for attention, {} of the memory's: {}\n",
        machine.name, machine.flops * 1e-12, machine.bandwidth * 1e-9,
        format_bytes(static_cast<size_t>(machine.memory)), machine.source, percent(machine.product_share),
        percent(machine.attention_share), percent(machine.memory_share), machine.shares);
    if (most > 1)
        std::cout << fmt::format(
            "network     {:.4g} GB/s each way at every rank, {:.3g} us an exchange and {:.3g} us a message (assumed)\n",
            network.bandwidth * 1e-9, network.round_seconds * 1e6, network.message_seconds * 1e6);
    std::vector<std::vector<std::string>> lines{kHead};
    const double one = seconds_of_one(machine, config);
    for (const int ranks : options.ranks)  // a CPU's ranks share this machine, so as many take as long as one at best
        lines.push_back(here ? line_of(context, shared_out(machine, ranks), network, config, ranks, one * ranks, false)
                             : line_of(context, machine, network, config, ranks, one, true));
    std::cout << align_columns(lines);
}

}  // namespace ballast
