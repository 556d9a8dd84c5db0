// What is there of a cell already.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "report/config_differences.h"
#include "sweep/cells.h"

namespace ballast::sweep {

enum class CellState {
    missing,    // nothing yet
    resumable,  // stopped, killed or failed: training goes on from the newest checkpoint, or from the start without one
    finished,
    in_use,  // another process trains it now
};

struct CellStatus {
    CellState state = CellState::missing;
    int64_t step = 0;                            // of the newest checkpoint; of the last step, when finished
    std::vector<report::ConfigRow> differences;  // fields of which the run has another value than the cell: [run, cell]
};

/// Looks at the run in `folder`. Fields that change no result (threads, printing) may differ. UserError when the folder
/// holds a run whose configuration cannot be read.
CellStatus inspect_cell(const Cell& cell, const std::string& folder);

/// UserError naming the first cell whose run was made under another configuration, the fields, and what to do.
/// `statuses` and `folders` are in the order of `cells`.
void refuse_changed(const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
                    const std::vector<std::string>& folders);

/// "finished", "from step 400", …
std::string describe(const CellStatus& status);

}  // namespace ballast::sweep
