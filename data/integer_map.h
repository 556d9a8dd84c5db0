// A flat hash map of 64-bit keys for the tokenizer's inner loops.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ballast::data {

/// Open addressing, linear probing, at most half full. A key of two halves, for example a pair of token ids, is made by
/// pair_key(). No removal. The key ~0 is reserved.
template <class Value> class IntegerMap {
  public:
    static constexpr uint64_t kEmpty = ~uint64_t{0};

    const Value* find(uint64_t key) const {
        if (slots_.empty()) return nullptr;
        for (size_t i = home(key);; i = (i + 1) & mask()) {
            if (slots_[i].key == key) return &slots_[i].value;
            if (slots_[i].key == kEmpty) return nullptr;
        }
    }

    /// The value of `key`, default-constructed when new. A later insertion invalidates the reference.
    Value& operator[](uint64_t key) {
        if (2 * (size_ + 1) > slots_.size()) grow();
        size_t i = home(key);
        for (; slots_[i].key != key; i = (i + 1) & mask()) {
            if (slots_[i].key != kEmpty) continue;
            slots_[i].key = key;
            ++size_;
            break;
        }
        return slots_[i].value;
    }

    size_t size() const { return size_; }

    template <class Visit> void for_each(Visit&& visit) {
        for (Slot& slot : slots_)
            if (slot.key != kEmpty) visit(slot.key, slot.value);
    }

  private:
    struct Slot {
        uint64_t key = kEmpty;
        Value value{};
    };

    size_t mask() const { return slots_.size() - 1; }
    size_t home(uint64_t key) const {
        key *= 0x9E3779B97F4A7C15ull;  // Fibonacci hashing, with the high bits folded in
        return (key ^ key >> 32) & mask();
    }
    void grow() {
        std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
        old.swap(slots_);
        size_ = 0;
        for (Slot& slot : old)
            if (slot.key != kEmpty) (*this)[slot.key] = std::move(slot.value);
    }

    std::vector<Slot> slots_;
    size_t size_ = 0;
};

inline uint64_t pair_key(uint32_t first, uint32_t second) { return static_cast<uint64_t>(first) << 32 | second; }

}  // namespace ballast::data
