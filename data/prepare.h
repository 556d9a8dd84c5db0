// Converts text to token stores.
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

/// The documents that are held out.
///   end   the last tokens of the text; a document across the border is cut in two
///   hash  documents whose text's hash is below a border. So the choice does not depend on the other documents.
///         The fraction counts documents, and all copies of a document are on the same side
enum class ValidationBy : uint8_t { end, hash };

struct PrepareOptions {
    std::vector<std::string> inputs;  ///< files and folders, see Corpus
    std::string output;              ///< the token store to write: HDF5, NAME.idx for Megatron's NAME.idx and NAME.bin,
                                     ///< or NAME.json for parts (prepare_shared())
    std::string validation_output;   ///< another one for held-out tokens; empty: hold nothing out
    double validation_fraction = 0;  ///< fraction held out; in (0, 1)
    ValidationBy validation_by = ValidationBy::end;
    bool drop_duplicates = false;  ///< of documents with the same text, keep only the first
    bool keep_hashes = false;      ///< HDF5 stores also get kHashesDataset, for a later search for duplicates
    std::string group_key = "meta.pile_set_name";  ///< see CorpusOptions; counted in the stores
    bool may_be_empty = false;                     ///< input without text gives an empty store instead of an error
    bool append_end_of_text = true;                ///< Tokenizer::end_of_text_id() after each document
    std::string text_key = "text";                 ///< of JSON lines
    InvalidUtf8 invalid_utf8 = InvalidUtf8::error;
    MissingText missing_text = MissingText::error;
    TextFormat format = TextFormat::unknown;  ///< of inputs whose names do not tell
    size_t piece_bytes = size_t{1} << 17;     ///< the amount of text that one thread processes at a time

    std::function<void(int64_t done, int64_t total)> progress;  ///< bytes of the input files; may be empty
    std::function<bool()> interrupted;                          ///< called between batches; may be empty
    std::function<void(const std::string&)> note;               ///< what is waited for; may be empty
};

struct PrepareResult {
    int64_t num_documents = 0, num_tokens = 0, text_bytes = 0;
    int64_t num_validation_tokens = 0;  ///< of num_tokens
    int64_t lines_without_text = 0;     ///< skipped
    int64_t num_duplicates = 0;         ///< documents left out
    int64_t num_searched = 0;           ///< documents among which duplicates were looked for; 0: they were not
    size_t duplicates_memory = 0;       ///< bytes that the search used, besides one bit per document
};

/// Tokenises the inputs in order, on all threads of `pool`, in bounded memory. Tokens first go to an unnamed temporary
/// file beside the output, so the disk needs room for them twice. Empty documents are skipped. The output depends on
/// the inputs and options alone, not on the number of threads. With a validation output, the last ceil(fraction ·
/// tokens) tokens go there, or the documents that ValidationBy::hash selects. Duplicates are found by the XXH3-128 of
/// their texts, in 256 MiB of memory plus one bit per document, for any number of documents. UserError for invalid
/// input or no tokens at all, RunError for an interruption; then no new output file appears and an old one stays.
PrepareResult prepare(const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool);

/// The TokenStoreInfo::sources of a store made from these inputs.
std::string describe_sources(const PrepareOptions& options);

}  // namespace ballast::data
