// Estimates training time on this machine from a few updates of the most expensive cell.
#include <algorithm>
#include <chrono>

#include "base/interrupt.h"
#include "sweep/cost.h"
#include "train/train_step.h"

namespace ballast::sweep {
namespace {

constexpr double kLargestTrial = 5e12;  // FLOPs of an update that is tried on a CPU: some 25 s on two cores
constexpr int kMostUpdates = 40;

double flops_of_update(const Cell& cell, const CellCost& cost) {
    const auto& train = cell.config.train;
    return static_cast<double>(train.global_batch * train.sequence_length) *
           model::flops_per_token(cell.config.model, cost.parameters, train.sequence_length).causal;
}

/// Seconds of each update, on tokens that are all alike: no kernel's time depends on their values.
std::vector<double> time_updates(Context& context, const train::RunConfig& config, double limit) {
    using Clock = std::chrono::steady_clock;
    model::Transformer model(context, config.model, config.train.dtype);
    model.weights().initialise(context, static_cast<uint64_t>(config.train.seed));
    const train::Distribution distribution(config);
    train::Optimizer optimizer(context, model.weights(), {}, config.optimizer.clip_norm, distribution);
    train::TrainStep step(context, model, optimizer, config);
    const std::vector<int32_t> windows(
        static_cast<size_t>(config.train.global_batch * (config.train.sequence_length + 1)), 0);
    step.load(windows, config.data.document_mask ? windows : std::vector<int32_t>{});  // each sample one document
    context.synchronise();
    std::vector<double> seconds;
    const auto end = Clock::now() + std::chrono::duration<double>(limit);
    for (int64_t update = 0; update <= kMostUpdates && !interrupted(); ++update) {
        if (update > 1 && Clock::now() > end) break;
        const auto begin = Clock::now();
        optimizer.set_scalars(update + 1, 0);
        step.run();
        context.synchronise();
        if (update > 0)  // the first packs, plans and touches pages
            seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
    return seconds;
}

}  // namespace

int time_steps(Context& context, const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
               std::vector<CellCost>& costs, double limit) {
    size_t costliest = cells.size();
    for (size_t i = 0; i < cells.size(); ++i)
        if (to_train(statuses[i]) &&
            (costliest == cells.size() ||
             flops_of_update(cells[i], costs[i]) > flops_of_update(cells[costliest], costs[costliest])))
            costliest = i;
    if (costliest == cells.size()) return 0;
    const double flops = flops_of_update(cells[costliest], costs[costliest]);
    if (context.device() == Device::simt || (context.device() == Device::cpu && flops > kLargestTrial)) return 0;
    std::vector<double> seconds = time_updates(context, cells[costliest].config, limit);
    if (seconds.empty()) return 0;
    const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
    std::nth_element(seconds.begin(), middle, seconds.end());
    for (size_t i = 0; i < cells.size(); ++i)
        if (to_train(statuses[i])) costs[i].seconds = costs[i].flops * *middle / flops;
    return static_cast<int>(seconds.size());
}

}  // namespace ballast::sweep
