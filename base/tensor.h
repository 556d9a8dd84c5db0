// A view of memory with a shape. It owns nothing. The memory may be on a device, so only kernels dereference it.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/dtype.h"
#include "base/error.h"

namespace ballast {

struct Tensor {
    static constexpr int kMaxRank = 5;

    void* data = nullptr;
    Dtype dtype = Dtype::f32;
    int rank = 0;
    std::array<int64_t, kMaxRank> shape{};
    std::array<int64_t, kMaxRank> stride{};  // in elements

    Tensor() = default;
    /// A contiguous (row-major) view of `data`.
    Tensor(void* data, Dtype dtype, std::initializer_list<int64_t> shape);

    /// True for an absent optional operand: there is no tensor.
    bool empty() const { return data == nullptr; }
    int64_t dim(int i) const { return shape[static_cast<size_t>(i < 0 ? rank + i : i)]; }
    int64_t numel() const;
    size_t bytes() const { return static_cast<size_t>(numel()) * size_of(dtype); }
    bool is_contiguous() const;

    /// The same memory under another shape with the same number of elements. The tensor must be contiguous.
    Tensor view(std::initializer_list<int64_t> new_shape) const;
    /// Elements [begin, end) of dimension `dimension`; shares memory.
    Tensor slice(int dimension, int64_t begin, int64_t end) const;

    template <class T>
    T* ptr() const {
        require(DtypeOf<T>::value == dtype, "tensor has another dtype");
        return static_cast<T*>(data);
    }

    /// "bf16[8, 128, 4, 32]" for messages.
    std::string describe() const;
};

}  // namespace ballast
