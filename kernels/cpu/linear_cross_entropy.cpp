// The vocabulary head: logits, losses and their gradients, by chunks of rows and, inside, by tiles of logits that never
// leave the cache of the thread that computes them. A tile stores e = exp(logit - its row's maximum in the block), in
// the dtype of the products, and every row's maximum and sum of e. When all blocks of a row are done, its loss is
// known, and
//   gradient = e exp(block's maximum - row's maximum) / row's sum - [target]
// is computed in place, block by block of the vocabulary; both of its products are computed while the block is in the
// cache. So each exponential is written to memory once and read once, in bf16 where products are bf16. (f32 logits in
// memory would be read and written seven times.) d_x is the sum over groups of blocks, whose number depends on the
// shape alone.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_cross_entropy.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/tile_memory.h"

// Once for all targets.
#ifndef BALLAST_KERNELS_CPU_CROSS_ENTROPY_CHUNK
#define BALLAST_KERNELS_CPU_CROSS_ENTROPY_CHUNK
namespace ballast::cpu {

/// Rows of a block are a little apart, lest they fall on each other in the cache.
inline constexpr int64_t kTileRows = 128, kBlockColumns = 1024, kBlockStride = kBlockColumns + 32;

/// One chunk of rows of linear_cross_entropy. R rows of the chunk, V vocabulary, C channels, K blocks of the
/// vocabulary.
struct CrossEntropyChunk {
    Tensor x_RC, weight_VC;  // in the products' dtype
    const int32_t* targets;  // [R]
    void* exponentials;      // [K,R,kBlockStride] in the products' dtype, then the gradients; null in evaluation
    void *maxima, *sums;     // acc [K,R] of a row in a block; after the losses, maxima are the factors of the gradients
    void* target_logits;     // acc [R], after the losses the gradients at the targets
    void* losses;            // acc [R]
    void* partial_d_x;       // acc [groups,R,C]
    int64_t blocks_per_group;

    int64_t rows() const { return x_RC.dim(0); }
    int64_t vocabulary() const { return weight_VC.dim(0); }
    int64_t channels() const { return x_RC.dim(1); }
    Blocks blocks() const { return {vocabulary(), kBlockColumns}; }
    Blocks groups() const { return {blocks().size(), blocks_per_group}; }
    template <class T>
    T* exponentials_at(int64_t block, int64_t row) const {
        return exponentials == nullptr ? nullptr
                                       : static_cast<T*>(exponentials) + (block * rows() + row) * kBlockStride;
    }
};

}  // namespace ballast::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// sum of exp(logits[i] - maximum), the exponentials going to `out` unless it is null.
template <class A, class T>
A exponentials_of_row(const A* logits, int64_t count, A maximum, T* out) {
    const hn::ScalableTag<A> d;
    const auto shift = hn::Set(d, maximum);
    return reduce_sum<A>(count, [&](int64_t i, auto lanes) HWY_ATTR {
        const auto e = exp(d, hn::Sub(load(d, logits + i, lanes), shift));
        if (out != nullptr) store(e, d, out + i, lanes);
        return e;
    });
}

template <class A>
A maximum_of_row(const A* logits, int64_t count) {
    const hn::ScalableTag<A> d;
    auto maxima = hn::Set(d, logits[0]);
    for_vectors(d, count, [&](int64_t i, auto lanes) HWY_ATTR {
        maxima = hn::Max(maxima, first_or(d, load(d, logits + i, lanes), maxima, lanes));
    });
    return hn::GetLane(hn::MaxOfLanes(d, maxima));
}

