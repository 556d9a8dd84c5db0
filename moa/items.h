// Calibration items: a prompt, an answer, and what the loss is taken on.
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

/// Whose answer it is, and what of an item has a loss (MoA, Table 2).
///   model          the dense model's own answer: its tokens alone
///   human          what a human wrote: the answer's tokens alone
///   human_context  the same, with the prompt's tokens
///   plain          running text without a prompt
enum class ItemKind { model, human, human_context, plain };
inline constexpr std::array<std::string_view, 4> kItemKindNames{"model", "human", "human_context", "plain"};

struct Item {
    std::string prompt, answer;
    ItemKind kind = ItemKind::model;
    bool operator==(const Item&) const = default;
};

/// JSON lines {"prompt", "answer", "kind"}; other keys are passed over. UserError, naming file and line.
std::vector<Item> read_items(const std::string& path);
void write_items(const std::string& path, const std::vector<Item>& items);

/// An item as the model reads it: its sink tokens, what its texts begin with, the prompt, the answer.
struct ItemTokens {
    std::vector<int32_t> ids;
    int64_t first_scored = 0;  // ids from here on have a loss; at least 1, as the first has nothing before it

    int64_t length() const { return static_cast<int64_t>(ids.size()); }
    int64_t scored() const { return length() - first_scored; }
    /// By position: the next token where that is scored, -1 elsewhere and beyond the item; `positions` of them.
    std::vector<int32_t> targets(int64_t positions) const;
};

/// Makes items of one model's tokens.
class ItemEncoder {
  public:
    ItemEncoder(const data::Tokenizer& tokenizer, const model::ModelConfig& config,
                std::optional<uint32_t> begin_of_text)
        : tokenizer_(tokenizer), config_(config), begin_of_text_(begin_of_text) {}

    /// UserError when nothing is scored, or an id is none of the model's.
    ItemTokens operator()(const Item& item) const;
    /// Positions before the prompt.
    int64_t leading() const { return config_.num_sink_tokens + (begin_of_text_ ? 1 : 0); }

  private:
    const data::Tokenizer& tokenizer_;
    const model::ModelConfig& config_;
    std::optional<uint32_t> begin_of_text_;
};

/// Items for a profile at `length`: those of more than 3/4 of it and at most all of it, in order.
std::vector<ItemTokens> items_of_length(const std::vector<ItemTokens>& items, int64_t length);

}  // namespace ballast::moa
