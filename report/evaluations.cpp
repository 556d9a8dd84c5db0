#include "report/evaluations.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_figure.h"
#include "base/json_file.h"

namespace ballast::report {
namespace {

namespace fs = std::filesystem;
using nlohmann::json, nlohmann::ordered_json;

/// Only what the page shows, each of the type it has to be: nlohmann throws where one is not.
ordered_json checked_cell(const json& cell) {
    ordered_json curve = ordered_json::array();
    for (const json& point : cell.at("curve"))
        curve.push_back({point.at("position").get<int64_t>(), point.at("tokens").get<int64_t>(),
                         json_figure(read_figure(point.at("loss")))});
    ordered_json out{{"policy", cell.at("policy").get<std::string>()}};
    for (const char* name : {"sinks", "cache", "tokens", "of_tokens"}) out[name] = cell.at(name).get<int64_t>();
    out["non_finite"] = cell.value("non_finite", int64_t{0});
    out["perplexity"] = json_figure(read_figure(cell.at("perplexity")));
    out["curve"] = curve;
    return out;
}

ordered_json checked_sinks(const json& sinks) {
    ordered_json layers = ordered_json::array();
    for (const json& layer : sinks.at("layers"))
        layers.push_back({{"share", json_figures(read_figures(layer.at("share")))},
                          {"share_std", json_figures(read_figures(layer.at("share_std")))}});
    return {{"length", sinks.at("length").get<int64_t>()},
            {"sequences", sinks.at("sequences").get<int64_t>()},
            {"epsilon", sinks.at("epsilon").get<double>()},
            {"sink_rate", json_figures(read_figures(sinks.at("sink_rate")))},
            {"layers", layers}};
}

bool same_cell(const ordered_json& a, const ordered_json& b) {
    return a["policy"] == b["policy"] && a["sinks"] == b["sinks"] && a["cache"] == b["cache"];
}

void add(Evaluations& to, const json& model) {
    const int64_t step = model.value("step", int64_t{-1});
    if (model.contains("results")) {
        for (const json& result : model["results"]) {
            ordered_json cell = checked_cell(result);
            const auto found =
                std::find_if(to.cells.begin(), to.cells.end(), [&](const auto& old) { return same_cell(old, cell); });
            if (found == to.cells.end())
                to.cells.push_back(std::move(cell));
            else
                *found = std::move(cell);
        }
        to.cells_step = step;
    }
    if (model.contains("sinks")) {
        to.sinks = checked_sinks(model["sinks"]);
        to.sinks_step = step;
    }
}

bool is_run(const json& model, const std::string& run) {
    const fs::path named = model.at("model").get<std::string>();
    std::error_code error;
    if (fs::equivalent(named, run, error)) return true;
    return !fs::exists(named, error) &&  // made elsewhere: the folder's name has to do
           named.lexically_normal().filename() == fs::canonical(run).filename();
}

/// The file's models; a result of one model is the list of it.
json models_of(const json& file) {
    if (file.contains("models")) return file["models"];
    if (file.contains("results") || file.contains("sinks")) return json::array({file});
    throw UserError("");
}

void read_folder(const std::string& run, Evaluations& to) {
    std::vector<fs::path> files;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(fs::path(run) / "eval", error))
        if (entry.path().extension() == ".json") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
        try {
            const json models = models_of(read_json_file(file.string()));
            for (const json& model : models)
                if (models.size() == 1 || is_run(model, run)) add(to, model);
        } catch (const std::exception&) {
            to.notes.push_back(fmt::format("{} is not a file of ballast eval and was passed over", file.string()));
        }
    }
}

}  // namespace

Evaluations read_evaluations(const std::string& run, const std::vector<std::string>& tables) {
    Evaluations out;
    out.cells = ordered_json::array();
    read_folder(run, out);
    for (const std::string& table : tables) {
        const json file = read_json_file(table);
        try {
            for (const json& model : models_of(file))
                if (is_run(model, run)) add(out, model);
        } catch (const std::exception&) {
            throw UserError(
                fmt::format("{} is not a table; make it with ballast eval table RUN… --json {}", table, table));
        }
    }
    return out;
}

}  // namespace ballast::report
