// Results in the JSON of `ballast eval … --json` files (docs/formats.md).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "eval/encoder_sinks.h"
#include "eval/last_query.h"
#include "eval/outliers.h"
#include "eval/sinks.h"
#include "eval/streaming.h"

namespace ballast::eval {

/// Without the losses of single tokens.
nlohmann::ordered_json to_json(const StreamingResult& result);
/// Without the maps, which go to a safetensors file (write_maps).
nlohmann::ordered_json to_json(const SinkResult& result);
nlohmann::ordered_json to_json(const LastQueryResult& result);
nlohmann::ordered_json to_json(const OutlierResult& result);
/// Without the maps.
nlohmann::ordered_json to_json(const EncoderSinkResult& result);

/// These read what to_json() wrote, in this version or an older one. They throw UserError or nlohmann's exceptions.
void from_json(const nlohmann::json& json, StreamingResult& result);
void from_json(const nlohmann::json& json, SinkResult& result);
void from_json(const nlohmann::json& json, LastQueryResult& result);
void from_json(const nlohmann::json& json, OutlierResult& result);
void from_json(const nlohmann::json& json, EncoderSinkResult& result);

/// Writes the mean maps to a safetensors file: `attention` (weights) and `attention_logits` f32 [layers, heads, length,
/// length].
void write_maps(const std::string& path, const SinkResult& result);
void write_maps(const std::string& path, const EncoderSinkResult& result);

}  // namespace ballast::eval
