// Tokenizers, texts, tokens and their orders.
#include <zstd.h>

#include <filesystem>

#include "base/atomic_file.h"
#include "data/byte_level.h"
#include "data/corpus.h"
#include "data/index_triplet.h"
#include "data/joined_parts.h"
#include "data/megatron_files.h"
#include "data/npy_file.h"
#include "data/pre_tokenizer.h"
#include "data/sampler.h"
#include "data/tokenizer.h"
#include "tests/data/index_files.h"
#include "tests/data/sentencepiece_model.h"
#include "tests/data/stores.h"
#include "tests/fuzz/formats.h"
#include "tests/fuzz/hdf5_edits.h"

namespace ballast::fuzz {
namespace {

using namespace data;

using Strings = std::vector<std::string>;

std::string beside(const std::string& path, const char* name) {
    return (std::filesystem::path(path).parent_path() / name).string();
}

// Tokenizers ----------------------------------------------------------------------------------------------------------

/// Few tokens, so that an input is short; `change` gives it the steps of one pipeline.
template <class Change>
std::string tokenizer_json(Change&& change) {
    TokenizerSpec spec;
    uint32_t id = 0;
    for (const char* token : {"<unk>", "a", "b", "ab", "##a", "\u2581", "\u2581a", "##b", "A"})
        spec.vocabulary.emplace_back(token, id++);
    spec.added_tokens = {{.id = id, .content = "</s>", .special = true}};
    spec.merges = {{1, 2, 3}, {5, 1, 6}};
    change(spec);
    return to_tokenizer_json(spec);
}

/// Tokens for all bytes, which some pipelines need.
template <class Spelling>
void add_bytes(TokenizerSpec& spec, Spelling&& spelling) {
    uint32_t id = 10;
    for (int byte = 0; byte < 256; ++byte)
        if (const std::string token = spelling(static_cast<uint8_t>(byte));
            token != "a" && token != "b" && token != "A")
            spec.vocabulary.emplace_back(token, id++);
}

Strings tokenizer_json_seeds(const std::string&) {
    const auto character = [](uint8_t byte) { return to_byte_level(std::string(1, static_cast<char>(byte))); };
    return {tokenizer_json([&](TokenizerSpec& spec) {  // as of GPT-NeoX
                spec.normalizers = {NfcStep{}};
                add_bytes(spec, character);
            }),
            tokenizer_json([](TokenizerSpec& spec) {  // as of Llama 2
                spec.normalizers = {PrependStep{"\u2581"}, ReplaceStep{" ", "\u2581"}};
                spec.pre_tokenizers = {};
                spec.byte_fallback = spec.fuse_unk = true;
                add_bytes(spec, byte_token);
                spec.unk_token = "<unk>";
                spec.decoder = {ReplaceStep{"\u2581", " "}, ByteFallbackStep{}, FuseStep{}, StripStep{" ", 1}};
            }),
            tokenizer_json([&](TokenizerSpec& spec) {  // as of Llama 3
                add_bytes(spec, character);
                spec.pre_tokenizers = {SplitStep{R"(\p{L}+|\s+(?!\S)|[^\s\p{L}]+)", true}, DigitsStep{true},
                                       ByteLevelStep{false, false}};
                spec.ignore_merges = true;
                spec.post_processor.single = {{TemplateItem::Kind::special, "</s>", {9}}, {}};
            }),
            tokenizer_json([](TokenizerSpec& spec) {
                spec.pre_tokenizers = {MetaspaceStep{}, PunctuationStep{}, SplitStep{"a"}};
                spec.unk_token = "<unk>";
                spec.decoder = {MetaspaceStep{}};
            }),
            tokenizer_json([](TokenizerSpec& spec) {  // as of BERT
                spec.model = TokenModel::word_piece;
                spec.merges.clear();
                spec.normalizers = {BertNormalizerStep{}};
                spec.pre_tokenizers = {BertPreTokenizerStep{}};
                spec.unk_token = "<unk>";
                spec.decoder = {WordPieceDecoderStep{}};
            })};
}

Strings sentencepiece_seeds(const std::string&) { return {test::good_model()}; }

/// Text of every kind goes through what was read, there and back.
void read_tokenizer(const std::string& path) {
    const Tokenizer tokenizer = Tokenizer::load(path);
    const std::string text = "ab  A1,\u00E9 a</s>\n\u4E2D \xF0\x9F\x98\x80 ba";
    tokenizer.last_safe_cut(text);
    const std::vector<uint32_t> ids = tokenizer.encode(text, InvalidUtf8::error, {.add_special = true});
    tokenizer.decode(ids);
    StreamDecoder decoder(tokenizer, true);
    for (const uint32_t id : ids) decoder.push(id);
    decoder.finish();
    tokenizer.encode_pair("a b", text);
    to_tokenizer_json(tokenizer.spec());
}

// Texts ---------------------------------------------------------------------------------------------------------------

const char* const kLines = R"({"text": "a \u00e9 \ud83d\ude00", "meta": {"set": "one"}}

{"meta": {"set": "two", "x": [1, -2.5e3, NaN, {"y": null}]}, "text": "b"}
{"text": null}
)";

Strings line_seeds(const std::string&) { return {kLines, "\xEF\xBB\xBF{\"text\":\"\"}"}; }

Strings compressed_line_seeds(const std::string&) {
    Strings out;
    const std::string lines = kLines;
    for (const int level : {1, 19}) {
        std::string& packed = out.emplace_back(ZSTD_compressBound(lines.size()), '\0');
        packed.resize(ZSTD_compress(packed.data(), packed.size(), lines.data(), lines.size(), level));
    }
    return out;
}

Strings text_seeds(const std::string&) {
    return {
        "\xEF\xBB\xBF"
        "A text. Of two lines\nand \u00E9."};
}

/// By one thread, and as several would parse.
void read_corpus(const std::string& path) {
    CorpusOptions options;
    options.missing_text = MissingText::skip;
    options.invalid_utf8 = InvalidUtf8::replace;
    options.group_key = "meta.set";
    options.piece_bytes = 16;
    options.last_cut = last_word_cut;
    Corpus whole({path}, options);
    for (TextPiece piece; whole.next(piece);) {
    }
    options.invalid_utf8 = InvalidUtf8::error;
    Corpus raw({path}, options);
    for (auto pieces = raw.next_raw_batch(64); !pieces.empty(); pieces = raw.next_raw_batch(64))
        for (TextPiece& piece : pieces) raw.take_text(piece);
}

// Tokens --------------------------------------------------------------------------------------------------------------

const std::vector<int64_t> kLengths{5, 0, 12, 7, 17};

std::string write_tokens(const std::string& path, GroupCounts groups = {}) {
    return test::write_store(path, {"hash", 60000, -1, "a.txt", -1, std::move(groups)},
                             test::counting_documents(kLengths));
}

void read_store(const std::string& path) {
    const TokenStore store(path);
    store.fingerprint();
    for (int64_t d = 0; d <= store.num_documents(); ++d) store.document_offset(d);
    std::vector<int32_t> tokens(static_cast<size_t>(std::min<int64_t>(store.num_tokens(), 1 << 16)));
    store.read(0, std::ssize(tokens), tokens.data());
    store.verify();
}

Strings store_seeds(const std::string& folder) {
    return {read_file(write_tokens(folder + "/tokens.h5")),
            read_file(write_tokens(folder + "/tokens.h5", {{"one", {5, 41}}}))};
}

/// A part of a larger store: with the hashes and groups of its documents.
Strings part_edits_seeds(const std::string& folder) {
    const GroupCounts groups{{"one", {3, 17}}, {"two", {2, 24}}};
    write_tokens(folder + "/part.h5", groups);
    const std::string path = folder + "/valid.h5";
    Hdf5Writer file(path);
    const TokenStore plain(folder + "/part.h5");
    write_info(file, plain.info());
    std::vector<uint16_t> tokens(41, 7);
    std::vector<int64_t> offsets, hashes(10, -5);
    for (int64_t d = 0; d <= plain.num_documents(); ++d) offsets.push_back(plain.document_offset(d));
    const std::vector<int32_t> places{0, 1, -1, 1, 0};
    const int64_t num_tokens[] = {41}, num_offsets[] = {6}, documents[] = {5}, pairs[] = {5, 2};
    file.write(kTokensDataset, Dtype::u16, num_tokens, tokens.data());
    file.write(kOffsetsDataset, Dtype::i64, num_offsets, offsets.data());
    file.write(kHashesDataset, Dtype::i64, pairs, hashes.data());
    file.write(kDocumentGroupsDataset, Dtype::i32, documents, places.data());
    file.commit();
    return seeds_of_edits();
}

void read_edited_part(const std::string& path) {
    const std::string edited = write_edited(path);
    const Hdf5Tokens part(edited);
    for (const DocumentHash& hash : part.hashes()) part.document_offset(hash == DocumentHash{});
    part.groups_of_documents();
    read_store(edited);
}

Strings parts_seeds(const std::string& folder) {
    const Strings parts{write_tokens(folder + "/a.h5"), write_tokens(folder + "/b.h5")};
    join_parts(folder + "/tokens.json", parts, "a.txt\nb.txt");
    return {read_file(folder + "/tokens.json")};
}

Strings megatron_seeds(const std::string& folder) {
    const std::vector<uint16_t> tokens(20, 3);
    const std::vector<int64_t> ends{4, 4, 20};
    MegatronWriter writer(folder + "/tokens.idx", Dtype::u16);
    writer.append_tokens(tokens.data(), std::ssize(tokens));
    writer.commit(std::ssize(ends), [&](const MegatronWriter::VisitEnds& visit) { visit(ends); });
    return {read_file(folder + "/tokens.idx")};
}

Strings npy_seeds(const std::string&) {
    return {test::npy_bytes<int32_t>("<i4", "(3, 2)", {1, 2, 3, 4, 5, 6}),
            test::npy_bytes<uint32_t>("<u4", "(2,)", {1, 2}), test::npy_bytes<int64_t>("<i8", "(2,)", {1, -2})};
}

void read_npy(const std::string& path) {
    const NpyFile file(path);
    for (int64_t i = 0; i < file.numel(); ++i) file[i];
    file.checksum();
}

constexpr int64_t kSeqLength = 8;

/// An order's windows; its documents, its samples and the tokens lie beside it.
Strings order_seeds(const std::string& folder) {
    write_tokens(folder + "/tokens.h5");
    const test::Triplet order(kLengths, 2, kSeqLength, 1);
    order.write(folder + "/order");
    return {order.window_bytes()};
}

void read_order(const std::string& path) {
    const TokenStore store(beside(path, "tokens.h5"));
    SampleOrder order{.kind = OrderKind::npy, .seq_length = kSeqLength, .index = beside(path, "order")};
    order.index_fingerprint = IndexTriplet(order.index).fingerprint();
    const Sampler sampler(store, order);
    std::vector<int32_t> ids(kSeqLength + 1), starts(kSeqLength + 1);
    for (int64_t i = 0; i < sampler.size(); ++i) sampler.sample(i, ids.data(), starts.data());
}

}  // namespace

std::vector<Format> data_formats() {
    return {{"tokenizer_json", "tokenizer.json", tokenizer_json_seeds, read_tokenizer},
            {"tokenizer_model", "tokenizer.model", sentencepiece_seeds, read_tokenizer},
            {"text", "a.txt", text_seeds, read_corpus},
            {"jsonl", "a.jsonl", line_seeds, read_corpus},
            {"jsonl_zst", "a.jsonl.zst", compressed_line_seeds, read_corpus},
            {"token_store", "tokens.h5", store_seeds, read_store},
            {"token_store_edits", "a.edits", part_edits_seeds, read_edited_part},
            {"token_parts", "tokens.json", parts_seeds, read_store},
            {"megatron_idx", "tokens.idx", megatron_seeds, read_store},
            {"npy", "a.npy", npy_seeds, read_npy},
            {"npy_order", "order_sample_idx.npy", order_seeds, read_order}};
}

}  // namespace ballast::fuzz
