#include "eval/measurement.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "base/error.h"
#include "base/json_file.h"
#include "eval/results_json.h"

namespace ballast::eval {
namespace {

using nlohmann::json, nlohmann::ordered_json;

/// A kind's row: its name, the member of a file's model that holds it, and whether that member is a list.
struct KindRow {
    const char *name, *member;
    bool list;
};
template <class M>
inline constexpr KindRow kRow{};
template <>
inline constexpr KindRow kRow<StreamingResult>{"streaming", "results", true};
template <>
inline constexpr KindRow kRow<SinkResult>{"sinks", "sinks", false};
template <>
inline constexpr KindRow kRow<LastQueryResult>{"last_query", "last_queries", true};
template <>
inline constexpr KindRow kRow<OutlierResult>{"outliers", "outliers", false};
template <>
inline constexpr KindRow kRow<EncoderSinkResult>{"encoder_sinks", "encoder_sinks", false};

template <class M>
void read_kind(const json& model, std::vector<Metrics>& out) {
    const auto found = model.find(kRow<M>.member);
    if (found == model.end()) return;
    if (!kRow<M>.list)
        out.push_back(found->template get<M>());
    else if (!found->is_array())
        throw UserError(fmt::format("`{}` is no list", kRow<M>.member));
    else
        for (const json& one : *found) out.push_back(one.template get<M>());
}

template <class... M>
void read_kinds(const json& model, std::vector<Metrics>& out, std::type_identity<std::variant<M...>>) {
    (read_kind<M>(model, out), ...);
}

MeasuredModel read_model(const json& model) {
    MeasuredModel out;
    out.model = model.at("model").get<std::string>();
    out.step = model.value("step", int64_t{-1});
    out.dtype = model.value("dtype", "");
    out.weights = model.value("weights", "");
    out.text = model.value("text", "");
    read_kinds(model, out.metrics, std::type_identity<Metrics>());
    if (out.metrics.empty()) throw UserError("nothing was measured");
    return out;
}

ordered_json model_json(const MeasuredModel& model) {
    ordered_json out{{"model", model.model}, {"step", model.step}};
    if (!model.dtype.empty()) out["dtype"] = model.dtype;
    if (!model.weights.empty()) out["weights"] = model.weights;
    if (!model.text.empty()) out["text"] = model.text;
    for (const Metrics& metrics : model.metrics)
        std::visit(
            [&]<class M>(const M& m) {
                if (kRow<M>.list)
                    out[kRow<M>.member].push_back(to_json(m));
                else
                    out[kRow<M>.member] = to_json(m);
            },
            metrics);
    return out;
}

bool same(const Metrics& a, const Metrics& b) {
    return std::visit(
        []<class A, class B>(const A& x, const B& y) {
            if constexpr (std::is_same_v<A, B>)
                return same_subject(x, y);
            else
                return false;
        },
        a, b);
}

}  // namespace

ordered_json to_json(const Measurement& measurement) {
    return std::visit(
        [&]<class M>(const M& metrics) -> ordered_json {
            ordered_json out{{"kind", kRow<M>.name}, {"step", measurement.step}, {"metrics", to_json(metrics)}};
            if (!measurement.weights.empty()) out["weights"] = measurement.weights;
            return out;
        },
        measurement.metrics);
}

void put(std::vector<Measurement>& into, Measurement measurement) {
    const auto old = std::find_if(into.begin(), into.end(), [&](const Measurement& other) {
        return other.weights == measurement.weights && same(other.metrics, measurement.metrics);
    });
    if (old == into.end())
        into.push_back(std::move(measurement));
    else if (old->step <= measurement.step)
        *old = std::move(measurement);
}

void write_measurements(const std::string& path, const MeasuredModel& model) {
    write_json_file(path, model_json(model));
}

void write_measurement_table(const std::string& path, int64_t cache, const std::vector<MeasuredModel>& models) {
    ordered_json list = ordered_json::array();
    for (const MeasuredModel& model : models) list.push_back(model_json(model));
    write_json_file(path, ordered_json{{"cache", cache}, {"models", list}});
}

std::vector<MeasuredModel> read_measurements(const std::string& path) {
    const json file = read_json_file(path);
    try {
        if (!file.is_object()) throw UserError(fmt::format("it holds a {}", file.type_name()));
        if (!file.contains("models")) return {read_model(file)};
        std::vector<MeasuredModel> out;
        for (const json& model : file.at("models")) out.push_back(read_model(model));
        return out;
    } catch (const std::exception& error) {
        throw UserError(fmt::format("{} is not a file of ballast eval ({}); make it with ballast eval … --json {}",
                                    path, error.what(), path));
    }
}

}  // namespace ballast::eval
