// A model that is asked to write: what `ballast generate` and its chat share.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/generate_options.h"
#include "infer/engine.h"
#include "infer/text_answer.h"
#include "train/load_model.h"

namespace ballast {

/// One answer on its way to its reader.
class Reply {
  public:
    /// `streams`: to standard output, as it is written.
    Reply(const data::Tokenizer& tokenizer, const std::vector<std::string>& stop, bool streams)
        : answer_(tokenizer, stop), streams_(streams) {}

    /// False when a stop string has come.
    bool take(const infer::SampledToken& token);
    /// There are no more tokens.
    void finish();
    const std::string& text() const { return text_; }

  private:
    void show(const std::string& piece);

    infer::TextAnswer answer_;
    std::string text_;
    bool streams_;
};

class WritingSession {
  public:
    /// UserError for what can be refused without the weights: no such model, another one's tokenizer, no such policy.
    explicit WritingSession(const GenerateOptions& options);

    const train::ModelSource& source() const { return source_; }
    const data::Tokenizer& tokenizer() const { return tokenizer_; }
    /// What the model's texts begin with; empty where they begin as they are.
    std::vector<int32_t> begin_of_text() const;
    void encode(std::string_view text, std::vector<int32_t>& out) const;
    /// The request that the options describe; `stream` is the text's number among those of one seed.
    infer::Request request(std::vector<int32_t> prompt, uint64_t stream) const;
    void add_stop_id(uint32_t id) { stop_ids_.push_back(static_cast<int32_t>(id)); }

    /// Makes the engine, for texts of at most `longest` positions (0: nobody knows) and `batch` of them at once.
    /// Refuses what cannot be answered before the weights are read, and says what memory is taken.
    infer::Engine& start(const std::vector<infer::Request>& requests, int64_t longest, int64_t batch);
    /// Why the engine could not go on with an answer, and what to do; empty for any other end.
    std::string fault(int64_t text) const;
    /// Counts an answer that is done, for the summary; a text may have several.
    void count(int64_t text);
    /// Tokens, seconds, and the cache's share of a dense one's, on standard error.
    void show_summary() const;

  private:
    /// A text when its answer was last counted.
    struct Counted {
        int64_t position = 0;      // how many tokens are in the cache
        bool ends_unread = false;  // the last token of the answer is not among them: nothing was to follow it
    };

    const GenerateOptions& options_;
    Context context_;
    train::ModelSource source_;
    data::Tokenizer tokenizer_;
    std::vector<int32_t> stop_ids_;
    train::LoadedModel loaded_;
    std::unique_ptr<infer::Engine> engine_;
    std::chrono::steady_clock::time_point started_;
    int64_t read_ = 0, written_ = 0;
    std::map<int64_t, Counted> counted_;  // by text
};

}  // namespace ballast