/// Logits of rows [first, first + count) in one block of the vocabulary, and what they leave behind.
template <class A, class T>
void tile_of_logits(Context& context, const CrossEntropyChunk& chunk, int64_t first, int64_t count, int64_t block) {
    const int64_t R = chunk.rows(), C = chunk.channels();
    const int64_t column = chunk.blocks().begin(block), columns = chunk.blocks().end(block) - column;
    OuterTileMemory memory(OuterTileMemory::padded(sizeof(A) * kTileRows * kBlockColumns));
    A* logits = memory.take<A>(kTileRows * kBlockColumns);
    gemm_on_this_thread(context, {.dtype = chunk.x_RC.dtype,
                                  .m = count,
                                  .n = columns,
                                  .k = C,
                                  .a = {chunk.x_RC.ptr<T>() + first * C, C, 1},
                                  .b = {chunk.weight_VC.ptr<T>() + column * C, 1, C},
                                  .c = logits});
    for (int64_t r = first; r < first + count; ++r, logits += columns) {
        const int32_t target = chunk.targets[r];
        if (target < 0) continue;
        if (target >= column && target < column + columns)
            static_cast<A*>(chunk.target_logits)[r] = logits[target - column];
        const A maximum = maximum_of_row(logits, columns);
        static_cast<A*>(chunk.maxima)[block * R + r] = maximum;
        static_cast<A*>(chunk.sums)[block * R + r] =
            exponentials_of_row(logits, columns, maximum, chunk.exponentials_at<T>(block, r));
    }
}

/// The loss of row r from its blocks, and the factors of its gradients.
template <class A>
void finish_row(const CrossEntropyChunk& chunk, int64_t r, A scale) {
    const int64_t R = chunk.rows(), blocks = chunk.blocks().size();
    A *maxima = static_cast<A*>(chunk.maxima), *target = static_cast<A*>(chunk.target_logits) + r;
    A& loss = static_cast<A*>(chunk.losses)[r];
    if (chunk.targets[r] < 0) {
        loss = 0;
        return;
    }
    A maximum = maxima[r], sum = 0;
    for (int64_t b = 1; b < blocks; ++b) maximum = std::max(maximum, maxima[b * R + r]);
    for (int64_t b = 0; b < blocks; ++b) {
        A& factor = maxima[b * R + r];
        factor = exp_of(factor - maximum);
        sum += static_cast<const A*>(chunk.sums)[b * R + r] * factor;
    }
    loss = log_of(sum) + (maximum - *target);
    const A factor = scale / sum;
    for (int64_t b = 0; b < blocks; ++b) maxima[b * R + r] *= factor;
    *target = exp_of(*target - maximum) * factor - scale;
}

/// Turns the exponentials of one block of the vocabulary into gradients of the logits.
template <class A, class T>
void gradients_of_block(const CrossEntropyChunk& chunk, int64_t block) {
    const hn::ScalableTag<A> d;
    const int64_t R = chunk.rows(), column = chunk.blocks().begin(block), columns = chunk.blocks().end(block) - column;
    for (int64_t r = 0; r < R; ++r) {
        T* row = chunk.exponentials_at<T>(block, r);
        const int64_t target = chunk.targets[r];
        if (target < 0) {
            std::memset(static_cast<void*>(row), 0, static_cast<size_t>(columns) * sizeof(T));
            continue;
        }
        const auto factor = hn::Set(d, static_cast<const A*>(chunk.maxima)[block * R + r]);
        for_vectors(d, columns, [&](int64_t i, auto lanes) HWY_ATTR {
            store(hn::Mul(load(d, row + i, lanes), factor), d, row + i, lanes);
        });
        if (target >= column && target < column + columns)
            row[target - column] = T(static_cast<const A*>(chunk.target_logits)[r]);
    }
}

