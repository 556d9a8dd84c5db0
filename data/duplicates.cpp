#include "data/duplicates.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace ballast::data {
namespace {

struct Entry {
    DocumentHash hash;
    int64_t document;

    bool operator<(const Entry& other) const { return std::tie(hash, document) < std::tie(other.hash, other.document); }
};

constexpr uint64_t kLargestWord = std::numeric_limits<uint64_t>::max();

/// The hashes that one pass looks for, from `first` to `last`.
struct HashRange {
    DocumentHash first, last;

    bool holds(const DocumentHash& hash) const { return first <= hash && hash <= last; }
    bool is_at_end() const { return last == DocumentHash{kLargestWord, kLargestWord}; }
    /// The range of `width` first words from `begin` on.
    static HashRange from(const DocumentHash& begin, uint64_t width) {
        return {begin, {begin[0] > kLargestWord - width ? kLargestWord : begin[0] + width, kLargestWord}};
    }
    HashRange next(uint64_t width) const {
        return from(last[1] == kLargestWord ? DocumentHash{last[0] + 1, 0} : DocumentHash{last[0], last[1] + 1}, width);
    }
};

/// Marks all documents but the first of each hash, and leaves the entries of the first ones, sorted.
void mark_repeats(std::vector<Entry>& entries, std::vector<bool>& duplicate) {
    std::sort(entries.begin(), entries.end());
    for (size_t i = 1; i < entries.size(); ++i)
        if (entries[i].hash == entries[i - 1].hash) duplicate[static_cast<size_t>(entries[i].document)] = true;
    entries.erase(
        std::unique(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.hash == b.hash; }),
        entries.end());
}

/// Makes room in full entries: repeats go, and where these are few, the range ends earlier.
void make_room(std::vector<Entry>& entries, std::vector<bool>& duplicate, HashRange& range) {
    const size_t full = entries.size();
    mark_repeats(entries, duplicate);
    if (entries.size() < full - full / 8) return;
    entries.resize(full / 2);
    range.last = entries.back().hash;
}

}  // namespace

size_t duplicates_memory(int64_t count) {
    return std::min(static_cast<size_t>(count), kDuplicatesMemory / sizeof(Entry)) * sizeof(Entry);
}

std::vector<bool> find_duplicates(int64_t count,
                                  const std::function<void(const std::function<void(const DocumentHash&)>&)>& for_each,
                                  size_t memory) {
    std::vector<bool> duplicate(static_cast<size_t>(count));
    // Hashes are spread evenly, so ranges of one width hold about as many: a quarter less than there is room for.
    const size_t most = std::max<size_t>(2, memory / sizeof(Entry)), usual = most - most / 4;
    const size_t passes = std::max<size_t>(1, (static_cast<size_t>(count) + usual - 1) / usual);
    const uint64_t width = kLargestWord / passes;
    std::vector<Entry> entries;
    entries.reserve(std::min(static_cast<size_t>(count), most));
    for (HashRange range = HashRange::from({}, width);; range = range.next(width)) {
        entries.clear();
        int64_t document = 0;
        for_each([&](const DocumentHash& hash) {
            if (range.holds(hash) && entries.size() == most) make_room(entries, duplicate, range);
            if (range.holds(hash)) entries.push_back({hash, document});
            ++document;
        });
        mark_repeats(entries, duplicate);
        if (range.is_at_end()) break;
    }
    return duplicate;
}

}  // namespace ballast::data
