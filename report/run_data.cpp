#include "report/run_data.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.h"
#include "base/config_toml.h"
#include "base/json_depth.h"
#include "base/utf8_cut.h"
#include "model/hugging_face.h"
#include "report/metrics_log.h"
#include "train/run_config.h"

namespace ballast::report {
namespace {

namespace fs = std::filesystem;
using nlohmann::json, nlohmann::ordered_json;

std::string read_if_there(const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error) ? read_file(path.string()) : "";
}

/// Six figures: what a plot can show. Not finite: null.
ordered_json rounded(double value) {
    if (!std::isfinite(value)) return nullptr;
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return std::strtod(text, nullptr);
}

ordered_json rounded(const std::vector<double>& values) {
    ordered_json out = ordered_json::array();
    for (double value : values) {
        if (value == std::floor(value) && std::fabs(value) < 1e15)
            out.push_back(static_cast<int64_t>(value));  // steps and tokens are exact
        else
            out.push_back(rounded(value));
    }
    return out;
}

std::vector<double> at_ends(const std::vector<double>& values, const std::vector<size_t>& ends) {
    std::vector<double> out;
    for (size_t end : ends) out.push_back(values[end - 1]);
    return out;
}

ordered_json series_json(const Buckets& buckets, bool bucketed) {
    ordered_json out{{"mean", rounded(buckets.mean)}};
    if (bucketed) out.update({{"min", rounded(buckets.min)}, {"max", rounded(buckets.max)}});
    return out;
}

ordered_json metrics_json(const MetricsLog& log) {
    const size_t lines = log.step.size();
    const std::vector<size_t> ends = bucket_ends(lines, kMostPoints),
                              validations = bucket_ends(log.validation_step.size(), kMostPoints);
    ordered_json series = ordered_json::object();
    for (size_t i = 0; i < kMetricNames.size(); ++i) {
        const Buckets buckets = downsample(log.values[i], ends);
        const bool any = std::any_of(buckets.mean.begin(), buckets.mean.end(), [](double x) { return !std::isnan(x); });
        if (any) series[std::string(kMetricNames[i])] = series_json(buckets, lines > ends.size());
    }
    return {{"lines", lines},
            {"step", rounded(at_ends(log.step, ends))},
            {"tokens", rounded(at_ends(log.tokens, ends))},
            {"series", series},
            {"validation",
             {{"step", rounded(at_ends(log.validation_step, validations))},
              {"tokens", rounded(at_ends(log.validation_tokens, validations))},
              {"mean", rounded(downsample(log.validation_loss, validations).mean)}}},
            {"seconds", rounded(log.seconds)},
            {"skipped", log.skipped_steps},
            {"ignored", log.lines_ignored}};
}

ordered_json samples_json(const std::string& text) {
    std::vector<ordered_json> all;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const json sample = json::parse(line, nullptr, false);
        if (!sample.is_object() || !sample.contains("text") || !sample["text"].is_string()) continue;
        const auto prompt = sample.find("prompt");
        all.push_back(
            {{"step", sample.contains("step") && sample["step"].is_number() ? sample["step"] : json()},
             {"prompt", shortened(prompt != sample.end() && prompt->is_string() ? prompt->get<std::string>() : "",
                                  kLongestSample)},
             {"text", shortened(sample["text"].get<std::string>(), kLongestSample)}});
    }
    ordered_json list = ordered_json::array();
    for (size_t end : bucket_ends(all.size(), kMostSamples)) list.push_back(all[end - 1]);
    return {{"total", all.size()}, {"list", list}};
}

ordered_json parameters_json(const model::ModelConfig& config) {
    const model::ParameterTable table(config);
    ordered_json rows = ordered_json::array();
    std::map<std::string, size_t> place;  // one row for all layers
    for (const auto& row : table.rows()) {
        std::string name = row.name;
        const std::string layer = fmt::format(".{}.", row.layer);
        if (const size_t at = name.find(layer); row.layer >= 0 && at != std::string::npos)
            name.replace(at, layer.size(), ".*.");
        const auto [found, fresh] = place.emplace(name, rows.size());
        if (fresh)
            rows.push_back({{"name", name}, {"shape", row.shape}, {"decay", row.decay}, {"tensors", 0}, {"count", 0}});
        ordered_json& sum = rows[found->second];
        sum["tensors"] = sum["tensors"].get<int64_t>() + 1;
        sum["count"] = sum["count"].get<int64_t>() + row.count;
    }
    return {{"total", table.num_parameters()}, {"rows", rows}};
}

