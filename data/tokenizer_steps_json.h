// Reads and writes the steps of a pipeline in tokenizer.json.
#pragma once

#include "data/tokenizer_fields.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {

using OrderedJson = nlohmann::ordered_json;  // keeps insertion order, but look-up is linear: for writing only

/// Reads "normalizer", "pre_tokenizer", "post_processor" and "decoder" of the file's root into `spec`. UserError,
/// naming the field, for an unsupported step and an invalid setting.
void read_pipeline(const Fields& root, TokenizerSpec& spec);

/// The same stages as JSON: null for none, a Sequence for several steps.
OrderedJson normalizer_json(const TokenizerSpec& spec);
OrderedJson pre_tokenizer_json(const TokenizerSpec& spec);
OrderedJson post_processor_json(const TokenizerSpec& spec);
OrderedJson decoder_json(const TokenizerSpec& spec);

/// The file's names of the choices, in the order of the enumerations.
inline constexpr std::string_view kBehaviorNames[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                                      "Contiguous"};
inline constexpr std::string_view kPrependSchemeNames[] = {"always", "first", "never"};

}  // namespace ballast::data
