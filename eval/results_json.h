// Results as the files of `ballast eval … --json` (docs/formats.md).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "eval/sinks.h"
#include "eval/streaming.h"

namespace ballast::eval {

nlohmann::ordered_json to_json(const StreamingResult& result);
/// Without the maps, which go to a safetensors file (write_maps).
nlohmann::ordered_json to_json(const SinkResult& result);
/// The mean maps as `attention` f32 [layers, heads, length, length] of a safetensors file.
void write_maps(const std::string& path, const SinkResult& result);

}  // namespace ballast::eval