/// The configuration of a run as far as this version understands it.
std::optional<train::RunConfig> parsed_config(const std::string& text) {
    if (text.empty()) return std::nullopt;
    try {
        train::RunConfig config;
        load_toml_text(config, text, "config.toml");
        config.model.validate();
        constexpr int64_t kMostLayers = 10000;  // a table of a hostile file's billion layers would fill the memory
        return config.model.num_layers <= kMostLayers ? std::optional(config) : std::nullopt;
    } catch (const UserError&) {
        return std::nullopt;
    }
}

/// That of a model's folder, as far as it is one we can run.
std::optional<model::ModelConfig> model_config(const std::string& folder) {
    if (!is_model_folder(folder) || is_encoder_folder(folder)) return std::nullopt;
    try {
        return model::read_hugging_face_config(folder);
    } catch (const UserError&) {
        return std::nullopt;
    }
}

/// What a model's folder says of a configuration: the fields of [model].
ConfigFields model_fields(const model::ModelConfig& config) {
    train::RunConfig run;
    run.model = config;
    ConfigFields out = config_fields(to_toml(run));
    std::erase_if(out, [](const auto& field) { return !field.first.starts_with("model."); });
    return out;
}

ordered_json parsed_or_null(const std::string& text) {
    if (is_deep_json(text)) return nullptr;
    const auto value = ordered_json::parse(text, nullptr, false);
    return value.is_object() ? value : ordered_json();
}

/// "2026-11-25 09:30", when the file was last written; empty when there is none.
std::string written(const fs::path& path) {
    std::error_code error;
    const auto time = fs::last_write_time(path, error);
    if (error) return "";
    const auto system = std::chrono::time_point_cast<std::chrono::seconds>(time - fs::file_time_type::clock::now() +
                                                                           std::chrono::system_clock::now());
    return fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(std::chrono::system_clock::to_time_t(system)));
}

}  // namespace

std::string shortened(const std::string& text, size_t bytes) {
    if (text.size() <= bytes) return text;
    return std::string(first_bytes(text, bytes)) + "…";
}

RunData read_run(const std::string& folder, const std::string& label, const std::vector<std::string>& tables) {
    const std::string text = read_if_there(fs::path(folder) / "config.toml");
    const auto config = parsed_config(text);
    const auto of_model = model_config(folder);
    return {folder, label, of_model ? model_fields(*of_model) : config_fields(config ? to_toml(*config) : text),
            read_evaluations(folder, tables)};
}

ordered_json to_json(const RunData& run) {
    const fs::path folder = run.folder;
    const MetricsLog log = parse_metrics(read_if_there(folder / "metrics.jsonl"));
    const auto config = parsed_config(read_if_there(folder / "config.toml"));
    ordered_json measurements = ordered_json::array();
    for (const eval::Measurement& measurement : run.evaluations.measurements)
        measurements.push_back(eval::to_json(measurement));
    ordered_json out{{"label", run.label},
                     {"folder", run.folder},
                     {"is_model", is_model_folder(run.folder)},
                     {"is_encoder", is_encoder_folder(run.folder)},
                     {"status", parsed_or_null(read_if_there(folder / "status.json"))},
                     {"updated", written(folder / "metrics.jsonl")},
                     {"metrics", metrics_json(log)},
                     {"samples", samples_json(read_if_there(folder / "samples.jsonl"))},
                     {"environment", parsed_or_null(read_if_there(folder / "environment.json"))},
                     {"measurements", measurements},
                     {"notes", run.evaluations.notes}};
    const auto describe = [&](const model::ModelConfig& model, int64_t context) {
        out["context"] = context;
        out["sink_tokens"] = model.num_sink_tokens;
        out["parameters"] = parameters_json(model);
    };
    if (config) {
        out["steps"] = config->train.steps;
        describe(config->model, config->train.sequence_length);
    } else if (const auto model = model_config(run.folder)) {
        describe(*model, model->max_position_embeddings);
    }
    return out;
}

}  // namespace ballast::report
