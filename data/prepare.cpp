#include "data/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "data/spill_file.h"

namespace ballast::data {
namespace {

constexpr int64_t kCopyElements = int64_t{1} << 20;

/// One encoder a thread, kept from batch to batch for its word cache.
class ParallelEncoder {
  public:
    ParallelEncoder(const Tokenizer& tokenizer, InvalidUtf8 policy, ThreadPool& pool) : pool_(pool) {
        for (int i = 0; i < pool.num_threads(); ++i) encoders_.emplace_back(tokenizer, policy);
    }

    /// The ids of each piece, until the next call: their memory is used again.
    std::span<const std::vector<uint32_t>> encode(const std::vector<TextPiece>& batch) {
        if (ids_.size() < batch.size()) ids_.resize(batch.size());
        std::atomic<size_t> next{0};
        pool_.parallel_for(static_cast<int64_t>(encoders_.size()), [&](int64_t lane) {
            for (size_t i; (i = next.fetch_add(1)) < batch.size();) {
                ids_[i].clear();
                encode_piece(encoders_[static_cast<size_t>(lane)], batch[i], ids_[i]);
            }
        });
        return {ids_.data(), batch.size()};
    }

  private:
    static void encode_piece(Encoder& encoder, const TextPiece& piece, std::vector<uint32_t>& ids) {
        try {
            encoder.encode(piece.text, ids, {.continues = !piece.begins_document, .first_offset = piece.offset});
        } catch (const UserError& e) {
            throw UserError(fmt::format("{}: {}", piece.source, e.what()));
        }
    }

    ThreadPool& pool_;
    std::vector<Encoder> encoders_;
    std::vector<std::vector<uint32_t>> ids_;
};

/// The tokens of all documents and where each ends, on disk.
class TokenSpill {
  public:
    TokenSpill(const std::string& beside, Dtype dtype) : dtype_(dtype), tokens_(beside), ends_(beside) {}

    void append_tokens(std::span<const uint32_t> ids) {
        if (dtype_ == Dtype::u16) {
            narrow_.assign(ids.begin(), ids.end());
            tokens_.append(narrow_.data(), narrow_.size() * sizeof(uint16_t));
        } else {
            tokens_.append(ids.data(), ids.size_bytes());
        }
        num_tokens_ += static_cast<int64_t>(ids.size());
    }
    void end_document() {
        ends_.append(&num_tokens_, sizeof num_tokens_);
        last_end_ = num_tokens_;
        ++num_documents_;
    }

    /// Whether the document under way has tokens.
    bool in_document() const { return num_tokens_ > last_end_; }
    int64_t num_tokens() const { return num_tokens_; }
    int64_t num_documents() const { return num_documents_; }
    Dtype dtype() const { return dtype_; }

    /// The ends of documents [first, first + count).
    std::vector<int64_t> ends(int64_t first, int64_t count) const {
        std::vector<int64_t> out(static_cast<size_t>(count));
        ends_.read(first * 8, out.data(), out.size() * 8);
        return out;
    }
    void read_tokens(int64_t first, int64_t count, void* out) const {
        const auto size = static_cast<int64_t>(size_of(dtype_));
        tokens_.read(first * size, out, static_cast<size_t>(count * size));
    }

  private:
    Dtype dtype_;
    SpillFile tokens_, ends_;
    int64_t num_tokens_ = 0, num_documents_ = 0, last_end_ = 0;
    std::vector<uint16_t> narrow_;
};

void append_piece(TokenSpill& spill, const TextPiece& piece, std::span<const uint32_t> ids,
                  std::optional<uint32_t> end_of_text) {
    spill.append_tokens(ids);
    if (!piece.ends_document || !spill.in_document()) return;
    if (end_of_text) spill.append_tokens({&*end_of_text, 1});
    spill.end_document();
}

/// Calls append(tokens, count) with tokens [begin, end), in pieces.
template <class Append>
void copy_tokens(const TokenSpill& spill, int64_t begin, int64_t end, Append&& append) {
    std::vector<std::byte> block(static_cast<size_t>(kCopyElements) * size_of(spill.dtype()));
    for (int64_t first = begin; first < end; first += kCopyElements) {
        const int64_t count = std::min(kCopyElements, end - first);
        spill.read_tokens(first, count, block.data());
        append(block.data(), count);
    }
}

/// The ends of the documents, or parts of documents, in tokens [begin, end), counted from `begin`.
class DocumentEnds {
  public:
    DocumentEnds(const TokenSpill& spill, int64_t begin, int64_t end) : spill_(spill), begin_(begin), end_(end) {
        for_each([&](std::span<const int64_t> ends) { count_ += std::ssize(ends); });
    }

    int64_t count() const { return count_; }
    /// Calls visit(ends) with some of them after others.
    void for_each(const MegatronWriter::VisitEnds& visit) const {
        for (int64_t first = 0; first < spill_.num_documents(); first += kCopyElements) {
            std::vector<int64_t> ends = spill_.ends(first, std::min(kCopyElements, spill_.num_documents() - first));
            std::erase_if(ends, [&](int64_t at) { return at <= begin_ || at >= end_; });
            for (int64_t& at : ends) at -= begin_;
            if (!ends.empty()) visit(ends);
        }
        const int64_t last = end_ - begin_;
        visit({&last, 1});
    }

