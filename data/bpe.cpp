#include "data/bpe.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "base/error.h"

namespace ballast::data {

void WordMerger::push_candidate(int32_t position) {
    if (position < 0) return;
    const Symbol& left = symbols_[static_cast<size_t>(position)];
    if (left.next < 0) return;
    const uint32_t right = symbols_[static_cast<size_t>(left.next)].id;
    if (const MergeTable::Merge* merge = merges_.find(left.id, right)) {
        heap_.push_back({merge->rank, merge->id, position, left.id, right});
        std::push_heap(heap_.begin(), heap_.end(), std::greater<>{});
    }
}

/// A candidate goes stale when a merge nearby took one of its two symbols.
bool WordMerger::is_current(const Candidate& candidate) const {
    const Symbol& left = symbols_[static_cast<size_t>(candidate.position)];
    return left.next >= 0 && left.id == candidate.left &&
           symbols_[static_cast<size_t>(left.next)].id == candidate.right;
}

void WordMerger::join(const Candidate& candidate) {
    Symbol& left = symbols_[static_cast<size_t>(candidate.position)];
    Symbol& right = symbols_[static_cast<size_t>(left.next)];
    left.id = candidate.id;
    left.next = right.next;
    if (right.next >= 0) symbols_[static_cast<size_t>(right.next)].previous = candidate.position;
    right.next = kSwallowed;
}

void WordMerger::begin(size_t size) {
    require(size < static_cast<size_t>(std::numeric_limits<int32_t>::max()), "a word of 2 GiB");
    symbols_.resize(size);
    for (size_t i = 0; i < size; ++i) {
        const auto at = static_cast<int32_t>(i);
        symbols_[i] = {0, at - 1, i + 1 < size ? at + 1 : -1};
    }
    heap_.clear();
}

void WordMerger::encode(std::string_view word, std::vector<uint32_t>& out) {
    begin(word.size());
    for (size_t i = 0; i < word.size(); ++i) symbols_[i].id = merges_.byte_id(static_cast<uint8_t>(word[i]));
    merge_symbols(out);
}

void WordMerger::merge(std::span<const uint32_t> ids, std::vector<uint32_t>& out) {
    begin(ids.size());
    for (size_t i = 0; i < ids.size(); ++i) symbols_[i].id = ids[i];
    merge_symbols(out);
}

void WordMerger::merge_symbols(std::vector<uint32_t>& out) {
    const auto size = static_cast<int32_t>(symbols_.size());
    for (int32_t i = 0; i + 1 < size; ++i) push_candidate(i);
    while (!heap_.empty()) {
        std::pop_heap(heap_.begin(), heap_.end(), std::greater<>{});
        const Candidate best = heap_.back();
        heap_.pop_back();
        if (!is_current(best)) continue;
        join(best);
        push_candidate(symbols_[static_cast<size_t>(best.position)].previous);
        push_candidate(best.position);
    }
    for (int32_t i = 0; i >= 0 && i < size; i = symbols_[static_cast<size_t>(i)].next)
        out.push_back(symbols_[static_cast<size_t>(i)].id);
}

}  // namespace ballast::data
