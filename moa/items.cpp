#include "moa/items.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json_file.h"

namespace ballast::moa {
namespace {

using nlohmann::json, nlohmann::ordered_json;

Item item_of(const json& line, const std::string& place) {
    const auto text = [&](const char* key) {
        if (!line.is_object() || !line.contains(key) || !line[key].is_string())
            throw UserError(
                fmt::format("{}: an item is an object with the texts \"prompt\", \"answer\" and \"kind\"", place));
        return line[key].get<std::string>();
    };
    const std::string kind = text("kind");
    const auto found = std::find(kItemKindNames.begin(), kItemKindNames.end(), kind);
    if (found == kItemKindNames.end())
        throw UserError(fmt::format("{}: the kind \"{}\" is none of {}", place, kind, fmt::join(kItemKindNames, ", ")));
    return {text("prompt"), text("answer"), static_cast<ItemKind>(found - kItemKindNames.begin())};
}

}  // namespace

std::vector<Item> read_items(const std::string& path) {
    std::istringstream text(read_file(path));
    std::vector<Item> out;
    int64_t number = 0;
    for (std::string line; std::getline(text, line);) {
        const std::string place = fmt::format("{}:{}", path, ++number);
        if (line.find_first_not_of(" \t\r") != std::string::npos)
            out.push_back(item_of(parse_json(line, place), place));
    }
    if (out.empty()) throw UserError(fmt::format("{}: no item in it; make some with ballast moa calibrate", path));
    return out;
}

void write_items(const std::string& path, const std::vector<Item>& items) {
    std::string text;
    for (const Item& item : items)
        text += ordered_json{{"prompt", item.prompt},
                             {"answer", item.answer},
                             {"kind", kItemKindNames[static_cast<size_t>(item.kind)]}}
                    .dump(-1, ' ', false, ordered_json::error_handler_t::replace) +
                "\n";
    write_file(path, text);
}

std::vector<int32_t> ItemTokens::targets(int64_t positions) const {
    std::vector<int32_t> out(static_cast<size_t>(positions), -1);
    for (int64_t i = first_scored; i < length(); ++i) out[static_cast<size_t>(i - 1)] = ids[static_cast<size_t>(i)];
    return out;
}

ItemTokens ItemEncoder::operator()(const Item& item) const {
    ItemTokens out;
    for (int64_t i = 0; i < config_.num_sink_tokens; ++i)
        out.ids.push_back(static_cast<int32_t>(config_.sink_token_id + i));
    const auto append = [&](const std::string& text) {
        for (const uint32_t id : tokenizer_.encode(text)) out.ids.push_back(static_cast<int32_t>(id));
    };
    if (begin_of_text_) out.ids.push_back(static_cast<int32_t>(*begin_of_text_));
    const int64_t first = out.length();
    append(item.prompt);
    const bool with_prompt = item.kind == ItemKind::human_context || item.kind == ItemKind::plain;
    out.first_scored = std::max<int64_t>(1, with_prompt ? first : out.length());
    append(item.answer);
    if (out.scored() < 1) throw UserError("an item without an answer has nothing to take a loss on");
    const auto beyond =
        std::find_if(out.ids.begin(), out.ids.end(), [&](int32_t id) { return id >= config_.vocab_size; });
    if (beyond != out.ids.end())
        throw UserError(
            fmt::format("the token {} is beyond the model's vocabulary of {}", *beyond, config_.vocab_size));
    return out;
}

std::vector<ItemTokens> items_of_length(const std::vector<ItemTokens>& items, int64_t length) {
    std::vector<ItemTokens> out;
    for (const ItemTokens& item : items)
        if (4 * item.length() > 3 * length && item.length() <= length) out.push_back(item);
    return out;
}

}  // namespace ballast::moa
