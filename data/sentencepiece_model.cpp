// SentencePiece's tokenizer.model (sentencepiece_model.proto of its sources), type BPE.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/error.h"
#include "data/byte_level.h"
#include "data/protobuf_reader.h"
#include "data/tokenizer_spec.h"
#include "data/utf8.h"
#include "data/word_model.h"

namespace ballast::data {
namespace {

enum class PieceType : uint64_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::normal;
};

/// What the file says, its defaults where it says nothing.
struct Model {
    std::vector<Piece> pieces;
    uint64_t model_type = 1;  // 1 unigram, 2 BPE, 3 word, 4 character
    bool byte_fallback = false, whitespace_as_suffix = false;
    bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
    size_t charsmap_bytes = 0;
};

Piece read_piece(ProtobufReader message) {
    Piece piece;
    while (message.next()) {
        switch (message.number()) {
            case 1: piece.text = message.bytes(); break;
            case 2: piece.score = message.real(); break;
            case 3: piece.type = static_cast<PieceType>(message.integer()); break;
            default: break;
        }
    }
    if (piece.text.empty() || valid_utf8_prefix(piece.text) != piece.text.size())
        message.fail("has a piece that is empty or no UTF-8");
    if (!std::isfinite(piece.score)) message.fail(fmt::format("has a score for \"{}\" that is not finite", piece.text));
    return piece;
}

void read_trainer(ProtobufReader message, Model& model) {
    while (message.next()) {
        switch (message.number()) {
            case 3: model.model_type = message.integer(); break;
            case 24: model.whitespace_as_suffix = message.flag(); break;
            case 35: model.byte_fallback = message.flag(); break;
            default: break;
        }
    }
}

void read_normalizer(ProtobufReader message, Model& model) {
    while (message.next()) {
        switch (message.number()) {
            case 2: model.charsmap_bytes = message.bytes().size(); break;
            case 3: model.add_dummy_prefix = message.flag(); break;
            case 4: model.remove_extra_whitespaces = message.flag(); break;
            case 5: model.escape_whitespaces = message.flag(); break;
            default: break;
        }
    }
}

Model read_model(std::string_view bytes, const std::string& origin) {
    Model model;
    ProtobufReader message(bytes, origin);
    while (message.next()) {
        switch (message.number()) {
            case 1: model.pieces.push_back(read_piece(message.message())); break;
            case 2: read_trainer(message.message(), model); break;
            case 3: read_normalizer(message.message(), model); break;
            default: break;
        }
        if (model.pieces.size() > kMaxTokenId) message.fail(fmt::format("has more than {} pieces", kMaxTokenId));
    }
    return model;
}

[[noreturn]] void refuse(const std::string& origin, const std::string& what) {
    throw UserError(
        fmt::format("{}: {}, which is not supported; Ballast reads models of type BPE as Llama 2's: byte_fallback, "
                    "normalisation \"identity\", extra white space kept",
                    origin, what));
}

void check_settings(const Model& model, const std::string& origin) {
    if (model.pieces.empty())
        throw UserError(fmt::format("{}: holds no pieces; is this a SentencePiece model?", origin));
    if (model.model_type != 2) refuse(origin, fmt::format("model_type {}", model.model_type));
    if (!model.byte_fallback) refuse(origin, "no byte_fallback");
    if (model.charsmap_bytes != 0) refuse(origin, "a normalisation table (precompiled_charsmap)");
    if (model.remove_extra_whitespaces) refuse(origin, "remove_extra_whitespaces");
    if (!model.escape_whitespaces) refuse(origin, "escape_whitespaces = false");
    if (model.whitespace_as_suffix) refuse(origin, "treat_whitespace_as_suffix");
}

using PieceIds = std::unordered_map<std::string_view, uint32_t>;

PieceIds index_pieces(const Model& model, const std::string& origin) {
    PieceIds ids;
    for (size_t id = 0; id < model.pieces.size(); ++id) {
        const Piece& piece = model.pieces[id];
        if (piece.type == PieceType::user_defined || piece.type == PieceType::unused ||
            piece.type < PieceType::normal || piece.type > PieceType::byte)
            refuse(origin,
                   fmt::format("piece {} (\"{}\") of type {}", id, piece.text, static_cast<uint64_t>(piece.type)));
        if (!ids.emplace(piece.text, static_cast<uint32_t>(id)).second)
            throw UserError(fmt::format("{}: holds the piece \"{}\" twice; the file is damaged", origin, piece.text));
    }
    for (int byte = 0; byte < 256; ++byte) {
        const std::string text = byte_token(static_cast<uint8_t>(byte));
        const auto found = ids.find(text);
        if (found == ids.end() || model.pieces[found->second].type != PieceType::byte)
            throw UserError(fmt::format("{}: has no piece {} of type byte, which byte_fallback needs", origin, text));
    }
    return ids;
}

/// SentencePiece joins the pair whose whole scores highest, the leftmost of equals. As merges: every pair of pieces
/// that spells a normal piece, by falling score of the whole; of one whole, the longest left part first.
std::vector<MergeRule> make_merges(const Model& model, const PieceIds& ids) {
    struct Scored {
        float score;
        size_t left_characters;
        MergeRule rule;
    };
    std::vector<Scored> found;
    for (size_t id = 0; id < model.pieces.size(); ++id) {
        const Piece& piece = model.pieces[id];
        if (piece.type != PieceType::normal) continue;
        const std::string_view text = piece.text;
        size_t characters = 0;
        for (size_t at = 1; at < text.size(); ++at) {
            if (is_utf8_continuation(text[at])) continue;
            ++characters;
            const auto left = ids.find(text.substr(0, at)), right = ids.find(text.substr(at));
            if (left != ids.end() && right != ids.end())
                found.push_back({piece.score, characters, {left->second, right->second, static_cast<uint32_t>(id)}});
        }
    }
    std::stable_sort(found.begin(), found.end(), [](const Scored& a, const Scored& b) {
        return a.score != b.score ? a.score > b.score : a.left_characters > b.left_characters;
    });
    std::vector<MergeRule> merges;
    for (const Scored& scored : found) merges.push_back(scored.rule);
    return merges;
}

/// As Llama 2's tokenizer.json: the beginning-of-text token before a text, if there is one.
Template make_template(const TokenizerSpec& spec) {
    for (const AddedToken& token : spec.added_tokens) {
        if (token.content != "<s>") continue;
        using Kind = TemplateItem::Kind;
        const auto special = [&](uint32_t type_id) {
            return TemplateItem{Kind::special, token.content, {token.id}, type_id};
        };
        const TemplateItem a{Kind::text_a, "", {}, 0}, b{Kind::text_b, "", {}, 1};
        return {{special(0), a}, {special(0), a, special(1), b}};
    }
    return {};
}

}  // namespace

