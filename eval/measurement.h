// Measurements: what `ballast eval … --json` writes, and reports, sweeps and the page read.
//
// A kind is a type with to_json() and from_json() (eval/results_json.h), figures() (eval/figures.h) and same_subject(),
// and a row in measurement.cpp. Nothing else names the kinds: a new one costs its type and its row.
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

/// One alternative a kind.
using Metrics = std::variant<StreamingResult, SinkResult, LastQueryResult, OutlierResult, EncoderSinkResult>;

struct Measurement {
    Metrics metrics;
    int64_t step = -1;  // of the checkpoint that was measured; -1: unknown
    std::string file;   // it was read from
};

/// {"kind", "step", "metrics"}, as the page has it; the kinds are "streaming", "sinks",
/// "last_query", "outliers" and "encoder_sinks".
nlohmann::ordered_json to_json(const Measurement& measurement);

/// Puts `measurement` in the place of one of the same thing (the same cell of the cache table, for one), or at the end.
/// That of the later checkpoint holds; of one checkpoint, the one that is put in later.
void put(std::vector<Measurement>& into, Measurement measurement);

/// What was measured on one model at one time.
struct MeasuredModel {
    std::string model;  // the run folder, checkpoint file or Hugging Face folder, as it was named
    int64_t step = -1;
    std::vector<Metrics> metrics;
    std::string dtype = {};    // it was computed in; empty: unknown
    std::string weights = {};  // what its matrices were kept as; empty: the same
};

/// The file of one model (`eval streaming`, `eval sinks`, `eval outliers`).
void write_measurements(const std::string& path, const MeasuredModel& model);
/// The file of several (`eval table`); `cache`: total positions of their bounded policies.
void write_measurement_table(const std::string& path, int64_t cache, const std::vector<MeasuredModel>& models);

/// The models of either file, each with at least one measurement. UserError, naming the file, when it cannot be read or
/// is another one.
std::vector<MeasuredModel> read_measurements(const std::string& path);

}  // namespace ballast::eval
