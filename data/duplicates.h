// Finds documents that repeat an earlier document.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace ballast::data {

using DocumentHash = std::array<uint64_t, 2>;

/// True for each document whose hash equals that of an earlier one. `for_each(visit)` must call visit(hash) for all
/// `count` hashes, in order. It is called once for every share of the hashes that fits into `memory` bytes at 24 bytes
/// each; in addition there is one bit per document. Hashes have 128 bits: among 2 · 10^8 documents, two have the same
/// hash by chance with probability 10^-22.
std::vector<bool> find_duplicates(int64_t count,
                                  const std::function<void(const std::function<void(const DocumentHash&)>&)>& for_each,
                                  size_t memory);

}  // namespace ballast::data
