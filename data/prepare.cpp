#include "data/prepare.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>
#include <optional>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "data/duplicates.h"
#include "data/megatron_files.h"
#include "data/token_spill.h"

namespace ballast::data {
namespace {

/// Pieces, and in the end the ids of each.
struct Batch {
    std::vector<TextPiece> pieces;
    std::vector<std::vector<uint32_t>> ids;  // as many at least; their memory is used again
};

/// Keeps the memory of most documents for the next. That of the longest would stay in every place, and so add up.
void make_empty(std::vector<uint32_t>& ids) {
    constexpr size_t kKept = size_t{1} << 14;
    if (ids.capacity() > kKept)
        ids = {};
    else
        ids.clear();
}

/// One encoder a thread, kept from batch to batch for its word cache.
class ParallelEncoder {
  public:
    ParallelEncoder(const Tokenizer& tokenizer, InvalidUtf8 policy, ThreadPool& pool) : pool_(pool) {
        for (int i = 0; i < pool.num_threads(); ++i) encoders_.emplace_back(tokenizer, policy);
    }

    /// JSON lines become their texts; the piece of one without text is empty.
    void encode(const Corpus& corpus, Batch& batch) {
        if (batch.ids.size() < batch.pieces.size()) batch.ids.resize(batch.pieces.size());
        std::atomic<size_t> next{0};
        pool_.parallel_for(static_cast<int64_t>(encoders_.size()), [&](int64_t lane) {
            for (size_t i; (i = next.fetch_add(1)) < batch.pieces.size();) {
                make_empty(batch.ids[i]);
                if (!corpus.take_text(batch.pieces[i])) {
                    lines_without_text_.fetch_add(1, std::memory_order_relaxed);
                    continue;
                }
                encode_piece(encoders_[static_cast<size_t>(lane)], batch.pieces[i], batch.ids[i]);
            }
        });
    }

    int64_t lines_without_text() const { return lines_without_text_; }

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
    std::atomic<int64_t> lines_without_text_{0};
};

/// Puts pieces together to documents in the spill, and groups under numbers.
class DocumentCollector {
  public:
    DocumentCollector(TokenSpill& spill, std::optional<uint32_t> end_of_text)
        : spill_(spill), end_of_text_(end_of_text), hash_(XXH3_createState(), &XXH3_freeState) {
        begin_document();
    }

    void append(const TextPiece& piece, std::span<const uint32_t> ids) {
        spill_.append_tokens(ids);
        XXH3_128bits_update(hash_.get(), piece.text.data(), piece.text.size());
        document_.text_bytes += static_cast<int64_t>(piece.text.size());
        if (!piece.ends_document) return;
        if (spill_.in_document()) {
            if (end_of_text_) spill_.append_tokens({&*end_of_text_, 1});
            const XXH128_hash_t hash = XXH3_128bits_digest(hash_.get());
            document_.hash[0] = hash.low64;
            document_.hash[1] = hash.high64;
            document_.group = number_of(piece.group);
            spill_.end_document(document_);
        }
        begin_document();
    }

    const std::vector<std::string>& groups() const { return groups_; }

  private:
    void begin_document() {
        XXH3_128bits_reset(hash_.get());
        document_ = {};
    }
    int64_t number_of(const std::string& group) {
        const auto [found, is_new] = numbers_.try_emplace(group, std::ssize(groups_));
        if (is_new) groups_.push_back(group);
        return found->second;
    }

    TokenSpill& spill_;
    std::optional<uint32_t> end_of_text_;
    std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash_;
    SpilledDocument document_;  // under way
    std::map<std::string, int64_t> numbers_;
    std::vector<std::string> groups_;
};

/// A store of some documents, which appears with commit().
class StoreWriter {
  public:
    StoreWriter(const std::string& path, TokenStoreInfo info, const SpillSelection& selection,
                const std::vector<std::string>& groups, bool keep_hashes)
        : selection_(selection) {
        info.groups = count_groups(groups);
        if (MegatronFiles::is_name(path)) {
            megatron_.emplace(path, selection.dtype());
            selection.copy_tokens([&](const void* tokens, int64_t n) { megatron_->append_tokens(tokens, n); });
            return;
        }
        hdf5_.emplace(path);
        write_info(*hdf5_, info);
        const int64_t tokens_shape[] = {selection.num_tokens()}, offsets_shape[] = {selection.num_documents() + 1};
        const int64_t zero = 0;
        hdf5_->create(kTokensDataset, selection.dtype(), tokens_shape);
        selection.copy_tokens([&](const void* tokens, int64_t n) { hdf5_->append(kTokensDataset, tokens, n); });
        hdf5_->create(kOffsetsDataset, Dtype::i64, offsets_shape);
        hdf5_->append(kOffsetsDataset, &zero, 1);
        selection.for_each_end(
            [&](std::span<const int64_t> ends) { hdf5_->append(kOffsetsDataset, ends.data(), std::ssize(ends)); });
        if (!keep_hashes) return;
        write_per_document<DocumentHash>(kHashesDataset, Dtype::i64, 2, [](const SpilledDocument& document) {
            return DocumentHash{document.hash[0], document.hash[1]};
        });
        if (info.groups.empty()) return;
        const std::vector<int32_t> places = places_of(groups, info.groups);
        write_per_document<int32_t>(kDocumentGroupsDataset, Dtype::i32, 1, [&](const SpilledDocument& document) {
            return places[static_cast<size_t>(document.group)];
        });
    }

