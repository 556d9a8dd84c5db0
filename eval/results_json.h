// Results as the files of `ballast eval … --json` hold them (docs/formats.md).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "eval/sinks.h"
#include "eval/streaming.h"

namespace ballast::eval {

/// Without the losses of single tokens.
nlohmann::ordered_json to_json(const StreamingResult& result);
/// Without the maps, which go to a safetensors file (write_maps).
nlohmann::ordered_json to_json(const SinkResult& result);

/// Read what to_json() wrote, in this version or an older one. They throw UserError or nlohmann's exceptions.
void from_json(const nlohmann::json& json, StreamingResult& result);
void from_json(const nlohmann::json& json, SinkResult& result);

/// The mean maps as `attention` f32 [layers, heads, length, length] of a safetensors file.
void write_maps(const std::string& path, const SinkResult& result);

}  // namespace ballast::eval
