// Finds added tokens ("<|endoftext|>", runs of spaces) in text before any other step.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/integer_map.h"

namespace ballast::data {

/// A set of strings with ids, searched leftmost-longest without overlap, as the `tokenizers` package does.
class TokenMatcher {
  public:
    struct Match {
        size_t begin = std::string_view::npos, end = std::string_view::npos;
        uint32_t id = 0;
        bool found() const { return begin != std::string_view::npos; }
    };

    /// `content` must not be empty. Of equal contents the first id is kept.
    void add(std::string_view content, uint32_t id);

    /// The leftmost match that begins at or after `from`; of several, the longest.
    Match find(std::string_view text, size_t from) const;

    /// True when some content contains the bytes `first`, `second` as neighbours. If not, no match spans a cut between
    /// them.
    bool holds_pair(char first, char second) const;

  private:
    struct Node {
        uint32_t id = kNoId;
        uint32_t next = 0;
    };
    static constexpr uint32_t kNoId = ~uint32_t{0};
    static uint64_t edge(uint32_t node, char byte) {
        return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
    }
    static size_t pair(char first, char second) {
        return static_cast<size_t>(static_cast<uint8_t>(first)) << 8 | static_cast<uint8_t>(second);
    }

    IntegerMap<Node> edges_;  // (node, byte) -> the next node, and the id of the content that ends there
    uint32_t num_nodes_ = 1;
    std::array<bool, 256> starts_{};
    std::vector<bool> pairs_ = std::vector<bool>(1 << 16);
};

}  // namespace ballast::data
