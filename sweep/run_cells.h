// The sweep's loop: cell after cell, whatever becomes of each.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sweep/cell_state.h"
#include "sweep/train_cell.h"

namespace ballast::sweep {

/// What the loop does with cell number i. Any of them may throw: the cell then has failed, and the rest go on.
struct CellActions {
    std::function<CellStatus(size_t)> inspect;
    std::function<CellOutcome(size_t)> train;
    std::function<void(size_t)> measure;
};

struct Failure {
    size_t cell = 0;
    std::string what, log;  // no log: it failed outside of training
};

struct SweepOutcome {
    std::vector<size_t> trained;  // finished, now or before
    std::vector<size_t> in_use;   // being trained by another process
    std::vector<Failure> failed;
    bool interrupted = false;
};

/// Trains what is missing, measures what is trained. Stops when a cell is interrupted while interrupted() holds.
/// `on_failure` is told at once.
SweepOutcome run_cells(size_t count, const CellActions& actions, const std::function<void(const Failure&)>& on_failure);

/// Seconds left of a sweep of `total` FLOPs of which `done` took `elapsed` seconds; `planned` seconds for all of it
/// serve until there is something to go by.
std::optional<double> time_left(double done, double total, double elapsed, std::optional<double> planned);

}  // namespace ballast::sweep
