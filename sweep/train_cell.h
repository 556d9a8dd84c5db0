// One cell's training, as a process of its own: what kills it does not end the sweep.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sweep/cells.h"

namespace ballast::sweep {

/// `PROGRAM train BASE --set … --out FOLDER --resume`, with absolute paths: it does the same from any folder.
std::vector<std::string> train_command(const std::string& program, const SweepFile& file, const Cell& cell,
                                       const std::string& folder, const std::string& backend);

enum class CellEnd { finished, interrupted, failed };

struct CellOutcome {
    CellEnd end = CellEnd::failed;
    std::string error;  // the first line, when it failed
    std::string log;
};

/// The newest step in the run's metrics, and its loss.
using StepShown = std::function<void(int64_t step, double loss)>;

/// Runs `command`, with its output appended to FOLDER/train.log, until it ends. On interrupted() it is told once and
/// may save. The outcome is what the run's status says beside the exit code.
CellOutcome train_cell(const std::vector<std::string>& command, const std::string& folder, const StepShown& shown);

/// The line that says why `log`, from byte `begin` on, ends: ballast's own error, or the last there is.
std::string error_line(const std::string& log, size_t begin);

}  // namespace ballast::sweep
