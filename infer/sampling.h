// Chooses the next token of a text from the model's logits: penalties, filters, the draw, and log-probabilities.
//
// The steps are in the order of transformers' `generate` (its processors, then its warpers). OpenAI's penalties come
// after repetition, as in vLLM:
//
//   repetition  logit / penalty if logit > 0, else logit * penalty, for ids of the prompt or the answer (Keskar et al.
//               2019; transformers' RepetitionPenaltyLogitsProcessor, llama.cpp's repeat_penalty without its window)
//   frequency   logit - frequency * count, count = how often the id is in the answer so far (OpenAI's API)
//   presence    logit - presence, for ids in the answer so far (OpenAI's API)
//   temperature logit / temperature; 0: takes the most likely id (among equals the lowest) and skips the next steps
//   top_k       keeps the k most likely ids, and those with the same logit as the last of them
//   top_p       of the remaining ids, renormalised: keeps the fewest most likely ids whose probabilities reach p
//               (Holtzman et al. 2020); among equals the lower ids first
//   min_p       of the remaining ids: keeps those with at least min_p times the probability of the most likely
//               (Nguyen et al. 2024)
//
// Logits must be finite; what penalties and temperature make of them is limited to the range of a float.
//
// One uniform number in [0, 1) draws from the remaining ids, renormalised and in order. It depends on (seed, stream,
// index) alone, never on the other texts that are written at the same time.
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
    uint64_t stream = 0;        // index of the text among those drawn from one seed: the prompt's number in its file
    int64_t alternatives = -1;  // log-probabilities to give besides the drawn id's; -1: not even the drawn id's

    /// UserError that names the first invalid number and the valid values.
    void validate() const;
};

struct IdLogProb {
    int32_t id = 0;
    double log_prob = 0;  // natural
};

struct SampledToken {
    int32_t id = 0;
    double log_prob = 0;                  // 0 unless requested
    std::vector<IdLogProb> alternatives;  // the most likely ids; they include the drawn one if it is among them
};

/// False when a logit is NaN or infinite, of which no token can be chosen: damaged weights, or an overflow.
bool all_finite(std::span<const float> logits);
inline constexpr const char* kNonFiniteAdvice = "look for NaN in the weights, or compute with --dtype f32";

/// Draws the tokens of one text.
class Sampler {
  public:
    /// Only ids below `num_ids` are drawn: padding rows of the vocabulary and sink tokens are not text.
    Sampler(const SamplingParams& params, int64_t num_ids);

    /// Adds tokens of the prompt, which the repetition penalty counts.
    void add_prompt(std::span<const int32_t> ids);
    /// Another answer of the same text begins: the ids of earlier ones count like its prompt.
    void begin_answer() { counts_.clear(); }
    /// The next token, from finite logits. Log-probabilities are the model's own: those of softmax over all [V]
    /// unchanged logits.
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

/// The index drawn from softmax(logits / temperature) by `uniform` in [0,1); never one with logit -inf. With
/// temperature 0, the index of the largest logit.
int32_t sample(std::span<const float> logits, double temperature, double uniform);

/// log softmax(logits)[id] for each of `ids`, in double.
std::vector<double> log_probs(std::span<const float> logits, std::span<const int32_t> ids);
/// The ids of the `count` largest logits, the largest first; among equals the lower id first.
std::vector<int32_t> most_likely(std::span<const float> logits, int64_t count);

/// The filters: they set removed logits to -inf. The logits must already be divided by the temperature.
void keep_top_k(std::span<float> logits, int64_t k);
void keep_top_p(std::span<float> logits, double p);
void keep_min_p(std::span<float> logits, double min_p);

}  // namespace ballast::infer