/// Gradients of the weight (unless it is null) and of x from one group of blocks.
template <class A, class T>
void backward_of_group(Context& context, const CrossEntropyChunk& chunk, A* d_weight, int64_t group) {
    const int64_t R = chunk.rows(), C = chunk.channels();
    const Blocks blocks = chunk.blocks(), groups = chunk.groups();
    for (int64_t block = groups.begin(group); block < groups.end(group); ++block) {
        gradients_of_block<A, T>(chunk, block);
        const T* gradients = chunk.exponentials_at<T>(block, 0);
        const int64_t column = blocks.begin(block), columns = blocks.end(block) - column;
        if (d_weight != nullptr)
            gemm_on_this_thread(context, {.dtype = chunk.x_RC.dtype,
                                          .m = columns,
                                          .n = C,
                                          .k = R,
                                          .a = {gradients, 1, kBlockStride},
                                          .b = {chunk.x_RC.data, C, 1},
                                          .c = d_weight + column * C,
                                          .accumulate = true});
        gemm_on_this_thread(context, {.dtype = chunk.x_RC.dtype,
                                      .m = R,
                                      .n = C,
                                      .k = columns,
                                      .a = {gradients, kBlockStride, 1},
                                      .b = {chunk.weight_VC.ptr<T>() + column * C, C, 1},
                                      .c = static_cast<A*>(chunk.partial_d_x) + group * R * C,
                                      .accumulate = block > groups.begin(group)});
    }
}

/// d_x = what the groups gave, in their order.
template <class A, class T>
void sum_of_groups(Context& context, const CrossEntropyChunk& chunk, T* d_x) {
    const hn::ScalableTag<A> d;
    const int64_t count = chunk.rows() * chunk.channels(), groups = chunk.groups().size();
    const A* parts = static_cast<const A*>(chunk.partial_d_x);
    const Blocks pieces{count, kTaskElements};
    context.pool().parallel_for(pieces.size(), [&](int64_t piece) HWY_ATTR {
        const int64_t begin = pieces.begin(piece);
        for_vectors(d, pieces.end(piece) - begin, [&](int64_t i, auto lanes) HWY_ATTR {
            auto sum = load(d, parts + begin + i, lanes);
            for (int64_t g = 1; g < groups; ++g) sum = hn::Add(sum, load(d, parts + g * count + begin + i, lanes));
            store(sum, d, d_x + begin + i, lanes);
        });
    });
}

