// Embedding.
//   forward:  out[n] = weight[ids[n]]; reads and writes C sizeof(T) a row
//   backward: d_weight[v] += sum of d_out[n] over the n with ids[n] = v, in the order of n
// The backward pass must not depend on who comes first, so rows are sorted by id: a stable radix sort of the pairs
// (id, n), 8 bits a pass (two passes for a vocabulary of 50,304), then one block sums each run of equal ids. Cost of
// the sort: 16 bytes a token and pass, against C sizeof(T) for the sum.
#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

/// Rows of `width` units; Unit is 16 bytes of elements, or one. Writes 0xff over the row of an id outside the
/// vocabulary, which makes the loss NaN: the host cannot be told from here.
template <class Unit>
__global__ void embedding_forward_kernel(Unit* out, const Unit* weight, const int32_t* ids, int64_t rows, int64_t width,
                                         int64_t vocabulary) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= rows * width) return;
    const int64_t row = i / width, c = i % width, id = ids[row];
    if (0 <= id && id < vocabulary)
        out[i] = weight[id * width + c];
    else
        memset(&out[i], 0xff, sizeof(Unit));
}

// ---- a stable radix sort of (id, row)
// ----------------------------------------------------------------------------------

inline constexpr int kSortThreads = 256, kSortRounds = 8, kSortPerBlock = kSortThreads * kSortRounds;
inline constexpr int kDigits = 256, kDigitBits = 8;

/// A token's id and its row.
struct TokenRow {
    uint32_t id, row;
};

static __global__ void make_token_rows_kernel(TokenRow* out, const int32_t* ids, int64_t count) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < count) out[i] = {static_cast<uint32_t>(ids[i]), static_cast<uint32_t>(i)};
}

__device__ __forceinline__ uint32_t digit_of(TokenRow token, int shift) { return token.id >> shift & (kDigits - 1); }

/// counts [kDigits, blocks]: how often block b holds digit d.
static __global__ void count_digits_kernel(uint32_t* counts, const TokenRow* tokens, int64_t count, int shift) {
    SIMT_SHARED(uint32_t, histogram, [kDigits]);
    for (unsigned d = threadIdx.x; d < kDigits; d += kSortThreads) histogram[d] = 0;
    __syncthreads();
    for (int round = 0; round < kSortRounds; ++round) {
        const int64_t i = int64_t{blockIdx.x} * kSortPerBlock + round * kSortThreads + threadIdx.x;
        if (i < count) atomicAdd(&histogram[digit_of(tokens[i], shift)], 1u);
    }
    __syncthreads();
    for (unsigned d = threadIdx.x; d < kDigits; d += kSortThreads) counts[d * gridDim.x + blockIdx.x] = histogram[d];
}

/// counts become their exclusive prefix sums: where the first such token goes. One block of kSortThreads.
static __global__ void prefix_sums_kernel(uint32_t* counts, int64_t count) {
    SIMT_SHARED(uint32_t, sums, [kSortThreads]);
    const unsigned t = threadIdx.x;
    const int64_t per_thread = (count + kSortThreads - 1) / kSortThreads;
    const int64_t begin = min(count, t * per_thread), end = min(count, begin + per_thread);
    uint32_t sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += counts[i];
    sums[t] = sum;
    __syncthreads();
    for (unsigned step = 1; step < kSortThreads; step *= 2) {  // Hillis and Steele 1986
        const uint32_t before = t >= step ? sums[t - step] : 0;
        __syncthreads();
        sums[t] += before;
        __syncthreads();
    }
    uint32_t running = sums[t] - sum;
    for (int64_t i = begin; i < end; ++i) {
        const uint32_t own = counts[i];
        counts[i] = running;
        running += own;
    }
}

/// Moves every token to its place: first by digit, then by where it stood. A warp finds the lanes with its digit by one
/// match; warps take their turns, so that earlier tokens come first.
static __global__ void scatter_kernel(TokenRow* out, const TokenRow* tokens, const uint32_t* offsets, int64_t count,
                                      int shift) {
    SIMT_SHARED(uint32_t, next, [kDigits]);
    const unsigned lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
    for (unsigned d = threadIdx.x; d < kDigits; d += kSortThreads) next[d] = offsets[d * gridDim.x + blockIdx.x];
    __syncthreads();
    for (int round = 0; round < kSortRounds; ++round)
        for (unsigned turn = 0; turn < kSortThreads / kWarpSize; ++turn) {
            if (turn == warp) {
                const int64_t i = int64_t{blockIdx.x} * kSortPerBlock + round * kSortThreads + threadIdx.x;
                const bool valid = i < count;
                const TokenRow token = valid ? tokens[i] : TokenRow{};
                const uint32_t digit = valid ? digit_of(token, shift) : kDigits;
                const unsigned same = __match_any_sync(kAllLanes, digit), before = same & ((1u << lane) - 1);
                uint32_t place = 0;
                if (valid) place = next[digit];
                __syncwarp();
                if (valid && before == 0) next[digit] = place + static_cast<uint32_t>(__popc(same));
                if (valid) out[place + static_cast<uint32_t>(__popc(before))] = token;
            }
            __syncthreads();
        }
}

/// Block b: if sorted token b begins a run of one id, adds the run's rows of d_out to that row of d_weight. A thread
/// owns N columns at a time.
template <class T, int N>
__global__ void add_runs_kernel(Accumulator<T>* d_weight, const T* d_out, const TokenRow* sorted, int64_t count,
                                int64_t channels) {
    using A = Accumulator<T>;
    const int64_t begin = blockIdx.x;
    const uint32_t id = sorted[begin].id;
    if (begin > 0 && sorted[begin - 1].id == id) return;
    for (int64_t c = int64_t{threadIdx.x} * N; c < channels; c += int64_t{blockDim.x} * N) {
        A sum[N] = {}, row[N];
        for (int64_t i = begin; i < count && sorted[i].id == id; ++i) {
            load(row, d_out + sorted[i].row * channels + c);
            SIMT_UNROLL
            for (int j = 0; j < N; ++j) sum[j] += row[j];
        }
        A* to = d_weight + id * channels + c;
        SIMT_UNROLL
        for (int j = 0; j < N; ++j) to[j] += sum[j];
    }
}

}  // namespace ballast::cuda
