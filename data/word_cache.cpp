#include "data/word_cache.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

namespace ballast::data {

uint64_t WordCache::hash_of(std::string_view word) { return XXH3_64bits(word.data(), word.size()); }

std::span<const uint32_t> WordCache::find(std::string_view word, uint64_t hash) const {
    if (slots_.empty()) return {};
    const size_t mask = slots_.size() - 1;
    for (size_t i = hash & mask; slots_[i].ids_size != 0; i = (i + 1) & mask) {
        const Slot& slot = slots_[i];
        if (slot.hash == hash && slot.text_size == word.size() &&
            std::memcmp(texts_.data() + slot.text_begin, word.data(), word.size()) == 0)
            return {ids_.data() + slot.ids_begin, slot.ids_size};
    }
    return {};
}

size_t WordCache::free_slot(uint64_t hash) const {
    const size_t mask = slots_.size() - 1;
    size_t i = hash & mask;
    while (slots_[i].ids_size != 0) i = (i + 1) & mask;
    return i;
}

void WordCache::make_room() {
    if (2 * (size_ + 1) <= slots_.size()) return;
    if (slots_.size() >= kMaxSlots) {
        slots_.assign(slots_.size(), Slot{});
        size_ = 0;
        texts_.clear();
        ids_.clear();
        return;
    }
    std::vector<Slot> old(slots_.empty() ? kFirstSlots : 2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old)
        if (slot.ids_size != 0) slots_[free_slot(slot.hash)] = slot;
}

void WordCache::insert(std::string_view word, uint64_t hash, std::span<const uint32_t> ids) {
    make_room();
    Slot& slot = slots_[free_slot(hash)];
    slot.hash = hash;
    slot.text_begin = static_cast<uint32_t>(texts_.size());
    slot.text_size = static_cast<uint16_t>(word.size());
    slot.ids_begin = static_cast<uint32_t>(ids_.size());
    slot.ids_size = static_cast<uint16_t>(ids.size());
    texts_.append(word);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    ++size_;
}

}  // namespace ballast::data
