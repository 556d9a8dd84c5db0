#include "eval/text_stream.h"

#include <algorithm>
#include <fmt/format.h>

#include "model/sink_tokens.h"

namespace ballast::eval {

int32_t TextStream::target(size_t i) const {
    return static_cast<int64_t>(i) < num_sink_tokens || i + 1 >= tokens.size() ? model::kNoTarget : tokens[i + 1];
}

TextStream make_text_stream(const std::vector<uint32_t>& text, const model::ModelConfig& config, int64_t max_tokens) {
    const auto count =
        max_tokens > 0 ? std::min(static_cast<int64_t>(text.size()), max_tokens) : static_cast<int64_t>(text.size());
    if (count < 2) throw UserError("the text has fewer than two tokens; there is nothing to predict");
    const int64_t ids = config.num_sink_tokens > 0 ? config.sink_token_id : config.vocab_size;
    TextStream out;
    out.tokens.reserve(static_cast<size_t>(config.num_sink_tokens + count));
    out.num_sink_tokens = config.num_sink_tokens;
    for (int64_t i = 0; i < config.num_sink_tokens; ++i)
        out.tokens.push_back(static_cast<int32_t>(config.sink_token_id + i));
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t id = text[static_cast<size_t>(i)];
        if (id >= ids)
            throw UserError(fmt::format(
                "the text has token id {}, but the model knows ids below {}; is this its tokenizer?", id, ids));
        out.tokens.push_back(static_cast<int32_t>(id));
    }
    return out;
}

std::vector<std::vector<uint32_t>> spread_pieces(const std::vector<uint32_t>& text, int64_t length, int64_t count) {
    const auto size = static_cast<int64_t>(text.size());
    require(length >= 1 && size >= length, "the text is shorter than one piece");
    const int64_t pieces = std::clamp<int64_t>(count, 1, size / length);
    std::vector<std::vector<uint32_t>> out;
    for (int64_t i = 0; i < pieces; ++i) {
        const auto begin = text.begin() + (pieces == 1 ? 0 : (size - length) / (pieces - 1) * i);
        out.emplace_back(begin, begin + length);
    }
    return out;
}

}  // namespace ballast::eval
