// The config.json of an export.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "model/config.h"

namespace ballast::model {

/// The family's keys and our own. UserError for positions that the family's files cannot express.
nlohmann::ordered_json hugging_face_config(const ModelConfig& config);

}  // namespace ballast::model