  private:
    const TokenSpill& spill_;
    int64_t begin_, end_, count_ = 0;
};

/// A store of a part of the tokens, which appears with commit().
class StoreWriter {
  public:
    StoreWriter(const std::string& path, const TokenStoreInfo& info, const TokenSpill& spill, int64_t begin,
                int64_t end)
        : ends_(spill, begin, end) {
        if (MegatronFiles::is_name(path)) {
            megatron_.emplace(path, spill.dtype());
            copy_tokens(spill, begin, end, [&](const void* tokens, int64_t n) { megatron_->append_tokens(tokens, n); });
            return;
        }
        hdf5_.emplace(path);
        write_info(*hdf5_, info);
        const int64_t tokens_shape[] = {end - begin}, offsets_shape[] = {ends_.count() + 1}, zero = 0;
        hdf5_->create(kTokensDataset, spill.dtype(), tokens_shape);
        copy_tokens(spill, begin, end,
                    [&](const void* tokens, int64_t n) { hdf5_->append(kTokensDataset, tokens, n); });
        hdf5_->create(kOffsetsDataset, Dtype::i64, offsets_shape);
        hdf5_->append(kOffsetsDataset, &zero, 1);
        ends_.for_each(
            [&](std::span<const int64_t> ends) { hdf5_->append(kOffsetsDataset, ends.data(), std::ssize(ends)); });
    }

    void commit() {
        if (hdf5_) return hdf5_->commit();
        megatron_->commit(ends_.count(), [this](const MegatronWriter::VisitEnds& visit) { ends_.for_each(visit); });
    }

  private:
    DocumentEnds ends_;
    std::optional<Hdf5Writer> hdf5_;
    std::optional<MegatronWriter> megatron_;
};

std::string join_lines(const std::vector<std::string>& lines) {
    constexpr size_t kMaxBytes = 50000;  // an attribute holds no more
    std::string text;
    for (size_t i = 0; i < lines.size(); ++i) {
        if (text.size() + lines[i].size() > kMaxBytes) return text + fmt::format("… and {} more", lines.size() - i);
        text += lines[i] + "\n";
    }
    return text;
}

std::optional<uint32_t> end_of_text_to_append(const Tokenizer& tokenizer, const PrepareOptions& options) {
    if (!options.append_end_of_text) return std::nullopt;
    if (!tokenizer.end_of_text_id())
        throw UserError(
            "this tokenizer has no <|endoftext|>, <|end_of_text|> or </s> to put after documents; pass "
            "--no-append-eod");
    return tokenizer.end_of_text_id();
}

void check_validation_options(const PrepareOptions& options) {
    if (options.validation_output.empty() != (options.validation_fraction == 0))
        throw UserError("--validation-output and --validation-fraction need each other");
    if (!(options.validation_fraction >= 0 && options.validation_fraction < 1))
        throw UserError(
            fmt::format("--validation-fraction {} must be above 0 and below 1", options.validation_fraction));
    if (!options.validation_output.empty() && options.validation_output == options.output)
        throw UserError(fmt::format("{} cannot be both the output and the validation output", options.output));
}

/// Reads the next batch while the pool encodes this one; after it, when the system refuses another thread.
int64_t tokenize(Corpus& corpus, const Tokenizer& tokenizer, const PrepareOptions& options,
                 std::optional<uint32_t> end_of_text, ThreadPool& pool, TokenSpill& spill) {
    // Many pieces a thread: at the end of a batch threads wait for the last piece.
    const size_t batch_bytes = options.piece_bytes * 32 * static_cast<size_t>(pool.num_threads());
    ParallelEncoder encoder(tokenizer, options.invalid_utf8, pool);
    int64_t text_bytes = 0;
    std::vector<TextPiece> batch = corpus.next_batch(batch_bytes);
    while (!batch.empty()) {
        const int64_t done = corpus.file_bytes_read();
        auto next =
            std::async(std::launch::async | std::launch::deferred, [&] { return corpus.next_batch(batch_bytes); });
        const auto ids = encoder.encode(batch);
        for (size_t i = 0; i < batch.size(); ++i) {
            append_piece(spill, batch[i], ids[i], end_of_text);
            text_bytes += static_cast<int64_t>(batch[i].text.size());
        }
        if (options.progress) options.progress(done, corpus.total_file_bytes());
        if (options.interrupted && options.interrupted()) throw RunError("interrupted; nothing was written");
        batch = next.get();
    }
    return text_bytes;
}

}  // namespace

PrepareResult prepare(const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool) {
    check_validation_options(options);
    const auto end_of_text = end_of_text_to_append(tokenizer, options);
    Corpus corpus(options.inputs,
                  {options.text_key, options.invalid_utf8, options.missing_text, options.format, options.piece_bytes,
                   [&](std::string_view text) { return tokenizer.last_safe_cut(text); }});
    for (const std::string& output : {options.output, options.validation_output}) {
        if (output.empty()) continue;
        require_not_an_input(output, corpus.files());
        require_writable(output);
    }
    TokenSpill spill(options.output, token_dtype(tokenizer.vocab_size()));

    PrepareResult result;
    result.text_bytes = tokenize(corpus, tokenizer, options, end_of_text, pool, spill);
    result.lines_without_text = corpus.lines_without_text();
    result.num_documents = spill.num_documents();
    result.num_tokens = spill.num_tokens();
    if (result.num_tokens == 0) throw UserError("the input holds no text; nothing was written");
    result.num_validation_tokens =
        static_cast<int64_t>(std::ceil(static_cast<double>(result.num_tokens) * options.validation_fraction));
    const int64_t border = result.num_tokens - result.num_validation_tokens;
    if (border == 0) throw UserError("--validation-fraction leaves no tokens to train on");

    const TokenStoreInfo info{tokenizer.hash(), tokenizer.vocab_size(), end_of_text ? int64_t{*end_of_text} : -1,
                              join_lines(options.inputs), first_id_of_texts(tokenizer)};
    StoreWriter store(options.output, info, spill, 0, border);
    if (!options.validation_output.empty())
        StoreWriter(options.validation_output, info, spill, border, result.num_tokens).commit();
    store.commit();
    return result;
}

}  // namespace ballast::data
