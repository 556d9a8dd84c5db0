#include "eval/text_stream.h"

#include <algorithm>
#include <fmt/format.h>

#include "model/sink_tokens.h"

namespace ballast::eval {

int32_t TextStream::target(size_t i) const {
    return static_cast<int64_t>(i) < num_sink_tokens || i + 1 >= tokens.size() ? model::kNoTarget : tokens[i + 1];
}

std::vector<int32_t> with_sink_tokens(std::span<const uint32_t> text, const model::ModelConfig& config) {
    const int64_t ids = config.num_sink_tokens > 0 ? config.sink_token_id : config.vocab_size;
    std::vector<int32_t> out;
    out.reserve(static_cast<size_t>(config.num_sink_tokens) + text.size());
    for (int64_t i = 0; i < config.num_sink_tokens; ++i) out.push_back(static_cast<int32_t>(config.sink_token_id + i));
    for (const uint32_t id : text) {
        if (id >= ids)
            throw UserError(fmt::format(
                "the text has token id {}, but the model knows ids below {}; is this its tokenizer?", id, ids));
        out.push_back(static_cast<int32_t>(id));
    }
    return out;
}

TextStream make_text_stream(const std::vector<uint32_t>& text, const model::ModelConfig& config, int64_t max_tokens,
                            int64_t first_id) {
    const auto count = max_tokens > 0 ? std::min(std::ssize(text), max_tokens) : std::ssize(text);
    if (count < 2) throw UserError("the text has fewer than two tokens; there is nothing to predict");
    require(first_id < 0 || text.front() == first_id, "a text that does not begin as the model's samples do");
    return {with_sink_tokens(std::span(text).first(static_cast<size_t>(count)), config), config.num_sink_tokens,
            first_id >= 0};
}

std::vector<std::vector<uint32_t>> spread_pieces(const std::vector<uint32_t>& text, int64_t length, int64_t count,
                                                 int64_t first_id) {
    const auto size = static_cast<int64_t>(text.size());
    require(length >= 1 && size >= length, "the text is shorter than one piece");
    const int64_t pieces = std::clamp<int64_t>(count, 1, size / length);
    std::vector<std::vector<uint32_t>> out;
    for (int64_t i = 0; i < pieces; ++i) {
        const auto begin = text.begin() + (pieces == 1 ? 0 : (size - length) / (pieces - 1) * i);
        out.emplace_back(begin, begin + length);
        if (first_id >= 0) out.back().front() = static_cast<uint32_t>(first_id);
    }
    return out;
}

}  // namespace ballast::eval
