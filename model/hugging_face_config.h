// The config.json of an export.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "model/config.h"

namespace ballast::model {

/// The keys of the model's family and ours; UserError for positions that the family's files cannot say.
nlohmann::ordered_json hugging_face_config(const ModelConfig& config);

}  // namespace ballast::model