/// The losses of a chunk and, unless this is an evaluation, the gradients of x and of the weight.
void cross_entropy_chunk(Context& context, const CrossEntropyChunk& chunk, const Tensor& d_x, const Tensor& d_weight,
                         double scale) {
    with_compute_type(chunk.x_RC.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const int64_t R = chunk.rows(), V = chunk.vocabulary();
        for (int64_t r = 0; r < R; ++r) require(chunk.targets[r] < V, "a target is outside the vocabulary");
        const Blocks tiles{R, kTileRows}, blocks = chunk.blocks();
        // A block's tiles follow each other: its part of the weight stays in the cache.
        context.pool().parallel_for(tiles.size() * blocks.size(), [&](int64_t task) HWY_ATTR {
            const int64_t tile = task % tiles.size();
            tile_of_logits<A, T>(context, chunk, tiles.begin(tile), tiles.end(tile) - tiles.begin(tile),
                                 task / tiles.size());
        });
        for (int64_t r = 0; r < R; ++r) finish_row<A>(chunk, r, static_cast<A>(scale));
        if (chunk.exponentials == nullptr) return;
        context.pool().parallel_for(chunk.groups().size(), [&](int64_t group) HWY_ATTR {
            backward_of_group<A, T>(context, chunk, d_weight.empty() ? nullptr : d_weight.ptr<A>(), group);
        });
        with_compute_type(d_x.dtype, [&]<class X>(X) {
            if constexpr (std::is_same_v<Accumulator<X>, A>) sum_of_groups<A>(context, chunk, d_x.ptr<X>());
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(cross_entropy_chunk);

namespace {

/// Rows whose gradients are held at once: about 8 MiB of them, but enough rows to earn a pass over a large weight
/// matrix and its gradient.
int64_t chunk_rows(int64_t rows, int64_t vocabulary, Dtype product) {
    constexpr int64_t kBytes = 8 << 20, kAtLeastBytes = 1 << 10;
    const auto size = static_cast<int64_t>(size_of(product));
    return std::min(rows, std::max(kAtLeastBytes, kBytes / vocabulary) / size);
}

/// Groups of blocks are the tasks of the backward pass: enough of them, but not so many that adding up their d_x costs.
int64_t blocks_per_group(int64_t blocks, int64_t rows, int64_t channels) {
    constexpr int64_t kElements = 8 << 20, kAtLeast = 4, kAtMost = 32;
    return ceil_div(blocks, std::clamp(kElements / (rows * channels), kAtLeast, kAtMost));
}

/// How a call goes about it, and its scratch memory.
struct Plan {
    int64_t chunk, blocks, group;
    Dtype product;
    size_t weight, x, exponentials, statistics, targets, d_x;

    Plan(const Context& context, Dtype dtype, Dtype weight_dtype, int64_t rows, int64_t vocabulary, int64_t channels)
        : product(product_dtype(context, dtype)) {
        const Dtype acc = accumulation_dtype(dtype);
        chunk = chunk_rows(rows, vocabulary, product);
        blocks = ceil_div(vocabulary, kBlockColumns);
        group = blocks_per_group(blocks, chunk, channels);
        const auto bytes = [](int64_t count, Dtype type) {
            return ScratchCarver::padded(static_cast<size_t>(count) * size_of(type));
        };
        weight = converted_bytes(weight_dtype, product, vocabulary * channels);
        x = converted_bytes(dtype, product, chunk * channels);
        exponentials = bytes(blocks * chunk * kBlockStride, product);
        statistics = bytes(blocks * chunk, acc);
        targets = bytes(chunk, acc);
        d_x = bytes(ceil_div(blocks, group) * chunk * channels, acc);
    }
    size_t total() const { return weight + x + exponentials + 2 * statistics + targets + d_x; }
};

}  // namespace

size_t linear_cross_entropy_scratch_bytes(const Context& context, Dtype x, Dtype weight, int64_t rows,
                                          int64_t vocabulary, int64_t channels) {
    return Plan(context, x, weight, rows, vocabulary, channels).total();
}

void linear_cross_entropy(Context& context, const Tensor& losses, const Tensor& d_x, const Tensor& d_weight,
                          const Tensor& x, const LinearWeight& weight, const Tensor& targets, double loss_factor,
                          const Tensor& scalars) {
    const int64_t rows = x.dim(0), channels = x.dim(1), vocabulary = weight.weight.dim(0);
    const Plan plan(context, x.dtype, weight.weight.dtype, rows, vocabulary, channels);
    const Scratch::Block block(context.scratch(), plan.total());
    ScratchCarver whole(block.data(), plan.total());
    const Tensor w = converted_weight(context, weight, plan.product, whole);
    const double scale =
        loss_factor * (scalars.empty() ? 1.0 : static_cast<const StepScalars*>(scalars.data)->loss_scale);

    for (int64_t first = 0; first < rows; first += plan.chunk) {
        ScratchCarver scratch = whole;
        const int64_t count = std::min(plan.chunk, rows - first);
        const CrossEntropyChunk chunk{
            .x_RC = converted(context, x.slice(0, first, first + count), plan.product, scratch),
            .weight_VC = w,
            .targets = targets.ptr<int32_t>() + first,
            .exponentials = d_x.empty() ? nullptr : scratch.take(plan.exponentials),
            .maxima = scratch.take(plan.statistics),
            .sums = scratch.take(plan.statistics),
            .target_logits = scratch.take(plan.targets),
            .losses = losses.slice(0, first, first + count).data,
            .partial_d_x = d_x.empty() ? nullptr : scratch.take(plan.d_x),
            .blocks_per_group = plan.group};
        const Tensor d_x_chunk = d_x.empty() ? d_x : d_x.slice(0, first, first + count);
        HWY_DYNAMIC_DISPATCH(cross_entropy_chunk)(context, chunk, d_x_chunk, d_weight, scale);
    }
}

}  // namespace ballast::cpu
#endif
