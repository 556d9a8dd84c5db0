// Options of commands that run a model over a text.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/command.h"
#include "data/tokenizer.h"
#include "eval/sentences.h"
#include "kernels/context.h"
#include "train/load_model.h"

namespace ballast {

inline constexpr const char* kComputeDtypeHelp = "compute type; fp16 on a GPU only";

struct TextOptions {
    std::vector<std::string> text;
    std::string tokenizer, dtype = "f32", gemm = "auto", backend = "auto";
    int64_t max_tokens = 0, threads = 0;
    int64_t newline_start = 0;  // so many first tokens are replaced by line breaks

    /// Returns the option --text, for the command to require or not.
    Option add_to(Command command);
    /// Those that say how a model is run, without the text.
    void add_model_options(Command command);
    void add_newline_start(Command command);
    Context make_context() const;
    /// UserError when `output` (empty: none) cannot be written, or is a file that is read: the text, the tokenizer or
    /// one of `models`. From then on the file is what counts: a standard output that nobody reads does not end the
    /// work.
    void require_output(const std::string& output, std::span<const std::string> models) const;
    /// The tokens of the text, after the token that the model's texts begin with where there is one. UserError when the
    /// text is empty or the tokenizer is not the model's.
    std::vector<uint32_t> read(const train::ModelSource& model) const;
    /// What the model's texts begin with: the tokenizer's begin-of-text token for a Hugging Face folder (Llama's <s>),
    /// and for a run that was trained with one (data.first_token). UserError as read().
    std::optional<uint32_t> begin_of_text(const train::ModelSource& model) const;
    /// At most `count` sequences of `length` tokens that begin with sentences of the text, after the token that the
    /// model's texts begin with where there is one (begin_of_text()). UserError as read().
    eval::SentenceSequences sentences(const train::ModelSource& model, int64_t length, int64_t count) const;
    /// The same as an encoder reads them: with what its tokenizer's template puts around a text, [CLS] … [SEP].
    std::vector<std::vector<int32_t>> encoder_sequences(const train::ModelSource& model, int64_t length,
                                                        int64_t count) const;

    /// The path of --tokenizer, or of the one beside the model. UserError when there is none.
    std::string tokenizer_of(const train::ModelSource& model) const;
    /// The model's tokenizer. UserError when it is not the model's, or there is none.
    data::Tokenizer load_tokenizer(const train::ModelSource& model) const;

  private:
    template <class Take>
    void for_each_piece(const data::Tokenizer& encoding, Take&& take) const;
    /// Tokens before and after a text.
    struct Surroundings;
    /// What a tokenizer's template puts there.
    static Surroundings template_of(const data::Tokenizer& encoding);
    /// At most `count` sequences of `length` tokens, `around` among them.
    eval::SentenceSequences sentences_within(const Surroundings& around, const data::Tokenizer& encoding,
                                             int64_t length, int64_t count) const;
};

/// TextOptions::begin_of_text() with a tokenizer that was loaded before.
std::optional<uint32_t> begin_of_text_of(const data::Tokenizer& encoding, const train::ModelSource& model);

}  // namespace ballast
