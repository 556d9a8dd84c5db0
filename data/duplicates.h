// Which documents are an earlier one over again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace ballast::data {

using DocumentHash = std::array<uint64_t, 2>;

/// True for each document whose hash one before it has. `for_each(visit)` calls visit(hash) for all `count` of them, in
/// order, and is called once for every share of the hashes that `memory` bytes hold at 24 bytes each; beside these
/// there is one bit a document. 128 bits: of 2 · 10^8 documents two have the same by chance with probability 10^-22.
std::vector<bool> find_duplicates(int64_t count,
                                  const std::function<void(const std::function<void(const DocumentHash&)>&)>& for_each,
                                  size_t memory);

}  // namespace ballast::data
