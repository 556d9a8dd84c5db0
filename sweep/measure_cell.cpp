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

report::Missing missing_measurements(const std::string& folder, const EvaluateConfig& wanted) {
    const report::Missing lacking = report::missing_evaluations(folder, report::read_evaluations(folder, {}));
    std::error_code error;
    const std::string path = note_path(folder);
    if (fs::exists(path, error) && read_file(path) == to_toml(wanted)) return lacking;
    const bool checkpoint = report::missing_evaluations(folder, {}).any();  // there is something to measure on
    return checkpoint ? report::Missing{true, true} : lacking;
}

void measure_cell(Context& context, const std::string& folder, report::Missing missing, const EvaluateConfig& wanted,
                  const std::function<std::vector<uint32_t>(const train::ModelSource&)>& read_text) {
    report::measure(context, folder, missing, {wanted.cache, Dtype::f32}, read_text);
    write_file(note_path(folder), to_toml(wanted));
}

void check_evaluation(const EvaluateConfig& wanted, int64_t positions) {
    for (const std::string& text : wanted.text)
        if (!fs::exists(text))
            throw UserError(
                fmt::format("no text at {}; [evaluate] text and --text are relative to the current folder", text));
    if (wanted.cache > positions)
        throw UserError(fmt::format("evaluate.cache = {} is longer than the {} positions the cells are trained on",
                                    wanted.cache, positions));
}

}  // namespace ballast::sweep
