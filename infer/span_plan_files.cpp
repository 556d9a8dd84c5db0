// Plans in files: {alphas, betas} JSON and DuoAttention's scores.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json_file.h"
#include "infer/span_plan.h"

namespace ballast::infer {
namespace {

using nlohmann::json, nlohmann::ordered_json;

int64_t whole_number(const json& object, const char* key, const std::string& source) {
    if (!object.is_object() || !object.contains(key) || !object[key].is_number_integer() ||
        (object[key].is_number_unsigned() &&
         object[key].get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())))
        throw UserError(fmt::format("{}: \"{}\" must be a whole number", source, key));
    return object[key].get<int64_t>();
}

double number(const json& object, const char* key, const std::string& source) {
    if (!object.is_object() || !object.contains(key) || !object[key].is_number())
        throw UserError(fmt::format("{}: \"{}\" must be a number", source, key));
    return object[key].get<double>();
}

/// [layers][entries], every layer as long as the first.
std::vector<std::vector<double>> table_of(const json& file, const char* key, const std::string& source) {
    const auto refuse = [&](const std::string& where) {
        return UserError(
            fmt::format("{}: \"{}\"{} must be a list of layers, each a list of as many numbers", source, key, where));
    };
    if (!file.contains(key) || !file[key].is_array() || file[key].empty()) throw refuse("");
    std::vector<std::vector<double>> out;
    for (const json& layer : file[key]) {
        const std::string where = fmt::format("[{}]", out.size());
        if (!layer.is_array() || layer.empty() || (!out.empty() && layer.size() != out.front().size()))
            throw refuse(where);
        std::vector<double>& values = out.emplace_back();
        for (const json& value : layer) {
            if (!value.is_number()) throw refuse(where);
            values.push_back(value.get<double>());
        }
    }
    return out;
}

void read_rules(const json& file, const std::string& source, SpanPlan& plan) {
    const auto alphas = table_of(file, "alphas", source), betas = table_of(file, "betas", source);
    if (alphas.size() != betas.size() || alphas.front().size() != betas.front().size())
        throw UserError(fmt::format("{}: \"alphas\" is {} by {}, but \"betas\" is {} by {}", source, alphas.size(),
                                    alphas.front().size(), betas.size(), betas.front().size()));
    plan.layers = std::ssize(alphas);
    plan.entries = std::ssize(alphas.front());
    for (size_t l = 0; l < alphas.size(); ++l)
        for (size_t e = 0; e < alphas[l].size(); ++e) plan.rules.push_back({alphas[l][e], betas[l][e]});
}

/// The keys that MoA's files do not have.
void read_own_keys(const json& file, const std::string& source, SpanPlan& plan) {
    if (file.contains("block")) plan.block = plan.sinks = whole_number(file, "block", source);
    if (file.contains("sinks")) plan.sinks = whole_number(file, "sinks", source);
    if (file.contains("model")) {
        const json& model = file["model"];
        const std::string where = source + ": model";
        plan.shape = {whole_number(model, "layers", where), whole_number(model, "heads", where),
                      whole_number(model, "key_value_heads", where)};
    }
    if (file.contains("length_range")) {
        const json& range = file["length_range"];
        if (!range.is_array() || range.size() != 2 || !range[0].is_number_integer() || !range[1].is_number_integer())
            throw UserError(fmt::format("{}: \"length_range\" must be two whole numbers", source));
        plan.range = {range[0].get<int64_t>(), range[1].get<int64_t>()};
    }
    if (!file.contains("figures")) return;
    if (!file["figures"].is_array()) throw UserError(fmt::format("{}: \"figures\" must be a list", source));
    for (const json& figure : file["figures"]) {
        const std::string where = source + ": figures";
        PlanFigure& out = plan.figures.emplace_back();
        out.length = whole_number(figure, "length", where);
        out.density = number(figure, "density", where);
        if (figure.contains("loss")) out.loss = number(figure, "loss", where);
    }
}

SpanPlan read_json_plan(const std::string& path) {
    const json file = read_json_file(path);
    if (!file.is_object())
        throw UserError(fmt::format("{}: a plan is a JSON object with \"alphas\" and \"betas\"", path));
    SpanPlan plan;
    read_rules(file, path, plan);
    read_own_keys(file, path, plan);
    plan.validate(path);
    return plan;
}

/// Written as a whole number where it is one, as people read these files.
ordered_json plain(double value) {
    if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
    return value;
}

std::vector<double> scores_of_line(std::string_view line, const std::string& place) {
    std::vector<double> out;
    const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
    while (true) {
        line.remove_prefix(static_cast<size_t>(std::find_if_not(line.begin(), line.end(), blank) - line.begin()));
        if (line.empty()) return out;
        double score = 0;
        const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), score);
        const bool whole = end == line.data() + line.size() || blank(*end);
        if (error != std::errc{} || !whole || !std::isfinite(score))
            throw UserError(fmt::format("{}: not a number a head; DuoAttention's tables hold nothing else", place));
        out.push_back(std::clamp(score, 0.0, 1.0));
        line.remove_prefix(static_cast<size_t>(end - line.data()));
    }
}

