// The cost of a sweep, before it starts.
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
    int64_t tokens = 0;             // positions to train from the present step to the end
    double flops = 0;               // of these
    size_t memory = 0;              // during training
    size_t disk = 0;                // of the checkpoints after the end, without what those that are there take
    size_t disk_peak = 0;           // of a checkpoint that is being written
    std::optional<double> seconds;  // of the remaining training
};

/// The cost of `cell` from its present `status` to the end; `seconds` stays empty.
CellCost cost_of(const Context& context, const Cell& cell, const CellStatus& status);

/// The number of checkpoints in the folder after a whole run.
int64_t checkpoints_kept(const train::CheckpointConfig& config, int64_t steps);

/// Times some updates of the most expensive cell that will be trained, for at most `limit` seconds after the first
/// update, and sets the seconds of all cells in proportion to their FLOPs. Returns the number of updates timed. 0 means
/// that one update would take too long to try; then no cell has a time.
int time_steps(Context& context, const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
               std::vector<CellCost>& costs, double limit);

/// One line per cell and the sums, for a terminal. `timed` is the result of time_steps().
std::string format_cost(const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
                        const std::vector<CellCost>& costs, int timed);

/// UserError when the cells to train need more than `available` bytes of disk under `out`.
void require_disk(const std::vector<CellStatus>& statuses, const std::vector<CellCost>& costs, size_t available,
                  const std::string& out);

/// True when this process should train the cell.
bool to_train(const CellStatus& status);

}  // namespace ballast::sweep
