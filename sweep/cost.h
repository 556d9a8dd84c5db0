// What a sweep will take, before it starts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/context.h"
#include "sweep/cell_state.h"
#include "train/memory_plan.h"

namespace ballast::sweep {

struct CellCost {
    int64_t parameters = 0;
    int64_t tokens = 0;             // positions of the whole run
    double flops = 0;               // of training from the step it stands at to the end
    size_t memory = 0;              // while it trains
    size_t disk = 0;                // checkpoints, when it has finished
    size_t disk_peak = 0;           // beside them the one that is being written
    std::optional<double> seconds;  // of the training that is left
};

/// Cost of `cell` from where `status` says it stands; the time is left open.
CellCost cost_of(const Context& context, const Cell& cell, const CellStatus& status);

/// Checkpoints in the folder after a whole run.
int64_t checkpoints_kept(const train::CheckpointConfig& config, int64_t steps);

/// Times some updates of the costliest cell that is to train, at most `limit` seconds beside the first, and gives all
/// of them their seconds by their FLOPs. Returns how many updates were timed; 0 when one would take too long to try,
/// and then no cell has a time.
int time_steps(Context& context, const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
               std::vector<CellCost>& costs, double limit);

/// One line a cell and the sums, for a terminal. `timed` as time_steps returned it.
std::string format_cost(const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
                        const std::vector<CellCost>& costs, int timed);

/// UserError when the cells to train need more than `available` bytes of disk under `out`.
void require_disk(const std::vector<CellStatus>& statuses, const std::vector<CellCost>& costs, size_t available,
                  const std::string& out);

/// Whether training a cell is ours to do.
bool to_train(const CellStatus& status);

}  // namespace ballast::sweep
