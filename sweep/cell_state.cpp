#include "sweep/cell_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/child_process.h"
#include "base/error.h"
#include "train/checkpoint.h"
#include "train/run_directory.h"

namespace ballast::sweep {
namespace {

/// What differs between the run in the folder and the cell, of settings that a result depends on. Read through
/// RunConfig, so that fields the run's version did not have count with their defaults.
std::vector<report::ConfigRow> differences(const train::RunDirectory& directory, const Cell& cell) {
    const std::string path = directory.file("config.toml");
    if (!std::filesystem::exists(path))
        throw UserError(fmt::format("{} holds a run without its config.toml; remove the folder or choose another --out",
                                    directory.path()));
    train::RunConfig saved;
    load_toml_text(saved, read_file(path), path);
    const auto fields = [](const train::RunConfig& config) {
        return report::config_fields(to_toml(train::as_saved(config)));
    };
    std::vector<report::ConfigRow> rows = report::compare_configs({fields(saved), fields(cell.config)});
    std::erase_if(rows, [](const report::ConfigRow& row) { return !row.differs; });
    return rows;
}

/// 0 where there is none: a run that trains removes checkpoints at any time.
size_t size_of_file(const std::string& path) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    return error ? 0 : static_cast<size_t>(size);
}

}  // namespace

CellStatus inspect_cell(const Cell& cell, const std::string& folder) {
    const train::RunDirectory directory(folder);
    CellStatus out;
    const bool in_use = directory.in_use();
    if (!directory.has_run()) {
        if (in_use) out.state = CellState::in_use;  // about to write its first file
        return out;
    }
    out.differences = differences(directory, cell);
    const std::vector<int64_t> steps = directory.checkpoint_steps();
    out.step = steps.empty() ? 0 : steps.back();
    for (const int64_t step : steps) out.checkpoint_bytes += size_of_file(directory.checkpoint_path(step));
    if (in_use) {
        out.state = CellState::in_use;
    } else if (directory.status() == train::RunStatus::finished) {
        out.state = CellState::finished;
        out.step = cell.config.train.steps;
    } else {
        out.state = CellState::resumable;
    }
    return out;
}

void refuse_changed(const std::vector<Cell>& cells, const std::vector<CellStatus>& statuses,
                    const std::vector<std::string>& folders) {
    const auto changed = [](const CellStatus& status) { return !status.differences.empty(); };
    const auto first = std::find_if(statuses.begin(), statuses.end(), changed);
    if (first == statuses.end()) return;
    const auto at = static_cast<size_t>(first - statuses.begin());
    std::vector<std::string> fields;
    for (const report::ConfigRow& row : first->differences)
        fields.push_back(fmt::format("{} = {} there, {} here", row.field, row.values[0].value_or("nothing"),
                                     row.values[1].value_or("nothing")));
    const auto others = std::count_if(statuses.begin(), statuses.end(), changed) - 1;
    const std::string more = others > 0 ? fmt::format(" (and {} other cell{})", others, others == 1 ? "" : "s") : "";
    throw UserError(
        fmt::format("cell {}{} was trained under another configuration: {}; undo the change, choose another --out, or "
                    "remove {} to train it anew",
                    cells[at].name, more, fmt::join(fields, "; "), shell_quoted(folders[at])));
}

std::string describe(const CellStatus& status) {
    switch (status.state) {
        case CellState::missing: return "to train";
        case CellState::resumable: return fmt::format("from step {}", status.step);
        case CellState::finished: return "finished";
        case CellState::in_use: return "training elsewhere";
    }
    return "";
}

}  // namespace ballast::sweep
