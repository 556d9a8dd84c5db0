// Caches the ids of words: most words of a text are repeats, and a look-up is far cheaper than merging.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::data {

/// A hash table from short words to ids. When it is full, it is cleared. One object per thread.
class WordCache {
  public:
    static constexpr size_t kMaxWordBytes = 64;  // longer words are rare and rarely repeated

    /// The ids of `word`; an empty span when it is not in the cache. `hash` is hash_of(word).
    std::span<const uint32_t> find(std::string_view word, uint64_t hash) const;

    /// Stores a word that is not in the cache; `ids` must not be empty.
    void insert(std::string_view word, uint64_t hash, std::span<const uint32_t> ids);

    static uint64_t hash_of(std::string_view word);

  private:
    static constexpr size_t kFirstSlots = size_t{1} << 10;
    static constexpr size_t kMaxSlots = size_t{1} << 18;

    struct Slot {
        uint64_t hash = 0;
        uint32_t text_begin = 0, ids_begin = 0;
        uint16_t text_size = 0, ids_size = 0;  // ids_size 0: empty
    };

    void make_room();
    size_t free_slot(uint64_t hash) const;

    std::vector<Slot> slots_;  // linear probing, at most half full
    size_t size_ = 0;
    std::string texts_;
    std::vector<uint32_t> ids_;
};

}  // namespace ballast::data
