// Hugging Face folders: config.json and model.safetensors of every family (model/family.h), in and out.
//
// What a family's files cannot say is said in keys of ours (docs/formats.md): ballast_normaliser,
// ballast_num_sink_tokens, ballast_sink_token_id, ballast_position, ballast_gate, ballast_attention_span. A model that
// transformers would compute wrongly (a normaliser other than softmax, a gate, no positions, windows its family does
// not have) is exported with model_type "ballast_<model_type>", which transformers refuses instead. Sink tokens alone
// are ordinary vocabulary ids, so such models load there; their user prepends the ids.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/safetensors.h"
#include "model/weights.h"

namespace ballast::model {

/// config.json of `folder` in the spellings of transformers 4 and 5. UserError naming file and key when it is missing,
/// damaged, another architecture, or asks for what we do not have.
ModelConfig read_hugging_face_config(const std::string& folder);

/// Fills the weights from model.safetensors or its shards. Accepts embed_out.weight and lm_head.weight for each other;
/// passes over the buffers of old files (attention.bias, attention.masked_bias, rotary_emb.inv_freq). UserError naming
/// every missing, unknown or misshapen tensor once.
void read_hugging_face_weights(const std::string& folder, Context& context, Weights& weights);

struct ExportOptions {
    Dtype dtype = Dtype::f32;  // f32, bf16 or f16
    std::string hidden_act;    // written instead of the activation the model was trained with, when not empty
    int64_t max_shard_bytes = SafetensorsFolderWriter::kDefaultShardBytes;
    int64_t end_of_text_id = 0;
    int64_t begin_of_text_id = -1;  // -1: end_of_text_id
    std::function<void()> write_others = [] {};  // the folder's other files, such as the tokenizer's
};

/// Writes the weights, the other files, generation_config.json and config.json, which it first removes: a folder that has
/// one is a whole export, even after a kill. UserError for positions that the family's files cannot
/// say (ALiBi of GPT-NeoX), and for a weight beyond the range of fp16.
void write_hugging_face(const std::string& folder, const Context& context, const ModelConfig& config,
                        const Weights& weights, const ExportOptions& options);

}  // namespace ballast::model
