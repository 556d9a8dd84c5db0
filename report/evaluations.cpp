#include "report/evaluations.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "model/bert.h"

namespace ballast::report {
namespace {

namespace fs = std::filesystem;

void add(Evaluations& to, eval::MeasuredModel model, const std::string& file) {
    for (eval::Metrics& metrics : model.metrics)
        put(to.measurements, {std::move(metrics), model.step, file, model.weights, model.text});
}

bool is_run(const eval::MeasuredModel& model, const std::string& run) {
    const fs::path named = model.model;
    std::error_code error;
    if (fs::equivalent(named, run, error)) return true;
    return !fs::exists(named, error) &&  // made elsewhere: the folder's name has to do
           named.lexically_normal().filename() == fs::canonical(run, error).filename();
}

void read_folder(const std::string& run, Evaluations& to) {
    std::vector<fs::path> files;
    for (const fs::path entry : entries_of((fs::path(run) / "eval").string()))
        if (entry.extension() == ".json") files.push_back(entry);
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
        try {
            std::vector<eval::MeasuredModel> models = eval::read_measurements(file.string());
            for (eval::MeasuredModel& model : models)
                if (models.size() == 1 || is_run(model, run)) add(to, std::move(model), file.string());
        } catch (const UserError& refused) {
            to.notes.push_back(fmt::format("passed over: {}", refused.what()));
        }
    }
}

}  // namespace

bool is_model_folder(const std::string& folder) {
    std::error_code error;
    const auto has = [&](const char* name) { return fs::exists(fs::path(folder) / name, error); };
    return has("config.json") && !has("metrics.jsonl") && !has("status.json");
}

bool is_encoder_folder(const std::string& folder) { return is_model_folder(folder) && model::is_bert_folder(folder); }

Evaluations read_evaluations(const std::string& run, const std::vector<std::string>& tables) {
    Evaluations out;
    read_folder(run, out);
    for (const std::string& table : tables) {
        for (eval::MeasuredModel& model : eval::read_measurements(table))
            if (is_run(model, run)) add(out, std::move(model), table);
    }
    return out;
}

}  // namespace ballast::report
