#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Tasks own strips of columns, so that every row of d_weight gets its additions in the order of n.
template <class T> void add_rows(Context& context, const Tensor& d_weight, const Tensor& d_out, const Tensor& ids) {
    using A = Accumulator<T>;
    const hn::ScalableTag<A> d;
    constexpr int64_t kStrip = 64;
    const int64_t rows = d_out.dim(0), channels = d_out.dim(1);
    A* to = d_weight.ptr<A>();
    const T* from = d_out.ptr<T>();
    const int32_t* id = ids.ptr<int32_t>();
    const Blocks strips{channels, kStrip};
    context.pool().parallel_for(strips.size(), [&](int64_t strip) HWY_ATTR {
        const int64_t c0 = strips.begin(strip), width = strips.end(strip) - c0;
        for (int64_t n = 0; n < rows; ++n) {
            require(0 <= id[n] && id[n] < d_weight.dim(0), "a token id is outside the vocabulary");
            A* sum = to + id[n] * channels + c0;
            const T* gradient = from + n * channels + c0;
            for_vectors(d, width, [&](int64_t i, auto lanes) HWY_ATTR {
                store(hn::Add(load(d, sum + i, lanes), load(d, gradient + i, lanes)), d, sum + i, lanes);
            });
        }
    });
}

/// to = the row of a weight that is narrower than it, times `scale`.
template <class T, class W> void widen_row(T* to, const W* row, float scale, int64_t channels) {
    const hn::ScalableTag<float> d;
    const auto factor = hn::Set(d, scale);
    for_vectors(d, channels, [&](int64_t i, auto lanes) HWY_ATTR {
        store(hn::Mul(load(d, row + i, lanes), factor), d, to + i, lanes);
    });
}

void embedding_row(const Tensor& out, int64_t n, const Tensor& weight, int64_t id, float scale) {
    const int64_t channels = out.dim(1);
    const auto from = [&]<class T, class W>(T* to, const W* rows) {
        widen_row(to + n * channels, rows + id * channels, scale, channels);
    };
    if (out.dtype == Dtype::bf16)
        from(out.ptr<bf16>(), weight.ptr<int8_t>());
    else if (weight.dtype == Dtype::bf16)
        from(out.ptr<float>(), weight.ptr<bf16>());
    else
        from(out.ptr<float>(), weight.ptr<int8_t>());
}

void embedding_backward(Context& context, const Tensor& d_weight, const Tensor& d_out, const Tensor& ids) {
    with_compute_type(d_out.dtype, [&]<class T>(T) { add_rows<T>(context, d_weight, d_out, ids); });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(embedding_backward);
HWY_EXPORT(embedding_row);

void embedding_forward(Context& context, const Tensor& out, const Tensor& weight, const Tensor& ids,
                       const Tensor& scale) {
    const auto row_bytes = static_cast<size_t>(out.dim(1)) * size_of(out.dtype);
    const int32_t* id = ids.ptr<int32_t>();
    const Blocks blocks = row_blocks(out.dim(0), out.dim(1));
    context.pool().parallel_for(blocks.size(), [&](int64_t block) {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) {
            require(0 <= id[n] && id[n] < weight.dim(0), "a token id is outside the vocabulary");
            if (weight.dtype != out.dtype) {
                const float factor = scale.empty() ? 1.0f : scale.ptr<float>()[id[n]];
                HWY_DYNAMIC_DISPATCH(embedding_row)(out, n, weight, id[n], factor);
                continue;
            }
            std::memcpy(static_cast<char*>(out.data) + static_cast<size_t>(n) * row_bytes,
                        static_cast<const char*>(weight.data) + static_cast<size_t>(id[n]) * row_bytes, row_bytes);
        }
    });
}

void embedding_backward(Context& context, const Tensor& d_weight, const Tensor& d_out, const Tensor& ids) {
    HWY_DYNAMIC_DISPATCH(embedding_backward)(context, d_weight, d_out, ids);
}

size_t embedding_backward_scratch_bytes(const Context&, Dtype, int64_t, int64_t) { return 0; }

}  // namespace ballast::cpu
#endif
