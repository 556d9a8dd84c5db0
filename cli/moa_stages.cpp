// What the stages of `ballast moa` share: a model that is loaded once, and options.
#include "cli/moa_stages.h"

#include <fmt/format.h>

#include "base/error.h"
#include "cli/commands.h"
#include "data/corpus.h"

namespace ballast {

MoaModel::MoaModel(const std::string& path, const TextOptions& options)
    : context(options.make_context()),
      loaded(train::load_model(path, context, dtype_of_option(options.dtype))),
      tokenizer(options.load_tokenizer(loaded)),
      begin_of_text(begin_of_text_of(tokenizer, loaded)),
      settings{.dtype = options.dtype, .gemm = options.gemm, .tokenizer = tokenizer.hash()} {}

std::vector<moa::ItemTokens> MoaModel::tokens_of(const std::vector<moa::Item>& items, const std::string& source) const {
    const moa::ItemEncoder encode(tokenizer, config(), begin_of_text);
    std::vector<moa::ItemTokens> out;
    for (size_t i = 0; i < items.size(); ++i) {
        try {
            out.push_back(encode(items[i]));
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}: item {}: {}", source, i + 1, error.what()));
        }
    }
    return out;
}

moa::Documents MoaModel::documents(const TextOptions& text) const {
    data::Corpus corpus(text.text,
                        {.last_cut = [&](std::string_view piece) { return tokenizer.last_safe_cut(piece); }});
    data::Encoder encoder(tokenizer);
    moa::Documents out;
    int64_t count = 0;
    for (data::TextPiece piece; (text.max_tokens == 0 || count < text.max_tokens) && corpus.next(piece);) {
        if (piece.begins_document || out.empty()) out.emplace_back();
        const auto before = std::ssize(out.back());
        try {
            encoder.encode(piece.text, out.back(), {.continues = !piece.begins_document, .first_offset = piece.offset});
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}: {}", piece.source, error.what()));
        }
        count += std::ssize(out.back()) - before;
        if (text.max_tokens > 0 && count > text.max_tokens)
            out.back().resize(out.back().size() - static_cast<size_t>(count - text.max_tokens));
    }
    return out;
}

void add_moa_lengths(Command command, std::vector<int64_t>& lengths, const char* help) {
    command.add_option("--lengths", lengths, help).delimiter(',').one_value_each().positive().required();
}

void add_moa_model(Command command, std::string& model) {
    command.add_option("model", model, "run folder, checkpoint file or Hugging Face folder").required();
}

}  // namespace ballast
