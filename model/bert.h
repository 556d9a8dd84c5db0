// BERT (Devlin et al. 2019) as stored in Hugging Face folders: an encoder, forward only, in f32, to measure its
// attention.
//
//   x = LN(word[id] + type[token type] + position[t])
//   layer: x = LN(x + dense(Attention(q, k, v of x)));  x = LN(x + down(gelu(up(x))))
//
// Every token sees every token of its sequence. Under the causal rule of kernels/ops.h the queries get positions behind
// all keys. There is no padding: all sequences of a call have the same length.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace ballast::model {

struct BertConfig {
    int64_t vocab_size = 0, hidden_size = 0, num_layers = 0, num_heads = 0, intermediate_size = 0;
    int64_t max_position_embeddings = 0, type_vocab_size = 0;
    double layer_norm_eps = 1e-12;
    ops::Gelu hidden_act = ops::Gelu::erf;

    int64_t head_dim() const { return hidden_size / num_heads; }
};

/// True when the config.json of `folder` describes a BERT. False when there is no readable config.json.
bool is_bert_folder(const std::string& folder);

/// UserError that names the file and the key when config.json is missing or damaged, or asks for an unsupported
/// feature.
BertConfig read_bert_config(const std::string& folder);

class Bert {
  public:
    /// Reads the weights. Names may begin with `bert.`, and norms may be called gamma and beta as in old files. Tensors
    /// after the encoder (the pooler, task heads) and position_ids are skipped. UserError for a missing or unknown
    /// tensor, or one with a wrong shape.
    Bert(Context& context, const std::string& folder);

    const BertConfig& config() const { return config_; }

    /// The bytes of the activations of `batch` sequences of `length` tokens, known before anything is allocated.
    static size_t activation_bytes(const BertConfig& config, int64_t batch, int64_t length);

    /// Called after the attention of each layer, with the arguments of ops::attention_weights().
    using AttentionObserver = std::function<void(int64_t layer, const Tensor& lse_BHT, const ops::AttentionInputs&,
                                                 const ops::AttentionParams&)>;
    /// The last hidden states [B*T, C] of B sequences of `length` ids; all token types are 0. UserError for an id
    /// outside the vocabulary and for a sequence longer than the model's positions.
    std::vector<float> forward(Context& context, std::span<const int32_t> ids, int64_t length,
                               const AttentionObserver& observer) const;

  private:
    struct Norm {
        Tensor weight, bias;
    };
    struct Layer {
        ops::LinearWeight query, key, value, attention_dense, intermediate, output;
        Norm attention_norm, output_norm;
    };
    struct Place {
        std::string name;
        std::vector<int64_t> shape;
        Tensor* tensor;
    };
    struct Activations;

    std::vector<Place> places();
    void read_weights(Context& context, const std::string& folder);
    void forward_layer(Context& context, int64_t layer, const Activations& a, const AttentionObserver& observer) const;
    void normalise(Context& context, const Norm& norm, const Activations& a, const Tensor& out, const Tensor& stream,
                   const Tensor& third) const;

    BertConfig config_;
    DeviceBuffer buffer_;
    Tensor word_embeddings_, position_embeddings_, token_type_embeddings_;
    Norm embedding_norm_;
    std::vector<Layer> layers_;
};

}  // namespace ballast::model
