#include "kernels/simt/runtime/tensor_copy.h"

namespace ballast::simt {
namespace {

/// Calls visit(element of the tile, where the swizzle has put it, as T).
template <class T, class Visit>
void for_each_element(const TensorCopy& copy, const TensorRow& row, const Visit& visit) {
    for (unsigned i = 0; i < copy.layout.box[0]; ++i) {
        const auto address = reinterpret_cast<uintptr_t>(row.tile + i * sizeof(T));
        visit(i, *reinterpret_cast<T*>(swizzled(address, copy.layout.swizzle)));
    }
}

template <class T>
void fill_tile(const TensorCopy& copy) {
    for_each_row(copy, [&](const TensorRow& row) {
        const T* source = reinterpret_cast<const T*>(row.global);
        for_each_element<T>(copy, row,
                            [&](unsigned i, T& target) { target = i >= row.first && i < row.last ? source[i] : T{}; });
    });
}

template <class T>
void read_tile(const TensorCopy& copy, T* contents) {
    for_each_row(copy, [&](const TensorRow& row) {
        T* target = contents + size_t{row.index} * copy.layout.box[0];
        for_each_element<T>(copy, row, [&](unsigned i, const T& source) { target[i] = source; });
    });
}

template <class T, class Write>
void write_rows(const TensorCopy& copy, const Write& write) {
    for_each_row(copy, [&](const TensorRow& row) {
        const T* source = reinterpret_cast<const T*>(copy.contents.data()) + size_t{row.index} * copy.layout.box[0];
        T* target = reinterpret_cast<T*>(row.global);
        for (unsigned i = row.first; i < row.last; ++i) write(target + i, source[i]);
    });
}

}  // namespace

void fill_tile(const TensorCopy& copy) {
    if (element_bytes(copy.layout.element) == 4)
        fill_tile<uint32_t>(copy);
    else
        fill_tile<uint16_t>(copy);
}

std::vector<char> contents_of_tile(const TensorCopy& copy) {
    std::vector<char> contents(copy.layout.box_bytes());
    if (element_bytes(copy.layout.element) == 4)
        read_tile(copy, reinterpret_cast<uint32_t*>(contents.data()));
    else
        read_tile(copy, reinterpret_cast<uint16_t*>(contents.data()));
    return contents;
}

void write_rows(const TensorCopy& copy) {
    const auto assign = [](auto* target, auto value) { *target = value; };
    if (copy.kind == host::TensorCopyKind::add)
        write_rows<float>(copy, [](float* target, float value) {
            host::atomic_update(target, [value](float old) { return old + value; });
        });
    else if (element_bytes(copy.layout.element) == 4)
        write_rows<uint32_t>(copy, assign);
    else
        write_rows<uint16_t>(copy, assign);
}

}  // namespace ballast::simt
