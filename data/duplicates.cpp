#include "data/duplicates.h"

#include <algorithm>
#include <tuple>

namespace ballast::data {
namespace {

struct Entry {
    DocumentHash hash;
    int64_t document;

    bool operator<(const Entry& other) const { return std::tie(hash, document) < std::tie(other.hash, other.document); }
};

}  // namespace

size_t duplicates_memory(int64_t count) {
    return std::min(static_cast<size_t>(count), kDuplicatesMemory / sizeof(Entry)) * sizeof(Entry);
}

std::vector<bool> find_duplicates(int64_t count,
                                  const std::function<void(const std::function<void(const DocumentHash&)>&)>& for_each,
                                  size_t memory) {
    std::vector<bool> duplicate(static_cast<size_t>(count));
    // Shares by the hash, so that equal ones are in one; a quarter less full than they may be, as they differ in size.
    const uint64_t at_once = std::max<uint64_t>(1, memory / sizeof(Entry) * 3 / 4);
    const uint64_t shares = (static_cast<uint64_t>(count) + at_once - 1) / at_once;
    std::vector<Entry> entries;
    entries.reserve(std::min(static_cast<size_t>(count), memory / sizeof(Entry)));
    for (uint64_t share = 0; share < shares; ++share) {
        entries.clear();
        int64_t document = 0;
        for_each([&](const DocumentHash& hash) {
            if (hash[0] % shares == share) entries.push_back({hash, document});
            ++document;
        });
        std::sort(entries.begin(), entries.end());
        for (size_t i = 1; i < entries.size(); ++i)
            if (entries[i].hash == entries[i - 1].hash) duplicate[static_cast<size_t>(entries[i].document)] = true;
    }
    return duplicate;
}

}  // namespace ballast::data
