// Cache policies by name, for interfaces in which a user chooses one.
#pragma once

#include <string>
#include <vector>

#include "infer/cache_plan.h"
#include "model/config.h"

namespace ballast::infer {

/// A user's cache settings. Each policy reads its own settings.
struct PolicyChoice {
    std::string policy = "dense";
    int64_t sinks = -1;  // positions kept at the start; -1: four, or the number of the model's sink tokens if that is
                         // larger; for infllm: one block
    int64_t cache = 0;   // positions in all; 0: half of the trained length
    std::string plan = {};  // file of a mixture of spans (infer/span_plan.h)
    int64_t heavy = -1;     // positions kept by score; -1: a quarter of the trained length
    int64_t recent = 0;     // the last positions, besides those or besides a memory; 0: a quarter too
    int64_t blocks = -1;    // blocks of 64 positions that a query reads from a memory; -1: as many as make a quarter
};

std::vector<std::string> policy_names();
/// The plan for a model and for texts of at most `longest` positions; a mixture's spans depend on `longest`. UserError
/// for an unknown name, for settings of another policy, for a cache that keeps no recent position, and as for
/// cache_plan().
CachePlan make_plan(const PolicyChoice& choice, const model::ModelConfig& config, int64_t longest);

}  // namespace ballast::infer
