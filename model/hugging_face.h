// Reads and writes Hugging Face folders: config.json and model.safetensors of every family (model/family.h).
//
// Settings that a family's files cannot express have keys of our own (docs/formats.md): ballast_normaliser,
// ballast_num_sink_tokens, ballast_sink_token_id, ballast_position, ballast_gate, ballast_attention_span. Some models
// would be computed wrongly by transformers: those with a normaliser other than softmax, a gate, no positions, windows
// that their family does not have, or windows and sink tokens, which ours see through them. They are exported with
// model_type "ballast_<model_type>", which transformers refuses. Sink tokens are ordinary vocabulary ids: a model whose
// only extension is sink tokens loads in transformers, and the user prepends the ids.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/safetensors.h"
#include "model/weights.h"

namespace ballast::model {

/// Reads config.json of `folder` in the spellings of transformers 4 and 5. UserError that names the file and the key
/// when it is missing or damaged, is for another architecture, or asks for an unsupported feature.
ModelConfig read_hugging_face_config(const std::string& folder);

/// Reads the weights from model.safetensors or its shards. embed_out.weight and lm_head.weight are accepted for each
/// other. The buffers of old files (attention.bias, attention.masked_bias, rotary_emb.inv_freq) are skipped. One
/// UserError names every tensor that is missing, unknown or of the wrong shape.
void read_hugging_face_weights(const std::string& folder, Context& context, Weights& weights);

/// Of config.json and generation_config.json. Negative: there is none.
struct SpecialTokenIds {
    int64_t begin = -1, pad = -1;
    std::vector<int64_t> end = {};
    bool says_none = true;  // null for what is not there: for an absent key transformers takes an id of its own
};

struct ExportOptions {
    Dtype dtype = Dtype::f32;  // f32, bf16 or f16
    std::string hidden_act;    // written instead of the activation the model was trained with, when not empty
    int64_t max_shard_bytes = SafetensorsFolderWriter::kDefaultShardBytes;
    SpecialTokenIds token_ids;
    std::optional<SpecialTokenIds> generation_ids;  // where generation_config.json has others
    std::function<void()> write_others = [] {};     // the folder's other files, such as the tokenizer's
};

/// Writes the weights, the other files, generation_config.json and config.json. An existing config.json is removed
/// first and the new one is written last: so a folder with a config.json is a complete export, even after a kill.
/// UserError for positions that the family's files cannot express (ALiBi in GPT-NeoX), and for a weight beyond the
/// range of fp16.
void write_hugging_face(const std::string& folder, const Context& context, const ModelConfig& config,
                        const Weights& weights, const ExportOptions& options);

}  // namespace ballast::model
