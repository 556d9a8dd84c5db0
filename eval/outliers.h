// Outliers among a model's activations, and their cost. A head that has nothing to contribute puts its attention on a
// token with a small value. For that, the softmax needs logits that are far apart, and the MLPs before it produce them
// by activations that are far larger than all others. SoftMax-off-by-one was proposed to make these outliers
// unnecessary, so that activations can be rounded to 8 bits (Miller 2023, "Attention is off by one"; Bondarenko et al.
// 2023, "Quantizable transformers: removing outliers by helping attention heads do nothing", whose two measures are
// kurtosis and the largest absolute value).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "eval/memory.h"
#include "model/transformer.h"

namespace ballast::eval {

/// Figures over all elements of a tensor x: all positions, features and sequences.
struct ActivationFigures {
    double kurtosis = 0;  // mean of (x - mean)^4 / variance^2: 3 for a normal distribution
    double largest = 0;   // max |x|
};

/// The measured tensors of a layer: the residual stream after it, and the inputs of its linear layers: the normalised
/// stream, the heads' outputs, the normalised stream again, and the output of the activation function.
enum class LayerTensor { residual, qkv, out, up, down };
inline constexpr std::array<const char*, 5> kLayerTensors{"residual", "qkv", "out", "up", "down"};

struct OutlierLayer {
    std::array<ActivationFigures, kLayerTensors.size()> tensors;
    double value_first = 0, value_rest = 0;  // mean norm of the value vector of position 1, and of the others
};

struct OutlierResult {
    int64_t length = 0, sequences = 0;
    int64_t tokens = 0;  // scored
    int64_t bits = 0;
    double loss = 0;                    // mean -log p, natural
    double rounded_loss = 0;            // of the same tokens, with every linear layer's input rounded
    ActivationFigures embedding, head;  // the residual stream before the first layer, and the head's input
    std::vector<OutlierLayer> layers;
};

/// A model has only one such result.
inline bool same_subject(const OutlierResult&, const OutlierResult&) { return true; }

struct OutlierOptions {
    int64_t length = 512;    // positions of a sequence, sink tokens included
    int64_t sequences = 16;  // spread evenly over the text
    int64_t bits = 8;
    int64_t first_id = -1;  // replaces the first token of each sequence's text; -1: texts stay as they are
};

/// UserError for options that evaluate_outliers() would refuse: a sequence has no room for two tokens of text, or the
/// text has fewer tokens (`num_tokens`).
void check_outliers(const model::ModelConfig& config, int64_t num_tokens, const OutlierOptions& options);

/// What evaluate_outliers() takes for a model that computes in `dtype`.
MeasurementMemory outliers_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                  const OutlierOptions& options);

/// `progress` gets the number of sequences done.
OutlierResult evaluate_outliers(Context& context, model::Transformer& model, const std::vector<uint32_t>& text,
                                const OutlierOptions& options, const std::function<void(int64_t)>& progress);

/// Rounds x as one tensor to signed integers of `bits` bits and back: to the nearest multiple (ties to even) of the
/// scale s = max |x| / (2^(bits-1) - 1) of this tensor. A tensor with a value that is not finite stays unchanged.
void round_symmetric(std::span<float> x, int64_t bits);

/// Accumulates the sums for ActivationFigures.
class Moments {
  public:
    void add(std::span<const float> x);
    ActivationFigures figures() const;

  private:
    double count_ = 0, largest_ = 0;
    std::array<double, 4> powers_{};  // sums of x, x^2, x^3, x^4
};

}  // namespace ballast::eval
