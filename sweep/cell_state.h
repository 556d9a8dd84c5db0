// The state of a cell: missing, partly trained or finished.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "report/config_differences.h"
#include "sweep/cells.h"

namespace ballast::sweep {

enum class CellState {
    missing,    // nothing yet
    resumable,  // stopped, killed or failed: continues from the newest checkpoint, or from the start without one
    finished,
    in_use,  // another process is training it now
};

struct CellStatus {
    CellState state = CellState::missing;
    int64_t step = 0;                            // of the newest checkpoint; when finished, the last step
    size_t checkpoint_bytes = 0;                 // of the checkpoints that are there
    std::vector<report::ConfigRow> differences;  // fields whose value in the run differs from the cell's: [run, cell]
};

/// Inspects the run in `folder`. Fields that change no result (threads, printing) may differ. UserError when the run's
/// configuration cannot be read.
CellStatus inspect_cell(const Cell& cell, const std::string& folder);

/// UserError that names the first cell whose run has a different configuration, the fields, and how to proceed.
/// `statuses` and `folders` are in the order of `cells`.
void refuse_changed(const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
                    const std::vector<std::string>& folders);

/// "finished", "from step 400", …
std::string describe(const CellStatus& status);

}  // namespace ballast::sweep
