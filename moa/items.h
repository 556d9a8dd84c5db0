// Calibration items: a prompt, an answer, and the tokens that are scored.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"
#include "model/config.h"

namespace ballast::moa {

/// The author of the answer, and the tokens of an item that are scored (MoA, Table 2).
///   model          the dense model's own answer: only its tokens are scored
///   human          an answer written by a human: only the answer's tokens are scored
///   human_context  the same, but the prompt's tokens are scored too
///   plain          running text without a prompt
enum class ItemKind { model, human, human_context, plain };
inline constexpr std::array<std::string_view, 4> kItemKindNames{"model", "human", "human_context", "plain"};

struct Item {
    std::string prompt, answer;
    ItemKind kind = ItemKind::model;
    bool operator==(const Item&) const = default;
};

/// JSON lines {"prompt", "answer", "kind"}; other keys are skipped. UserError that names file and line.
std::vector<Item> read_items(const std::string& path);
void write_items(const std::string& path, const std::vector<Item>& items);

/// An item as token ids: the model's sink tokens, the first token of texts, the prompt, the answer.
struct ItemTokens {
    std::vector<int32_t> ids;
    int64_t first_scored = 0;  // ids from here on are scored; at least 1, because the first id has no context

    int64_t length() const { return static_cast<int64_t>(ids.size()); }
    int64_t scored() const { return length() - first_scored; }
    /// For each of `positions` positions: the next token where it is scored; -1 elsewhere and beyond the item.
    std::vector<int32_t> targets(int64_t positions) const;
};

/// Converts items to tokens of one model.
class ItemEncoder {
  public:
    ItemEncoder(const data::Tokenizer& tokenizer, const model::ModelConfig& config,
                std::optional<uint32_t> begin_of_text)
        : tokenizer_(tokenizer), config_(config), begin_of_text_(begin_of_text) {}

    /// UserError when no token is scored, or an id does not exist in the model.
    ItemTokens operator()(const Item& item) const;
    /// Positions before the prompt.
    int64_t leading() const { return config_.num_sink_tokens + (begin_of_text_ ? 1 : 0); }

  private:
    const data::Tokenizer& tokenizer_;
    const model::ModelConfig& config_;
    std::optional<uint32_t> begin_of_text_;
};

/// Items for a profile at `length`: those longer than 3/4 of `length` and at most `length`, in order.
std::vector<ItemTokens> items_of_length(const std::vector<ItemTokens>& items, int64_t length);

}  // namespace ballast::moa
