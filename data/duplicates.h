// Finds documents that repeat an earlier document.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace ballast::data {

using DocumentHash = std::array<uint64_t, 2>;

/// What a search for duplicates may use, besides one bit per document.
inline constexpr size_t kDuplicatesMemory = size_t{256} << 20;
/// The part of it that a search among so many documents uses.
size_t duplicates_memory(int64_t count);

/// True for each document whose hash equals that of an earlier one. `for_each(visit)` must call visit(hash) for all
/// `count` hashes, in order. It is called once for every range of hashes that fits into `memory` bytes at 24 bytes
/// each, however often a hash occurs; in addition there is one bit per document. Hashes have 128 bits: among 2 · 10^8
/// documents, two have the same hash by chance with probability 10^-22.
std::vector<bool> find_duplicates(int64_t count,
                                  const std::function<void(const std::function<void(const DocumentHash&)>&)>& for_each,
                                  size_t memory = kDuplicatesMemory);

}  // namespace ballast::data
