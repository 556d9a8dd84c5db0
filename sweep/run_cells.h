// The loop of a sweep: it goes on to the next cell whatever the result of a cell.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sweep/cell_state.h"
#include "sweep/train_cell.h"

namespace ballast::sweep {

/// The actions of the loop for cell number i. Each may throw: the cell has then failed, and the loop continues.
struct CellActions {
    std::function<CellStatus(size_t)> inspect;
    std::function<CellOutcome(size_t)> train;
    std::function<void(size_t)> measure;
};

struct Failure {
    size_t cell = 0;
    std::string what, log;  // empty log: the failure was not in training
};

struct SweepOutcome {
    std::vector<size_t> trained;  // finished, now or before
    std::vector<size_t> in_use;   // being trained by another process
    std::vector<Failure> failed;
    bool interrupted = false;
};

/// Trains missing cells and measures trained ones. Stops when a cell is interrupted while interrupted() is true. Calls
/// `on_failure` at once.
SweepOutcome run_cells(size_t count, const CellActions& actions, const std::function<void(const Failure&)>& on_failure);

/// Seconds left of a sweep of `total` FLOPs, of which `done` took `elapsed` seconds. Before there is progress to
/// extrapolate from, the estimate uses `planned`, the seconds planned for the whole.
std::optional<double> time_left(double done, double total, double elapsed, std::optional<double> planned);

}  // namespace ballast::sweep
