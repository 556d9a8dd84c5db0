// Byte-pair encoding of one word.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/integer_map.h"

namespace ballast::data {

/// The merge rules, as ids.
class MergeTable {
  public:
    struct Merge {
        uint32_t rank = 0;  // position in the list of merges: lower merges first
        uint32_t id = 0;    // of the joined token
    };

    void set_byte(uint8_t byte, uint32_t id) { byte_ids_[byte] = id; }
    uint32_t byte_id(uint8_t byte) const { return byte_ids_[byte]; }

    void set_merge(uint32_t left, uint32_t right, Merge merge) { merges_[pair_key(left, right)] = merge; }
    const Merge* find(uint32_t left, uint32_t right) const { return merges_.find(pair_key(left, right)); }

  private:
    std::array<uint32_t, 256> byte_ids_{};
    IntegerMap<Merge> merges_;
};

/// Applies the merges to a word: always the merge of lowest rank, among equals the leftmost, until none applies. Keeps
/// its scratch memory between words; use one object per thread. O(n log n) for a word of n bytes.
class WordMerger {
  public:
    explicit WordMerger(const MergeTable& merges) : merges_(merges) {}

    /// Appends the ids of `word` to `out`; the word starts as one token per byte.
    void encode(std::string_view word, std::vector<uint32_t>& out);

    /// The same for a word that starts as the tokens `ids`.
    void merge(std::span<const uint32_t> ids, std::vector<uint32_t>& out);

  private:
    struct Symbol {
        uint32_t id;
        int32_t previous, next;  // -1 at the ends; a symbol merged into its left neighbour has next == kSwallowed
    };
    struct Candidate {
        uint32_t rank, id;
        int32_t position;
        uint32_t left, right;
        bool operator>(const Candidate& other) const {
            return rank != other.rank ? rank > other.rank : position > other.position;
        }
    };
    static constexpr int32_t kSwallowed = -2;

    void begin(size_t size);
    void merge_symbols(std::vector<uint32_t>& out);
    void push_candidate(int32_t position);
    bool is_current(const Candidate& candidate) const;
    void join(const Candidate& candidate);

    const MergeTable& merges_;
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;  // a binary heap, lowest rank first
};

}  // namespace ballast::data
