#include "sweep/cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/progress.h"
#include "base/columns.h"
#include "train/checkpoint.h"

namespace ballast::sweep {
namespace {

/// Steps that may leave a checkpoint: see CheckpointConfig.
std::vector<int64_t> checkpoint_steps(const train::CheckpointConfig& config, int64_t steps) {
    constexpr int64_t kMost = 1'000'000;  // more files than that nobody keeps
    std::set<int64_t> candidates{0, steps};
    for (int64_t power = 1; power <= std::min<int64_t>(steps, 512); power *= 2) candidates.insert(power);
    if (config.every > 0)
        for (int64_t i = 1; i <= std::min(steps / config.every, kMost); ++i) candidates.insert(i * config.every);
    std::vector<int64_t> due;
    std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(due),
                 [&](int64_t step) { return train::checkpoint_due(config, step, steps); });
    return due;
}

/// Master weights and AdamW's two moments, f32; the rest of the file is a few kilobytes.
size_t checkpoint_bytes(int64_t parameters) { return static_cast<size_t>(3 * 4 * parameters); }

struct Totals {
    int64_t cells = 0, tokens = 0;
    double flops = 0, seconds = 0;
    size_t memory = 0, disk = 0;
};

Totals totals_of(const std::vector<CellStatus>& statuses, const std::vector<CellCost>& costs) {
    Totals sum;
    size_t peak = 0;
    for (size_t i = 0; i < costs.size(); ++i) {
        if (!to_train(statuses[i])) continue;
        ++sum.cells;
        sum.tokens += costs[i].tokens;
        sum.flops += costs[i].flops;
        sum.seconds += costs[i].seconds.value_or(0);
        sum.memory = std::max(sum.memory, costs[i].memory);
        sum.disk += costs[i].disk;
        peak = std::max(peak, costs[i].disk_peak);
    }
    sum.disk += peak;  // cells train one after another
    return sum;
}

}  // namespace

bool to_train(const CellStatus& status) {
    return status.state == CellState::missing || status.state == CellState::resumable;
}

int64_t checkpoints_kept(const train::CheckpointConfig& config, int64_t steps) {
    const std::vector<int64_t> due = checkpoint_steps(config, steps);
    return static_cast<int64_t>(due.size() - train::checkpoints_to_remove(config, due).size());
}

CellCost cost_of(const Context& context, const Cell& cell, const CellStatus& status) {
    const train::RunConfig& config = cell.config;
    CellCost out;
    out.parameters = model::ParameterTable(config.model).num_parameters();
    out.tokens = std::max<int64_t>(config.train.steps - status.step, 0) * config.train.global_batch *
                 config.train.sequence_length;
    out.flops = static_cast<double>(out.tokens) *
                model::flops_per_token(config.model, out.parameters, config.train.sequence_length).causal;
    out.memory = train::plan_memory(context, config, train::Distribution(config)).total(context.device());
    out.disk_peak = checkpoint_bytes(out.parameters);
    const size_t kept = out.disk_peak * static_cast<size_t>(checkpoints_kept(config.checkpoint, config.train.steps));
    out.disk = kept - std::min(kept, status.checkpoint_bytes);
    return out;
}

std::string format_cost(const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
                        const std::vector<CellCost>& costs, int timed) {
    std::vector<std::vector<std::string>> lines{
        {"cell", "parameters", "memory", "state", "tokens left", "disk left", "time left"}};
    for (size_t i = 0; i < cells.size(); ++i) {
        auto& line = lines.emplace_back(std::vector{cells[i].name, fmt::format("{:L}", costs[i].parameters),
                                                    train::format_bytes(costs[i].memory), describe(statuses[i])});
        if (to_train(statuses[i]))
            line.insert(line.end(),
                        {format_count(static_cast<double>(costs[i].tokens)), train::format_bytes(costs[i].disk),
                         costs[i].seconds ? format_duration(*costs[i].seconds) : "?"});
        else
            line.insert(line.end(), {"-", "-", "-"});
    }
    const Totals sum = totals_of(statuses, costs);
    std::string out = align_columns(lines);
    if (sum.cells == 0) return out + "nothing is left to train\n";
    out += fmt::format(
        "to train   {} of {} cells, one after another: {} tokens, {:.3g} FLOPs left; at most {} of memory, {} more of "
        "disk for checkpoints\n",
        sum.cells, cells.size(), format_count(static_cast<double>(sum.tokens)), sum.flops,
        train::format_bytes(sum.memory), train::format_bytes(sum.disk));
    if (timed > 0)
        out += fmt::format(
            "time       about {} of training, by {} updates timed just now; validation, samples and measurements come "
            "on top\n",
            format_duration(sum.seconds), timed);
    else
        out += "time       shown once the first cell trains; an update is too large to try one beforehand\n";
    return out;
}

void require_disk(const std::vector<CellStatus>& statuses, const std::vector<CellCost>& costs, size_t available,
                  const std::string& out) {
    const Totals sum = totals_of(statuses, costs);
    if (sum.disk <= available) return;
    throw UserError(fmt::format(
        "the cells' checkpoints need {} more and {} has {} free; free some space, choose another --out, or lower "
        "checkpoint.keep_last in [set]",
        train::format_bytes(sum.disk), out, train::format_bytes(available)));
}

}  // namespace ballast::sweep
