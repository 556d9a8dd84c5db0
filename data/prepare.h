// Text to token stores.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/token_store.h"
#include "data/tokenizer.h"

namespace ballast {
class ThreadPool;
}

namespace ballast::data {

/// Which documents are held out.
///   end   the last tokens of the text; a document across the border is cut in two
///   hash  those whose text's hash is below a border, so the same ones whatever is before or behind them; a share of
///   the
///         documents, all copies of one on the same side
enum class ValidationBy : uint8_t { end, hash };

struct PrepareOptions {
    std::vector<std::string> inputs;  ///< files and folders, see Corpus
    std::string output;              ///< the token store to write: HDF5, NAME.idx for Megatron's NAME.idx and NAME.bin,
                                     ///< or NAME.json for parts (prepare_shared())
    std::string validation_output;   ///< another one for held-out tokens; empty: hold nothing out
    double validation_fraction = 0;  ///< share held out; in (0, 1)
    ValidationBy validation_by = ValidationBy::end;
    bool drop_duplicates = false;                  ///< of documents with the same text, keep the first
    std::string group_key = "meta.pile_set_name";  ///< see CorpusOptions; counted in the stores
    bool may_be_empty = false;                     ///< no text at all gives a store without tokens instead of an error
    bool append_end_of_text = true;                ///< Tokenizer::end_of_text_id() after each document
    std::string text_key = "text";                 ///< of JSON lines
    InvalidUtf8 invalid_utf8 = InvalidUtf8::error;
    MissingText missing_text = MissingText::error;
    TextFormat format = TextFormat::unknown;  ///< of inputs whose names do not say
    size_t piece_bytes = size_t{1} << 17;     ///< work for one thread at a time

    std::function<void(int64_t done, int64_t total)> progress;  ///< bytes of the input files; may be empty
    std::function<bool()> interrupted;                          ///< asked between batches; may be empty
};

struct PrepareResult {
    int64_t num_documents = 0, num_tokens = 0, text_bytes = 0;
    int64_t num_validation_tokens = 0;  ///< of num_tokens
    int64_t lines_without_text = 0;     ///< skipped
    int64_t num_duplicates = 0;         ///< documents left out
};

/// Tokenises the inputs in order, on all threads of `pool`, in bounded memory: tokens go to an unnamed temporary file
/// beside the output, so that the disk needs room for them twice. Empty documents are skipped. The output depends on
/// the inputs and options alone, not on the number of threads. With a validation output the last
/// ceil(fraction · tokens) tokens go there, or the documents that ValidationBy::hash takes. Duplicates are found by the
/// XXH3-128 of their texts in 256 MiB of memory and a bit a document, whatever their number.
/// UserError for bad input or no tokens at all, RunError for an interruption; then no output file appears and an old
/// one stays.
PrepareResult prepare(const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool);

/// TokenStoreInfo::sources of what is made of these inputs.
std::string describe_sources(const PrepareOptions& options);

}  // namespace ballast::data
