#include "sweep/measure_cell.h"

#include <filesystem>
#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/error.h"

namespace ballast::sweep {
namespace {

namespace fs = std::filesystem;

std::string note_path(const std::string& folder) { return (fs::path(folder) / "evaluate.toml").string(); }

}  // namespace

report::MeasureOptions measure_options(const Cell& cell, const EvaluateConfig& wanted) {
    report::MeasureOptions options{wanted.cache, Dtype::f32, report::text_label(wanted.text, wanted.max_tokens)};
    options.cache = report::cache_of(cell.config.model, options);
    return options;
}

report::Missing missing_measurements(const Cell& cell, const std::string& folder, const EvaluateConfig& wanted) {
    const report::Missing lacking =
        report::missing_evaluations(folder, report::read_evaluations(folder, {}), measure_options(cell, wanted));
    std::error_code error;
    const std::string path = note_path(folder);
    if (fs::exists(path, error) && read_file(path) == to_toml(wanted)) return lacking;
    const bool checkpoint = report::missing_evaluations(folder, {}).any();  // there is something to measure on
    return checkpoint ? report::Missing{true, true} : lacking;
}

void measure_cell(Context& context, const Cell& cell, const std::string& folder, report::Missing missing,
                  const EvaluateConfig& wanted,
                  const std::function<std::vector<uint32_t>(const train::ModelSource&)>& read_text) {
    report::measure(context, folder, missing, measure_options(cell, wanted), {read_text, {}});
    write_file(note_path(folder), to_toml(wanted));
}

void check_measurements(const Cell& cell, const EvaluateConfig& wanted, int64_t num_tokens) {
    try {
        report::check_measure(cell.config.model, measure_options(cell, wanted), num_tokens);
    } catch (const UserError& error) {
        throw UserError(fmt::format("cell {} could not be measured: {}; see [evaluate]", cell.name, error.what()));
    }
}

}  // namespace ballast::sweep
