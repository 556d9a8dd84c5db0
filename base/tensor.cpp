#include "base/tensor.h"

#include <fmt/format.h>

namespace ballast {

Tensor::Tensor(void* data_, Dtype dtype_, std::initializer_list<int64_t> shape_)
    : data(data_), dtype(dtype_), rank(static_cast<int>(shape_.size())) {
    require(rank <= kMaxRank, "too many dimensions");
    size_t i = 0;
    for (int64_t extent : shape_) shape[i++] = extent;
    int64_t step = 1;
    for (int d = rank - 1; d >= 0; --d) {
        stride[static_cast<size_t>(d)] = step;
        step *= shape[static_cast<size_t>(d)];
    }
}

int64_t Tensor::numel() const {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= dim(d);
    return n;
}

bool Tensor::is_contiguous() const {
    int64_t step = 1;
    for (int d = rank - 1; d >= 0; --d) {
        if (dim(d) != 1 && stride[static_cast<size_t>(d)] != step) return false;
        step *= dim(d);
    }
    return true;
}

Tensor Tensor::view(std::initializer_list<int64_t> new_shape) const {
    require(is_contiguous(), "view of a strided tensor");
    Tensor out(data, dtype, new_shape);
    require(out.numel() == numel(), "view changes the number of elements");
    return out;
}

Tensor Tensor::slice(int dimension, int64_t begin, int64_t end) const {
    require(dimension < rank && 0 <= begin && begin <= end && end <= dim(dimension), "slice out of range");
    Tensor out = *this;
    const auto d = static_cast<size_t>(dimension);
    out.data = static_cast<char*>(data) + begin * stride[d] * static_cast<int64_t>(size_of(dtype));
    out.shape[d] = end - begin;
    return out;
}

std::string Tensor::describe() const {
    std::string dims;
    for (int d = 0; d < rank; ++d) dims += fmt::format("{}{}", d ? ", " : "", dim(d));
    return fmt::format("{}[{}]", name_of(dtype), dims);
}

}  // namespace ballast