    void commit() {
        if (hdf5_) return hdf5_->commit();
        megatron_->commit(selection_.num_documents(),
                          [this](const MegatronWriter::VisitEnds& visit) { selection_.for_each_end(visit); });
    }

  private:
    /// A dataset [documents], or [documents, width], in bounded memory.
    template <class Value>
    void write_per_document(const char* name, Dtype dtype, int64_t width,
                            const std::function<Value(const SpilledDocument&)>& value_of) {
        constexpr size_t kAtOnce = size_t{1} << 16;
        const int64_t shape[] = {selection_.num_documents(), width};
        hdf5_->create(name, dtype, std::span(shape).first(width == 1 ? 1 : 2));
        std::vector<Value> some;
        const auto flush = [&] {
            hdf5_->append(name, some.data(), std::ssize(some) * width);
            some.clear();
        };
        selection_.for_each([&](int64_t, int64_t, const SpilledDocument& document) {
            some.push_back(value_of(document));
            if (some.size() == kAtOnce) flush();
        });
        if (!some.empty()) flush();
    }

    /// Where each of `groups` is in the sorted list of those that are counted; -1 for the name of none.
    static std::vector<int32_t> places_of(const std::vector<std::string>& groups, const GroupCounts& counted) {
        std::vector<int32_t> places;
        for (const std::string& group : groups) {
            const auto found = counted.find(group);
            places.push_back(found == counted.end() ? -1 : static_cast<int32_t>(std::distance(counted.begin(), found)));
        }
        return places;
    }

    /// Documents that say nothing of a group are in none.
    GroupCounts count_groups(const std::vector<std::string>& groups) const {
        GroupCounts counts;
        selection_.for_each([&](int64_t, int64_t tokens, const SpilledDocument& document) {
            const std::string& group = groups[static_cast<size_t>(document.group)];
            if (group.empty()) return;
            GroupCount& count = counts[group];
            ++count.documents;
            count.tokens += tokens;
        });
        return counts;
    }

