#include "kernels/cuda/embedding.cuh"

#include <bit>
#include <utility>

#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 256;

template <class Unit>
void gather_rows(Context& context, const Tensor& out, const Tensor& weight, const Tensor& ids) {
    const int64_t unit = static_cast<int64_t>(sizeof(Unit) / size_of(out.dtype)), count = out.numel() / unit;
    launch(embedding_forward_kernel<Unit>, grid_of(count, kUnitsPerBlock), kEmbeddingThreads, {}, context.stream(),
           data_of<Unit>(out), data_of<const Unit>(weight), data_of<const int32_t>(ids), units_of(count),
           Divisor(out.dim(1) / unit), units_of(weight.dim(0)));
}

void widen_rows(Context& context, const Tensor& out, const Tensor& weight, const Tensor& ids, const Tensor& scale) {
    with_compute_type(out.dtype, [&]<class T>(T) {
        const auto run_packs = [&]<class W>(const W* rows, auto n) {
            constexpr int N = n;
            const int64_t count = out.numel() / N;
            launch(embedding_widen_kernel<T, W, N>, grid_of(count, kEmbeddingThreads), kEmbeddingThreads, {},
                   context.stream(), data_of<T>(out), rows, data_of<const float>(scale), data_of<const int32_t>(ids),
                   units_of(count), Divisor(out.dim(1) / N), units_of(weight.dim(0)));
        };
        const auto run = [&]<class W>(const W* rows) {
            if (can_pack_scaled<T>(out.data, rows, out.dim(1)))
                run_packs(rows, std::integral_constant<int, kPackSize<T>>{});
            else
                run_packs(rows, std::integral_constant<int, 1>{});
        };
        if constexpr (!std::is_same_v<T, double>) {
            if (weight.dtype == Dtype::i8) return run(data_of<const int8_t>(weight));
            if constexpr (std::is_same_v<T, float>) return run(data_of<const __nv_bfloat16>(weight));
        }
        require(false, "a weight that no embedding reads");
    });
}

/// Memory of a sort of `count` tokens, two arrays to go to and fro between and the counts of digits, and of the partial
/// sums at the edges of blocks.
struct SortMemory {
    SortMemory(int64_t count, int64_t channels, size_t accumulator)
        : blocks(ceil_div(count, kSortPerBlock)),
          tokens_bytes(padded(static_cast<size_t>(count) * sizeof(TokenRow))),
          counts_bytes(padded(static_cast<size_t>(blocks * kDigits) * sizeof(uint32_t))),
          edges_bytes(static_cast<size_t>(2 * ceil_div(count, kRunRows) * channels) * accumulator) {}
    size_t counts_offset() const { return 2 * tokens_bytes; }
    size_t edges_offset() const { return counts_offset() + counts_bytes; }
    size_t bytes() const { return edges_offset() + edges_bytes; }

    int64_t blocks;
    size_t tokens_bytes, counts_bytes, edges_bytes;
};

/// The tokens by id, equal ids in the order of their rows; in `memory`.
const TokenRow* sort_by_id(Context& context, char* memory, const SortMemory& plan, const Tensor& ids,
                           int64_t vocabulary) {
    const int64_t count = ids.dim(0);
    auto* from = reinterpret_cast<TokenRow*>(memory);
    auto* to = reinterpret_cast<TokenRow*>(memory + plan.tokens_bytes);
    auto* counts = reinterpret_cast<uint32_t*>(memory + plan.counts_offset());
    const auto blocks = static_cast<unsigned>(plan.blocks);
    launch(make_token_rows_kernel, grid_of(count, kThreads), kThreads, {}, context.stream(), from,
           data_of<const int32_t>(ids), count, static_cast<uint32_t>(vocabulary));
    const int bits =
        std::bit_width(static_cast<uint64_t>(vocabulary));  // of `vocabulary` too, which stands for bad ids
    for (int shift = 0; shift < bits; shift += kDigitBits) {
        launch(count_digits_kernel, blocks, kSortThreads, {}, context.stream(), counts, from, count, shift);
        launch(prefix_sums_kernel, 1, kSortThreads, {}, context.stream(), counts, plan.blocks * kDigits);
        launch(scatter_kernel, blocks, kSortThreads, {}, context.stream(), to, from, counts, count, shift);
        std::swap(from, to);
    }
    return from;
}

}  // namespace

void embedding_forward(Context& context, const Tensor& out, const Tensor& weight, const Tensor& ids,
                       const Tensor& scale) {
    if (out.numel() == 0) return;
    if (weight.dtype != out.dtype) return widen_rows(context, out, weight, ids, scale);
    if (out.dim(1) * static_cast<int64_t>(size_of(out.dtype)) % 16 == 0 && can_pack<uint8_t>(out.data, 16) &&
        can_pack<uint8_t>(weight.data, 16))
        return gather_rows<uint4>(context, out, weight, ids);
    switch (size_of(out.dtype)) {
        case 2: return gather_rows<uint16_t>(context, out, weight, ids);
        case 4: return gather_rows<uint32_t>(context, out, weight, ids);
        default: return gather_rows<uint64_t>(context, out, weight, ids);
    }
}

size_t embedding_backward_scratch_bytes(const Context&, Dtype x, int64_t rows, int64_t channels) {
    return SortMemory(rows, channels, size_of(accumulation_dtype(x))).bytes();
}

void embedding_backward(Context& context, const Tensor& d_weight, const Tensor& d_out, const Tensor& ids) {
    const int64_t count = ids.dim(0), channels = d_out.dim(1);
    if (count == 0 || channels == 0) return;
    const SortMemory plan(count, channels, size_of(d_weight.dtype));
    const Scratch::Block scratch(context.scratch(), plan.bytes());
    char* memory = static_cast<char*>(scratch.data());
    const TokenRow* sorted = sort_by_id(context, memory, plan, ids, d_weight.dim(0));
    const auto vocabulary = static_cast<uint32_t>(d_weight.dim(0));
    with_compute_type(d_out.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        auto* edges = reinterpret_cast<A*>(memory + plan.edges_offset());
        const auto run = [&](auto pack, auto accumulator_pack) {
            constexpr int N = pack, M = accumulator_pack, kColumnThreads = 128;
            dim3 grid = grid_of(count, kRunRows);
            launch(add_runs_kernel<T, N>, grid, kColumnThreads, {}, context.stream(), data_of<A>(d_weight), edges,
                   data_of<const T>(d_out), sorted, count, vocabulary, channels);
            grid.y = static_cast<unsigned>(ceil_div(channels, kColumnThreads * M));
            launch(join_runs_kernel<A, M>, grid, kColumnThreads, {}, context.stream(), data_of<A>(d_weight), edges,
                   sorted, count, vocabulary, channels);
        };
        if (can_pack<T>(d_out.data, channels) && can_pack<A>(d_weight.data, channels))
            run(std::integral_constant<int, kPackSize<T>>{}, std::integral_constant<int, kPackSize<A>>{});
        else
            run(std::integral_constant<int, 1>{}, std::integral_constant<int, 1>{});
    });
}

}  // namespace ballast::cuda