std::vector<std::vector<double>> read_scores(const std::string& path) {
    std::istringstream text(read_file(path));
    std::vector<std::vector<double>> layers;
    int64_t number = 0;
    for (std::string line; std::getline(text, line);) {
        const std::string place = fmt::format("{}:{}", path, ++number);
        std::vector<double> scores = scores_of_line(line, place);
        if (scores.empty()) continue;
        if (!layers.empty() && scores.size() != layers.front().size())
            throw UserError(
                fmt::format("{}: {} heads where the first layer has {}", place, scores.size(), layers.front().size()));
        layers.push_back(std::move(scores));
    }
    if (layers.empty()) throw UserError(fmt::format("{}: no scores in it", path));
    return layers;
}

}  // namespace

bool is_score_table(const std::string& path) { return path.ends_with(".tsv"); }

SpanPlan read_span_plan(const std::string& path) {
    return is_score_table(path) ? read_duo_plan(path, {}) : read_json_plan(path);
}

void require_plan_name(const std::string& path) {
    if (is_score_table(path))
        throw UserError(
            fmt::format("{}: a plan of this name would be read as DuoAttention's scores; choose a name that ends in "
                        ".json",
                        path));
}

void write_span_plan(const std::string& path, const SpanPlan& plan) {
    require_plan_name(path);
    ordered_json alphas = ordered_json::array(), betas = ordered_json::array(), figures = ordered_json::array();
    for (int64_t l = 0; l < plan.layers; ++l) {
        ordered_json& alpha = alphas.emplace_back(ordered_json::array());
        ordered_json& beta = betas.emplace_back(ordered_json::array());
        for (int64_t e = 0; e < plan.entries; ++e) {
            alpha.push_back(plain(plan.rule(l, e).alpha));
            beta.push_back(plain(plan.rule(l, e).beta));
        }
    }
    ordered_json file{{"alphas", alphas}, {"betas", betas}, {"block", plan.block}, {"sinks", plan.sinks}};
    if (plan.shape)
        file["model"] = {
            {"layers", plan.shape->layers}, {"heads", plan.shape->heads}, {"key_value_heads", plan.shape->kv_heads}};
    if (plan.range) file["length_range"] = {plan.range->shortest, plan.range->longest};
    for (const PlanFigure& figure : plan.figures) {
        figures.push_back({{"length", figure.length}, {"density", figure.density}});
        if (figure.loss) figures.back()["loss"] = *figure.loss;
    }
    if (!figures.empty()) file["figures"] = figures;
    write_json_file(path, file);
}

SpanPlan read_duo_plan(const std::string& path, const DuoOptions& options) {
    const auto scores = read_scores(path);
    SpanPlan plan;
    plan.layers = std::ssize(scores);
    plan.entries = std::ssize(scores.front());
    plan.block = options.block;
    plan.sinks = options.sinks;
    const SpanRule full{0, 1}, streaming{static_cast<double>(options.sinks) + static_cast<double>(options.recent), 0};
    for (const auto& layer : scores)
        for (const double score : layer) plan.rules.push_back(score >= options.threshold ? full : streaming);
    plan.validate(path);
    return plan;
}

}  // namespace ballast::infer
