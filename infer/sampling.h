// The next token of a text from the model's logits: penalties, filters, the draw, and log-probabilities.
//
// In this order, which is that of transformers' `generate` (its processors, then its warpers) with OpenAI's penalties
// where vLLM has them, after repetition:
//
//   repetition  logit / penalty if logit > 0, else logit * penalty, for ids of the prompt or the answer (Keskar et al.
//               2019; transformers' RepetitionPenaltyLogitsProcessor, llama.cpp's repeat_penalty without its window)
//   frequency   logit - frequency * count, count = how often the id is in the answer so far (OpenAI's API)
//   presence    logit - presence, for ids in the answer so far (OpenAI's API)
//   temperature logit / temperature; 0: the most likely id is taken, of equals the lowest, and what follows is left out
//   top_k       the k most likely stay, and what is as likely as the last of them
//   top_p       of what is left, renormalised: the fewest most likely whose probabilities reach p (Holtzman et al.
//   2020);
//               of equals the lower ids first
//   min_p       of what is left: those with at least min_p times the probability of the most likely (Nguyen et al.
//   2024)
//
// One number in [0, 1) draws from what is left, renormalised, ids in order. It depends on (seed, stream, index) alone:
// never on which other texts are written at the same time.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/philox.h"

namespace ballast::infer {

struct SamplingParams {
    double temperature = 1.0;
    int64_t top_k = 0;  // 0: all
    double top_p = 1.0;
    double min_p = 0.0;
    double repetition_penalty = 1.0;
    double presence_penalty = 0.0;
    double frequency_penalty = 0.0;
    uint64_t seed = 1234;
    uint64_t stream = 0;        // which of the texts drawn from one seed this is: the number of the prompt in its file
    int64_t alternatives = -1;  // log-probabilities to give besides the drawn id's own; -1: not that one either

    /// UserError naming the first number that means nothing, and what would.
    void validate() const;
};

struct IdLogProb {
    int32_t id = 0;
    double log_prob = 0;  // natural
};

struct SampledToken {
    int32_t id = 0;
    double log_prob = 0;                  // 0 unless asked for
    std::vector<IdLogProb> alternatives;  // the most likely ids, the drawn one where it is among them
};

/// Draws the tokens of one text.
class Sampler {
  public:
    /// Only ids below `num_ids` are drawn: padding rows of the vocabulary and sink tokens are no text.
    Sampler(const SamplingParams& params, int64_t num_ids);

    /// Tokens of the prompt, which the repetition penalty counts.
    void add_prompt(std::span<const int32_t> ids);
    /// The next token. Log-probabilities are the model's own: of softmax over all [V] logits as they are.
    SampledToken next(std::span<const float> logits_V);

  private:
    void penalise(std::span<float> logits) const;
    double uniform() const { return random_.uniform(drawn_); }

    SamplingParams params_;
    int64_t num_ids_;
    Philox random_;
    uint64_t drawn_ = 0;
    std::unordered_set<int32_t> seen_;             // in prompt or answer
    std::unordered_map<int32_t, int64_t> counts_;  // in the answer
    std::vector<float> logits_;                    // scratch
};

/// The index drawn from softmax(logits / temperature) by `uniform` in [0,1), never one whose logit is -inf; the largest
/// logit's when temperature is 0.
int32_t sample(std::span<const float> logits, double temperature, double uniform);

/// log softmax(logits)[id] for each of `ids`, in double.
std::vector<double> log_probs(std::span<const float> logits, std::span<const int32_t> ids);
/// The `count` largest logits' ids, the largest first, of equals the lower id.
std::vector<int32_t> most_likely(std::span<const float> logits, int64_t count);

/// Sets to -inf what the filters take out of logits that were already divided by the temperature.
void keep_top_k(std::span<float> logits, int64_t k);
void keep_top_p(std::span<float> logits, double p);
void keep_min_p(std::span<float> logits, double min_p);

}  // namespace ballast::infer
