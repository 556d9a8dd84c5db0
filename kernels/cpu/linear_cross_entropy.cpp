#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_cross_entropy.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// The loss of one row of logits, -log softmax(logits)[target]; with `gradient` the logits become
/// scale * (softmax(logits) - one_hot(target)). A row with a negative target has neither.
template <class A> A cross_entropy_row(A* logits, int64_t vocabulary, int32_t target, bool gradient, A scale) {
    if (target < 0) {
        if (gradient) std::memset(logits, 0, static_cast<size_t>(vocabulary) * sizeof(A));
        return A(0);
    }
    require(target < vocabulary, "a target is outside the vocabulary");
    const hn::ScalableTag<A> d;
    const A target_logit = logits[target];
    auto maxima = hn::Set(d, target_logit);
    for_vectors(d, vocabulary, [&](int64_t i, auto lanes) HWY_ATTR {
        maxima = hn::Max(maxima, first_or(d, load(d, logits + i, lanes), maxima, lanes));
    });
    const A maximum = hn::GetLane(hn::MaxOfLanes(d, maxima));
    const auto shift = hn::Set(d, maximum);
    const A sum = reduce_sum<A>(vocabulary, [&](int64_t i, auto lanes) HWY_ATTR {
        const auto e = exp(d, hn::Sub(load(d, logits + i, lanes), shift));
        if (gradient) store(e, d, logits + i, lanes);
        return e;
    });
    if (gradient) {
        const auto factor = hn::Set(d, scale / sum);
        for_vectors(d, vocabulary, [&](int64_t i, auto lanes) HWY_ATTR {
            store(hn::Mul(load(d, logits + i, lanes), factor), d, logits + i, lanes);
        });
        logits[target] -= scale;
    }
    return log_of(sum) + (maximum - target_logit);
}

void cross_entropy_rows(Context& context, const Tensor& losses, const Tensor& logits, const Tensor& targets, int64_t first_row,
                        bool gradient, double scale) {
    with_accumulation_type(logits.dtype, [&]<class A>(A) {
        const int64_t vocabulary = logits.dim(1);
        const Blocks blocks = row_blocks(logits.dim(0), vocabulary);
        A* rows = logits.ptr<A>();
        A* loss = losses.ptr<A>() + first_row;
        const int32_t* target = targets.ptr<int32_t>() + first_row;
        context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
            for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
                loss[n] = cross_entropy_row(rows + n * vocabulary, vocabulary, target[n], gradient, static_cast<A>(scale));
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(cross_entropy_rows);

namespace {

/// Rows whose logits are held at once: about 4 MiB of them, but enough rows to earn a pass over a large weight matrix.
int64_t chunk_rows(int64_t rows, int64_t vocabulary) {
    constexpr int64_t kElements = 1 << 20, kAtLeast = 256;
    return std::min(rows, std::max(kAtLeast, kElements / vocabulary));
}

}  // namespace

size_t linear_cross_entropy_scratch_bytes(const Context& context, Dtype x, int64_t rows, int64_t vocabulary,
                                          int64_t channels) {
    const int64_t chunk = chunk_rows(rows, vocabulary);
    const Dtype acc = accumulation_dtype(x), product = product_dtype(context, x);
    return ScratchCarver::padded(static_cast<size_t>(chunk * vocabulary) * size_of(acc)) +
           converted_bytes(x, product, vocabulary * channels) + converted_bytes(x, product, chunk * channels) +
           converted_bytes(acc, product, chunk * vocabulary) + converted_bytes(x, acc, chunk * channels);
}

void linear_cross_entropy(Context& context, const Tensor& losses, const Tensor& d_x, const Tensor& d_weight,
                          const Tensor& x, const Tensor& weight, const Tensor& targets, double loss_factor,
                          const Tensor& scalars) {
    const int64_t rows = x.dim(0), channels = x.dim(1), vocabulary = weight.dim(0);
    const int64_t chunk = chunk_rows(rows, vocabulary);
    const Dtype acc = accumulation_dtype(x.dtype), product = product_dtype(context, x.dtype);
    const size_t bytes = linear_cross_entropy_scratch_bytes(context, x.dtype, rows, vocabulary, channels);
    const Scratch::Block block(context.scratch(), bytes);
    ScratchCarver whole(block.data(), bytes);
    void* logits_data = whole.take(static_cast<size_t>(chunk * vocabulary) * size_of(acc));
    const Tensor w = converted(context, weight, product, whole);
    const double scale =
        loss_factor * (scalars.empty() ? 1.0 : static_cast<const StepScalars*>(scalars.data)->loss_scale);

    for (int64_t first = 0; first < rows; first += chunk) {
        ScratchCarver scratch = whole;
        const int64_t count = std::min(chunk, rows - first);
        const Tensor x_chunk = converted(context, x.slice(0, first, first + count), product, scratch);
        const Tensor logits(logits_data, acc, {count, vocabulary});
        gemm(context, {.dtype = product,
                       .m = count,
                       .n = vocabulary,
                       .k = channels,
                       .a = {x_chunk.data, channels, 1},
                       .b = {w.data, 1, channels},
                       .c = logits_data});
        HWY_DYNAMIC_DISPATCH(cross_entropy_rows)(context, losses, logits, targets, first, !d_x.empty(), scale);
        if (d_x.empty()) continue;

        const Tensor gradient = converted(context, logits, product, scratch);
        const Tensor d_x_out = d_x.slice(0, first, first + count);
        Tensor d_x_chunk = d_x_out;
        d_x_chunk.dtype = acc;
        if (d_x.dtype != acc) d_x_chunk.data = scratch.take(d_x_chunk.bytes());
        gemm(context, {.dtype = product,
                       .m = count,
                       .n = channels,
                       .k = vocabulary,
                       .a = {gradient.data, vocabulary, 1},
                       .b = {w.data, channels, 1},
                       .c = d_x_chunk.data});
        if (d_x.dtype != acc) cast(context, d_x_out, d_x_chunk);
        gemm(context, {.dtype = product,
                       .m = vocabulary,
                       .n = channels,
                       .k = count,
                       .a = {gradient.data, 1, vocabulary},
                       .b = {x_chunk.data, channels, 1},
                       .c = d_weight.data,
                       .accumulate = true});
    }
}

}  // namespace ballast::cpu
#endif
