// Trains one cell in a separate process, so that a crash does not end the sweep.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sweep/cells.h"

namespace ballast::sweep {

/// `PROGRAM train BASE --set … --out FOLDER --resume`, with absolute paths, so that it works in any folder.
std::vector<std::string> train_command(const std::string& program, const SweepFile& file, const Cell& cell,
                                       const std::string& folder, const std::string& backend);

enum class CellEnd { finished, interrupted, failed };

struct CellOutcome {
    CellEnd end = CellEnd::failed;
    std::string error;  // the first line of the error, when it failed
    std::string log;
};

/// Called with the newest step in the run's metrics and its loss.
using StepShown = std::function<void(int64_t step, double loss)>;

/// Runs `command` until it ends, with its output appended to FOLDER/train.log. On interrupted() the process gets one
/// signal and may save. The outcome comes from the run's status and the exit code.
CellOutcome train_cell(const std::vector<std::string>& command, const std::string& folder, const StepShown& shown);

/// The line of `log`, from byte `begin` on, that gives the reason for the end: ballast's own error, or else the last
/// line.
std::string error_line(const std::string& log, size_t begin);

}  // namespace ballast::sweep
