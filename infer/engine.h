// Answers many prompts at once (continuous batching). Texts join and leave between steps, prompts are read a chunk at a
// time between the other texts' tokens, and the fixed size of the cache decides how many texts run together.
//
// A text's tokens and every bit of its log-probabilities are the same alone and in a batch, whenever it joins, and for
// any number of threads. Three rules make this so: chunks end at fixed positions; a row of a batch is computed as if it
// were alone (infer/cached_model.h); and a draw depends only on the text's own seed, number and index
// (infer/sampling.h). So a text whose numbers overflow spoils no other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "infer/cached_model.h"
#include "infer/sampling.h"

namespace ballast::infer {

struct Request {
    std::vector<int32_t> prompt;  // without the model's sink tokens; the engine puts them in front
    int64_t max_tokens = 64;      // 0: only read the prompt
    SamplingParams sampling = {};
    std::vector<int32_t> stop_ids = {};  // each of these ids ends the answer and is its last token
    /// Called with every token of the answer. False ends the answer after this token, for example at a stop string
    /// (infer/text_answer.h).
    std::function<bool(const SampledToken&)> on_token = {};
    /// Positions to reserve so that the text can be continued after its answer; 0: the text ends with the answer. Has
    /// an effect only when it is more than the prompt and max_tokens need.
    int64_t keep_positions = 0;
};

enum class Finish {
    not_yet,
    length,      // max_tokens, or the end of an endless text's positions
    stop_id,     // the last token is one of stop_ids
    stopped,     // on_token returned false, or stop() was called
    not_finite,  // the model's logits for the next token are NaN or infinite; the other texts go on
};

struct Answer {
    std::vector<SampledToken> tokens;
    Finish finish = Finish::not_yet;
};

/// The positions that the model reads for an answer of `tokens` tokens behind `read` others: nothing follows the
/// answer's last token, so nobody reads it.
constexpr int64_t positions_with_answer(int64_t read, int64_t tokens) {
    return read + std::max<int64_t>(0, std::min(tokens, CacheSizes::kEndless) - 1);
}

/// The largest number of positions that a request can use. UserError for a request that cannot be answered: no token at
/// all, ids that the model does not have, invalid sampling settings, or a prompt or answer that does not fit the
/// model's positions or the whole cache.
int64_t required_positions(const Request& request, const model::ModelConfig& config, const CacheSizes& sizes);

class Engine {
  public:
    /// Allocates all memory: CachedModel::memory(). Only ids below `num_ids` (0: the vocabulary's size) and below the
    /// model's sink tokens are drawn. UserErrors as for CacheSizes.
    Engine(Context& context, model::Transformer& model, const CachePlan& plan, const CacheOptions& options,
           int64_t num_ids = 0);

    /// Queues a request and returns its number. UserErrors as for required_positions().
    int64_t submit(Request request);
    /// Continues a text that was answered and kept: reads the last token and `tokens`, and writes a new answer.
    /// UserError as for submit(), and when the text gets longer than the positions reserved for it.
    void extend(int64_t text, std::span<const int32_t> tokens, int64_t max_tokens);

    /// Admits queued texts for which there is room, first come, first served. A text's worst case is reserved, and
    /// nothing is ever evicted. Then reads a chunk of one prompt, and computes the next token of every text that is
    /// being written. False when there was nothing to do.
    bool step();
    /// Ends an answer at once.
    void stop(int64_t text);
    /// The answer of a request, finished or not.
    const Answer& answer(int64_t text) const { return at(text).answer; }
    /// Returns the answer of a finished text, forgets the text and frees its cache blocks.
    Answer take(int64_t text);

    const CachedModel& cache() const { return cache_; }
    /// Positions of a text that are in the cache.
    int64_t position(int64_t text) const { return at(text).cached.position; }
    /// The number of steps that computed tokens, and of tokens they computed.
    int64_t decode_steps() const { return decode_steps_; }
    int64_t decoded_tokens() const { return decoded_tokens_; }

  private:
    struct Text {
        Request request;
        Sampler sampler;
        std::vector<int32_t> unread;  // tokens that are not yet in the cache
        int64_t positions;            // reserved
        CachedText cached;
        Answer answer;
    };

    const Text& at(int64_t text) const;
    Text& at(int64_t text) { return const_cast<Text&>(std::as_const(*this).at(text)); }
    void admit();
    void read_chunk(Text& text);
    void write_tokens();
    void draw(Text& text, std::span<const float> logits);
    void finish(Text& text, Finish why);
    /// Removes finished texts from `texts`.
    static void leave(std::vector<Text*>& texts);

    Context& context_;
    const model::ModelConfig& config_;
    int64_t num_ids_;
    CachedModel cache_;
    std::map<int64_t, Text> texts_;
    int64_t next_ = 0;
    std::deque<Text*> waiting_;
    std::vector<Text*> reading_, writing_;
    int64_t decode_steps_ = 0, decoded_tokens_ = 0;
};

}  // namespace ballast::infer
