// Hugging Face folders: config.json and model.safetensors of GPT-NeoX, in and out.
//
// What GPT-NeoX cannot say is said in keys of ours (docs/formats.md): ballast_normaliser, ballast_num_sink_tokens,
// ballast_sink_token_id, ballast_position. A model that transformers would compute wrongly (a normaliser other than
// softmax, no positions) is exported with model_type "ballast_gpt_neox", which transformers refuses instead. Sink
// tokens alone are ordinary vocabulary ids, so such models load there; their user prepends the ids.
#pragma once

#include <cstdint>
#include <string>

#include "base/safetensors.h"
#include "model/weights.h"

namespace ballast::model {

/// config.json of `folder` in the spellings of transformers 4 and 5. UserError naming file and key when it is missing,
/// damaged, another architecture, or asks for what we do not have.
ModelConfig read_hugging_face_config(const std::string& folder);

/// Fills the weights from model.safetensors or its shards. Accepts embed_out.weight or lm_head.weight; passes over the
/// buffers of old files (attention.bias, attention.masked_bias, rotary_emb.inv_freq). UserError for a missing, unknown
/// or misshapen tensor.
void read_hugging_face_weights(const std::string& folder, Context& context, Weights& weights);

struct ExportOptions {
    Dtype dtype = Dtype::f32;  // f32, bf16 or f16
    std::string hidden_act;    // written instead of the activation the model was trained with, when not empty
    int64_t max_shard_bytes = SafetensorsFolderWriter::kDefaultShardBytes;
    int64_t end_of_text_id = 0;
};

/// Writes config.json, generation_config.json and the weights. UserError for ALiBi, which GPT-NeoX does not have, and
/// for a weight beyond the range of fp16.
void write_hugging_face(const std::string& folder, const Context& context, const ModelConfig& config,
                        const Weights& weights, const ExportOptions& options);

}  // namespace ballast::model
