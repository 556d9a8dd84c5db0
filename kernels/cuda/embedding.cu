#include "kernels/cuda/embedding.cuh"

#include <bit>
#include <utility>

#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 256;

template <class Unit>
void gather_rows(Context& context, const Tensor& out, const Tensor& weight, const Tensor& ids) {
    const int64_t rows = out.dim(0),
                  width = out.dim(1) * static_cast<int64_t>(size_of(out.dtype)) / static_cast<int64_t>(sizeof(Unit));
    launch(embedding_forward_kernel<Unit>, grid_of(rows * width, kThreads), kThreads, {}, context.stream(),
           data_of<Unit>(out), data_of<const Unit>(weight), data_of<const int32_t>(ids), rows, width, weight.dim(0));
}

/// Memory of a sort of `count` tokens: two arrays to go to and fro between, and the counts of digits.
struct SortMemory {
    explicit SortMemory(int64_t count)
        : blocks(ceil_div(count, kSortPerBlock)),
          tokens_bytes(static_cast<size_t>(count) * sizeof(TokenRow)),
          counts_bytes(static_cast<size_t>(blocks * kDigits) * sizeof(uint32_t)) {}
    size_t bytes() const { return 2 * tokens_bytes + counts_bytes; }

    int64_t blocks;
    size_t tokens_bytes, counts_bytes;
};

/// The tokens by id, equal ids in the order of their rows; in `memory`.
const TokenRow* sort_by_id(Context& context, char* memory, const Tensor& ids, int64_t vocabulary) {
    const int64_t count = ids.dim(0);
    const SortMemory plan(count);
    auto* from = reinterpret_cast<TokenRow*>(memory);
    auto* to = reinterpret_cast<TokenRow*>(memory + plan.tokens_bytes);
    auto* counts = reinterpret_cast<uint32_t*>(memory + 2 * plan.tokens_bytes);
    const auto blocks = static_cast<unsigned>(plan.blocks);
    launch(make_token_rows_kernel, grid_of(count, kThreads), kThreads, {}, context.stream(), from,
           data_of<const int32_t>(ids), count);
    const int bits = std::bit_width(static_cast<uint64_t>(vocabulary - 1));
    for (int shift = 0; shift < bits; shift += kDigitBits) {
        launch(count_digits_kernel, blocks, kSortThreads, {}, context.stream(), counts, from, count, shift);
        launch(prefix_sums_kernel, 1, kSortThreads, {}, context.stream(), counts, plan.blocks * kDigits);
        launch(scatter_kernel, blocks, kSortThreads, {}, context.stream(), to, from, counts, count, shift);
        std::swap(from, to);
    }
    return from;
}

}  // namespace

void embedding_forward(Context& context, const Tensor& out, const Tensor& weight, const Tensor& ids) {
    if (out.numel() == 0) return;
    if (out.dim(1) * static_cast<int64_t>(size_of(out.dtype)) % 16 == 0 && can_pack<uint8_t>(out.data, 16) &&
        can_pack<uint8_t>(weight.data, 16))
        return gather_rows<uint4>(context, out, weight, ids);
    switch (size_of(out.dtype)) {
        case 2: return gather_rows<uint16_t>(context, out, weight, ids);
        case 4: return gather_rows<uint32_t>(context, out, weight, ids);
        default: return gather_rows<uint64_t>(context, out, weight, ids);
    }
}

void embedding_backward(Context& context, const Tensor& d_weight, const Tensor& d_out, const Tensor& ids) {
    const int64_t count = ids.dim(0), channels = d_out.dim(1);
    if (count == 0) return;
    const Scratch::Block scratch(context.scratch(), SortMemory(count).bytes());
    const TokenRow* sorted = sort_by_id(context, static_cast<char*>(scratch.data()), ids, d_weight.dim(0));
    with_compute_type(d_out.dtype, [&]<class T>(T) {
        const auto add = [&](auto n) {
            constexpr int N = n;
            constexpr int kColumnThreads = 128;
            launch(add_runs_kernel<T, N>, grid_of(count, 1), kColumnThreads, {}, context.stream(),
                   data_of<Accumulator<T>>(d_weight), data_of<const T>(d_out), sorted, count, channels);
        };
        if (can_pack<T>(d_out.data, channels))
            add(std::integral_constant<int, kPackSize<T>>{});
        else
            add(std::integral_constant<int, 1>{});
    });
}

}  // namespace ballast::cuda
