// Cache policies by name, for whoever lets a user choose one.
#pragma once

#include <string>
#include <vector>

#include "infer/cache_plan.h"
#include "model/config.h"

namespace ballast::infer {

/// What a user says about a cache; a policy reads what is its own.
struct PolicyChoice {
    std::string policy = "dense";
    int64_t sinks = -1;  // positions kept at the start; -1: four, or the model's sink tokens where those are more; of
                         // infllm a block
    int64_t cache = 0;   // positions in all; 0: half of what the model was trained on
    std::string plan = {};  // file of a mixture of spans (infer/span_plan.h)
    int64_t heavy = -1;     // positions kept by score; -1: a quarter of what the model was trained on
    int64_t recent = 0;     // the last positions beside those, or beside a memory; 0: a quarter, too
    int64_t blocks = -1;    // of 64 positions that a query reads from a memory; -1: as many as make a quarter
};

std::vector<std::string> policy_names();
/// The plan for a model and texts of at most `longest` positions, by which a mixture's spans are. UserError for an
/// unknown name, for settings that are another policy's, for a cache that keeps no recent position, and as
/// cache_plan().
CachePlan make_plan(const PolicyChoice& choice, const model::ModelConfig& config, int64_t longest);

}  // namespace ballast::infer
