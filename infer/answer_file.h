// Answers as JSON: what `ballast generate --json` writes, and reads again to go on with a file of prompts.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "infer/engine.h"

namespace ballast::infer {

struct AnsweredPrompt {
    std::vector<int32_t> prompt_ids;  // without the model's sink tokens
    std::string text;                 // of the answer
    Answer answer;
    std::string settings = {};  // that it was made with; empty: unknown
};

/// {"prompt_ids", "ids", "text", "logprobs", "finish"}; "top_logprobs" where `with_alternatives`, "settings" where
/// known.
nlohmann::ordered_json to_json(const AnsweredPrompt& answered, bool with_alternatives);

/// A list of such objects. UserError that names the file and the object when it is anything else.
std::vector<AnsweredPrompt> read_answers(const std::string& path);

}  // namespace ballast::infer
