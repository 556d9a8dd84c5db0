// Measurements: written by `ballast eval … --json`; read by reports, sweeps and the page.
//
// A kind of measurement is a type with to_json() and from_json() (eval/results_json.h), figures() (eval/figures.h) and
// same_subject(), and a row in measurement.cpp. No other code names the kinds: a new kind needs only its type and its
// row.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>
#include <vector>

#include "eval/encoder_sinks.h"
#include "eval/last_query.h"
#include "eval/outliers.h"
#include "eval/sinks.h"
#include "eval/streaming.h"

namespace ballast::eval {

/// One alternative per kind.
using Metrics = std::variant<StreamingResult, SinkResult, LastQueryResult, OutlierResult, EncoderSinkResult>;

struct Measurement {
    Metrics metrics;
    int64_t step = -1;  // of the checkpoint that was measured; -1: unknown
    std::string file;   // the file that it was read from
    std::string weights = {};  // the dtype of the model's matrices; empty: as the model computes
    std::string text = {};     // MeasuredModel::text
};

/// {"kind", "step", "metrics"} and, where it is not empty, "weights", in the page's format. The kinds are "streaming",
/// "sinks", "last_query", "outliers" and "encoder_sinks".
nlohmann::ordered_json to_json(const Measurement& measurement);

/// Replaces the measurement of the same subject (for example the same cell of the cache table) under the same weights
/// by `measurement`, or appends it. The measurement of the later checkpoint is kept; for the same checkpoint, the one
/// that is put in later.
void put(std::vector<Measurement>& into, Measurement measurement);

/// The measurements on one model at one time.
struct MeasuredModel {
    std::string model;  // the run folder, checkpoint file or Hugging Face folder, as the user named it
    int64_t step = -1;
    std::vector<Metrics> metrics;
    std::string dtype = {};    // the compute dtype; empty: unknown
    std::string weights = {};  // the dtype of its matrices; empty: the same
    std::string text = {};     // what was read (report::text_label()); empty: unknown
};

/// Writes the file of one model (`eval streaming`, `eval sinks`, `eval outliers`).
void write_measurements(const std::string& path, const MeasuredModel& model);
/// Writes the file of several models (`eval table`); `cache`: total positions of their bounded policies.
void write_measurement_table(const std::string& path, int64_t cache, const std::vector<MeasuredModel>& models);

/// Reads the models of either kind of file, each with at least one measurement. UserError, naming the file, when it
/// cannot be read or has another format.
std::vector<MeasuredModel> read_measurements(const std::string& path);

}  // namespace ballast::eval