    const SpillSelection& selection_;
    std::optional<Hdf5Writer> hdf5_;
    std::optional<MegatronWriter> megatron_;
};

std::optional<uint32_t> end_of_text_to_append(const Tokenizer& tokenizer, const PrepareOptions& options) {
    if (!options.append_end_of_text) return std::nullopt;
    if (!tokenizer.end_of_text_id())
        throw UserError(
            "this tokenizer has no <|endoftext|>, <|end_of_text|> or </s> to put after documents; pass "
            "--no-append-eod");
    return tokenizer.end_of_text_id();
}

/// All files that are written, each under the option that names it.
std::vector<Output> output_files(const PrepareOptions& options) {
    std::vector<Output> files;
    for (const std::string& file : files_to_write(options.output)) files.push_back({"--output", file});
    if (options.validation_output.empty()) return files;
    for (const std::string& file : files_to_write(options.validation_output))
        files.push_back({"--validation-output", file});
    return files;
}

void check_validation_options(const PrepareOptions& options) {
    if (options.validation_output.empty() != (options.validation_fraction == 0))
        throw UserError("--validation-output and --validation-fraction need each other");
    if (!(options.validation_fraction >= 0 && options.validation_fraction < 1))
        throw UserError(
            fmt::format("--validation-fraction {} must be above 0 and below 1", options.validation_fraction));
    require_different_outputs(output_files(options));
}

/// While the pool takes a batch's texts out of their lines and encodes them, one thread reads the next and another puts
/// the one before into the spill; after it, when the system refuses more threads. Returns what prepare() does of texts.
PrepareResult tokenize(Corpus& corpus, const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool,
                       DocumentCollector& documents) {
    // Many pieces a thread: at the end of a batch threads wait for the last piece.
    const size_t batch_bytes = options.piece_bytes * 32 * static_cast<size_t>(pool.num_threads());
    ParallelEncoder encoder(tokenizer, options.invalid_utf8, pool);
    PrepareResult result;
    Batch encoded, collected;
    std::future<void> collecting;
    constexpr auto kBeside = std::launch::async | std::launch::deferred;
    encoded.pieces = corpus.next_raw_batch(batch_bytes);
    while (!encoded.pieces.empty()) {
        const int64_t done = corpus.file_bytes_read();
        auto next = std::async(kBeside, [&] { return corpus.next_raw_batch(batch_bytes); });
        encoder.encode(corpus, encoded);
        if (collecting.valid()) collecting.get();
        std::swap(encoded, collected);
        collecting = std::async(kBeside, [&] {
            for (size_t i = 0; i < collected.pieces.size(); ++i)
                documents.append(collected.pieces[i], collected.ids[i]);
        });
        for (const TextPiece& piece : collected.pieces) result.text_bytes += static_cast<int64_t>(piece.text.size());
        if (options.progress) options.progress(done, corpus.total_file_bytes());
        if (options.interrupted && options.interrupted()) throw RunError("interrupted; nothing was written");
        encoded.pieces = next.get();
    }
    if (collecting.valid()) collecting.get();
    result.lines_without_text = encoder.lines_without_text();
    return result;
}

/// A bit for each document that is left out.
std::vector<bool> documents_left_out(const TokenSpill& spill, const PrepareOptions& options) {
    if (!options.drop_duplicates) return std::vector<bool>(static_cast<size_t>(spill.num_documents()));
    return find_duplicates(spill.num_documents(), [&](const std::function<void(const DocumentHash&)>& visit) {
        spill.for_each([&](int64_t, int64_t, const SpilledDocument& document) {
            visit({document.hash[0], document.hash[1]});
        });
    });
}

/// The training and the validation text.
std::pair<SpillSelection, SpillSelection> split(const TokenSpill& spill, const std::vector<bool>& left_out,
                                                const PrepareOptions& options) {
    const auto kept = [&left_out](int64_t number) { return !left_out[static_cast<size_t>(number)]; };
    if (options.validation_by == ValidationBy::hash) {
        // The word that find_duplicates() does not share by; fraction < 1, so the product fits.
        const auto border = static_cast<uint64_t>(std::ldexp(options.validation_fraction, 64));
        const auto held_out = [border](const SpilledDocument& document) { return document.hash[1] < border; };
        return {{spill, [=](int64_t n, const SpilledDocument& d) { return kept(n) && !held_out(d); }},
                {spill, [=](int64_t n, const SpilledDocument& d) { return kept(n) && held_out(d); }}};
    }
    const SpillSelection::Takes takes = [kept](int64_t number, const SpilledDocument&) { return kept(number); };
    const int64_t tokens = SpillSelection(spill, takes).num_tokens();
    const int64_t held_out = static_cast<int64_t>(std::ceil(static_cast<double>(tokens) * options.validation_fraction));
    return {{spill, takes, 0, tokens - held_out}, {spill, takes, tokens - held_out, tokens}};
}

}  // namespace

std::string describe_sources(const PrepareOptions& options) {
    constexpr size_t kMaxBytes = 50000;  // an attribute holds no more
    const auto& lines = options.inputs;
    std::string text;
    for (size_t i = 0; i < lines.size(); ++i) {
        if (text.size() + lines[i].size() > kMaxBytes) return text + fmt::format("… and {} more", lines.size() - i);
        text += lines[i] + "\n";
    }
    return text;
}

PrepareResult prepare(const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool) {
    check_validation_options(options);
    const auto end_of_text = end_of_text_to_append(tokenizer, options);
    Corpus corpus(options.inputs, {.text_key = options.text_key,
                                   .invalid_utf8 = options.invalid_utf8,
                                   .missing_text = options.missing_text,
                                   .format = options.format,
                                   .piece_bytes = options.piece_bytes,
                                   .last_cut = [&](std::string_view text) { return tokenizer.last_safe_cut(text); },
                                   .group_key = options.group_key});
    for (const Output& output : output_files(options)) {
        require_not_an_input(output.path, corpus.files());
        require_writable(output.path);
    }
    TokenSpill spill(options.output, token_dtype(tokenizer.vocab_size()));
    DocumentCollector documents(spill, end_of_text);
    PrepareResult result = tokenize(corpus, tokenizer, options, pool, documents);
    const std::vector<bool> left_out = documents_left_out(spill, options);
    const auto [training, validation] = split(spill, left_out, options);
    result.num_duplicates = std::count(left_out.begin(), left_out.end(), true);
    if (options.drop_duplicates) {
        result.num_searched = spill.num_documents();
        result.duplicates_memory = duplicates_memory(result.num_searched);
    }
    result.num_documents = spill.num_documents() - result.num_duplicates;
    result.num_validation_tokens = validation.num_tokens();
    result.num_tokens = training.num_tokens() + validation.num_tokens();
    if (result.num_tokens == 0 && !options.may_be_empty)
        throw UserError("the input holds no text; nothing was written");
    if (!options.may_be_empty && training.num_tokens() == 0)
        throw UserError("--validation-fraction leaves no tokens to train on");
    if (!options.may_be_empty && !options.validation_output.empty() && validation.num_tokens() == 0)
        throw UserError("--validation-fraction holds no document out; raise it");

    const TokenStoreInfo info{
        tokenizer.hash(),          tokenizer.vocab_size(),       end_of_text ? int64_t{*end_of_text} : -1,
        describe_sources(options), first_id_of_texts(tokenizer), {}};
    StoreWriter store(options.output, info, training, documents.groups(), options.keep_hashes);
    if (!options.validation_output.empty())
        StoreWriter(options.validation_output, info, validation, documents.groups(), options.keep_hashes).commit();
    store.commit();
    return result;
}

}  // namespace ballast::data
