// The data movement of one TMA operation.
#pragma once

#include <algorithm>

#include "kernels/simt/runtime/async_proxy.h"

namespace ballast::simt {

/// One row of a box: elements `first` to `last` - 1 lie inside the tensor.
struct TensorRow {
    char* tile;        ///< where the row begins in shared memory, before the swizzle
    uintptr_t global;  ///< where it begins in global memory, possibly outside of the tensor
    unsigned index, first, last, element_bytes;

    char* begin() const { return reinterpret_cast<char*>(global + first * element_bytes); }
    size_t bytes() const { return size_t{last - first} * element_bytes; }
};

template <class Visit>
void for_each_row(const TensorCopy& copy, const Visit& visit) {
    const TensorLayout& layout = copy.layout;
    const unsigned bytes = element_bytes(layout.element);
    for (unsigned r = 0; r < layout.rows(); ++r) {
        int64_t offset = int64_t{copy.coordinates[0]} * bytes;
        bool inside = true;
        unsigned rest = r;
        for (size_t i = 1; i < static_cast<size_t>(layout.rank); ++i) {
            const int64_t at = int64_t{copy.coordinates[i]} + rest % layout.box[i];
            rest /= layout.box[i];
            inside = inside && at >= 0 && at < static_cast<int64_t>(layout.size[i]);
            offset += at * static_cast<int64_t>(layout.stride[i - 1]);
        }
        const auto clamp = [&](int64_t x) { return static_cast<unsigned>(std::clamp<int64_t>(x, 0, layout.box[0])); };
        const unsigned first = clamp(-int64_t{copy.coordinates[0]});
        const unsigned last = clamp(static_cast<int64_t>(layout.size[0]) - copy.coordinates[0]);
        visit(TensorRow{.tile = copy.tile + size_t{r} * layout.row_bytes(),
                        .global = reinterpret_cast<uintptr_t>(layout.base) + static_cast<uintptr_t>(offset),
                        .index = r,
                        .first = inside ? first : 0,
                        .last = inside ? std::max(first, last) : 0,
                        .element_bytes = bytes});
    }
}

/// A load: copies from the tensor, with zeros for elements outside.
void fill_tile(const TensorCopy& copy);
/// The first half of a store.
std::vector<char> contents_of_tile(const TensorCopy& copy);
/// The second half: copy.contents into the tensor, or added to it.
void write_rows(const TensorCopy& copy);

/// The phase an mbarrier is in.
bool mbarrier_phase(const uint64_t* barrier);

}  // namespace ballast::simt