TokenizerSpec parse_sentencepiece_model(std::string_view bytes, const std::string& origin) {
    const Model model = read_model(bytes, origin);
    check_settings(model, origin);
    const PieceIds ids = index_pieces(model, origin);
    TokenizerSpec spec;
    spec.pre_tokenizers.clear();
    if (model.add_dummy_prefix) spec.normalizers.push_back(PrependStep{std::string(kMetaspace)});
    spec.normalizers.push_back(ReplaceStep{" ", std::string(kMetaspace)});
    spec.byte_fallback = spec.fuse_unk = true;
    for (size_t id = 0; id < model.pieces.size(); ++id) {
        const Piece& piece = model.pieces[id];
        spec.vocabulary.emplace_back(piece.text, static_cast<uint32_t>(id));
        if (piece.type == PieceType::unknown) spec.unk_token = piece.text;
        if (piece.type == PieceType::unknown || piece.type == PieceType::control)
            spec.added_tokens.push_back({static_cast<uint32_t>(id), piece.text, true, false});
    }
    spec.merges = make_merges(model, ids);
    spec.post_processor = make_template(spec);
    spec.decoder = {ReplaceStep{std::string(kMetaspace), " "}, ByteFallbackStep{}, FuseStep{}};
    if (model.add_dummy_prefix) spec.decoder.push_back(StripStep{" ", 1});
    return spec;
}

}  // namespace ballast::data
