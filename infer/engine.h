// Answers to many prompts at once (continuous batching): texts join and leave between steps, prompts are read a chunk
// at a time between the others' tokens, and a fixed cache decides how many run together.
//
// A text's tokens and every bit of its log-probabilities are the same alone and among others, whenever it joins, for any
// number of threads: chunks end at fixed positions, a row of a batch is computed as if it were alone (infer/cached_model.h), and a draw depends on the text's own
// seed, number and index (infer/sampling.h).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "infer/cached_model.h"
#include "infer/sampling.h"

namespace ballast::infer {

struct Request {
    std::vector<int32_t> prompt;  // without the model's sink tokens, which the engine puts before it
    int64_t max_tokens = 64;      // 0: only read
    SamplingParams sampling = {};
    std::vector<int32_t> stop_ids = {};  // end the answer, of which they are the last token
    /// Called with every token of the answer; false makes it the last, as a stop string does (infer/text_answer.h).
    std::function<bool(const SampledToken&)> on_token = {};
    /// Positions to keep room for, so that the text can be continued when it has been answered; 0: it ends with the
    /// answer. More than the prompt and max_tokens take, where they are.
    int64_t keep_positions = 0;
};

enum class Finish {
    not_yet,
    length,   // max_tokens, or the end of an endless text's positions
    stop_id,  // the last token is one of stop_ids
    stopped,  // on_token or stop() said so
};

struct Answer {
    std::vector<SampledToken> tokens;
    Finish finish = Finish::not_yet;
};

/// The positions that a request takes at its longest. UserError for what cannot be answered: no token at all, ids that
/// the model does not have, settings of sampling that mean nothing, a prompt or an answer that do not fit the model's
/// positions or the whole cache.
int64_t required_positions(const Request& request, const model::ModelConfig& config, const CacheSizes& sizes);

class Engine {
  public:
    /// All memory is taken here: CachedModel::memory(). Only ids below `num_ids` (0: the vocabulary's) and below the
    /// model's sink tokens are drawn. UserErrors as CacheSizes.
    Engine(Context& context, model::Transformer& model, const CachePlan& plan, const CacheOptions& options,
           int64_t num_ids = 0);

    /// Queues a request and returns its number. UserErrors as required_positions().
    int64_t submit(Request request);
    /// Goes on with a text that was answered and kept: reads the last token and `tokens`, and answers anew. UserError
    /// as submit(), where it gets longer than what was kept for it.
    void extend(int64_t text, std::span<const int32_t> tokens, int64_t max_tokens);

    /// Admits what has room (first come, first served: the worst case of a text is reserved, and nothing is ever
    /// evicted), reads a chunk of one prompt, computes the next token of every text that is being written. False when
    /// there was nothing to do.
    bool step();
    /// Ends an answer now.
    void stop(int64_t text);
    /// Of the request under way or done.
    const Answer& answer(int64_t text) const { return at(text).answer; }
    /// The answer of a text that is done, which is then forgotten and its cache blocks free.
    Answer take(int64_t text);

    const CachedModel& cache() const { return cache_; }
    /// Positions of a text that are in the cache.
    int64_t position(int64_t text) const { return at(text).cached.position; }
    /// Steps so far that computed tokens, and tokens they computed.
    int64_t decode_steps() const { return decode_steps_; }
    int64_t decoded_tokens() const { return decoded_tokens_; }

  private:
    struct Text {
        Request request;
        Sampler sampler;
        std::vector<int32_t> unread;  // tokens that the cache does not have yet
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
    /// Takes texts that are done out of `texts`.
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
