// Embedding.
//   forward:  out[n] = weight[ids[n]]; reads and writes C sizeof(T) a row. A thread has kUnitsInFlight units of 16
//             bytes: it loads all their ids, then all the units, then stores; no division of places (Divisor)
//   backward: d_weight[v] += sum of d_out[n] over the n with ids[n] = v, in the order of n
// The result of the backward pass must not depend on the timing of threads, so rows are sorted by id: a stable radix
// sort of the pairs (id, n), 8 bits per pass (two passes for a vocabulary of 50,304). Then a block sums kRunRows sorted
// rows. Runs of equal ids inside the block go to d_weight. Runs that cross an edge of the block leave a partial sum,
// and a second kernel adds the partial sums of a run in order. So the most frequent id of real text, a twentieth of all
// rows, is not left to one block. Cost of the sort: 16 bytes per token and pass, compared with C sizeof(T) for the sum.
// An id outside the vocabulary has already made the loss NaN; its rows are sorted to the end and skipped.
#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

inline constexpr int kEmbeddingThreads = 256, kUnitsInFlight = 4, kUnitsPerBlock = kEmbeddingThreads * kUnitsInFlight;
inline constexpr uint32_t kNoId = 0xffffffffu;  // beyond every vocabulary

/// Rows of `width` units, `count` units in all; Unit is 16 bytes of elements, or one element. Fills the row of an id
/// outside the vocabulary with 0xff, which makes the loss NaN, because a kernel cannot report an error to the host.
template <class Unit>
__global__ void embedding_forward_kernel(Unit* out, const Unit* weight, const int32_t* ids, uint32_t count,
                                         Divisor width, uint32_t vocabulary) {
    const uint32_t first = blockIdx.x * kUnitsPerBlock + threadIdx.x;
    uint32_t id[kUnitsInFlight], column[kUnitsInFlight];
    Unit units[kUnitsInFlight];
    SIMT_UNROLL
    for (int k = 0; k < kUnitsInFlight; ++k) {
        const uint32_t i = first + k * kEmbeddingThreads;
        const Divisor::Parts place = width.divide(i);
        id[k] = i < count ? static_cast<uint32_t>(ids[place.quotient]) : kNoId;
        column[k] = place.remainder;
    }
    SIMT_UNROLL
    for (int k = 0; k < kUnitsInFlight; ++k) {
        if (id[k] < vocabulary)  // negative ids are large ones here
            units[k] = weight[uint64_t{id[k]} * width.value() + column[k]];
        else
            memset(&units[k], 0xff, sizeof(Unit));
    }
    SIMT_UNROLL
    for (int k = 0; k < kUnitsInFlight; ++k)
        if (first + k * kEmbeddingThreads < count) out[first + k * kEmbeddingThreads] = units[k];
}

/// The same for a weight narrower than out, times the scales of its rows (null: 1). A thread has a pack of N elements;
/// `count` and `width` are in packs.
template <class T, class W, int N>
__global__ void embedding_widen_kernel(T* out, const W* weight, const float* scale, const int32_t* ids, uint32_t count,
                                       Divisor width, uint32_t vocabulary) {
    const uint32_t i = blockIdx.x * kEmbeddingThreads + threadIdx.x;
    if (i >= count) return;
    const Divisor::Parts place = width.divide(i);
    const auto id = static_cast<uint32_t>(ids[place.quotient]);
    T* to = out + uint64_t{i} * N;
    if (id >= vocabulary) {
        memset(static_cast<void*>(to), 0xff, N * sizeof(T));
        return;
    }
    const W* from = weight + (uint64_t{id} * width.value() + place.remainder) * N;
    store_scaled<N>(to, from, scale == nullptr ? 1.0f : scale[id]);
}

// ---- a stable radix sort of (id, row) ------------------------------------------------------------------------------

inline constexpr int kSortThreads = 256, kSortRounds = 8, kSortPerBlock = kSortThreads * kSortRounds;
inline constexpr int kDigits = 256, kDigitBits = 8;

/// A token's id and its row.
struct TokenRow {
    uint32_t id, row;
};

/// Ids outside the vocabulary become `vocabulary`.
static __global__ void make_token_rows_kernel(TokenRow* out, const int32_t* ids, int64_t count, uint32_t vocabulary) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < count) out[i] = {min(static_cast<uint32_t>(ids[i]), vocabulary), static_cast<uint32_t>(i)};
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

/// Replaces counts by their exclusive prefix sums: the index of the first such token. One block of kSortThreads.
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

/// Moves every token to its sorted place: first by digit, then by its previous place. A warp finds the lanes with the
/// same digit by one match; warps take turns, so that earlier tokens come first.
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

// ---- sums of runs of equal ids ------------------------------------------------------------------------------------

inline constexpr int kRunRows = 16, kRowsInFlight = 4, kHeadsInFlight = 8;  // before and behind the tokens: kNoId

/// to[0, N) = sums or, with `add`, += sums, 16 bytes at a time if N elements are as many.
template <int N, class A>
__device__ __forceinline__ void put_sums(A* to, const A (&sums)[N], bool add) {
    constexpr int M = N < kPackSize<A> ? N : kPackSize<A>;
    SIMT_UNROLL
    for (int j = 0; j < N; j += M) {
        A part[M] = {};
        if (add) load(part, to + j);
        SIMT_UNROLL
        for (int k = 0; k < M; ++k) part[k] += sums[j + k];
        store(to + j, part);
    }
}

/// Block b sums sorted rows [b kRunRows, (b + 1) kRunRows). edges [blocks, 2, channels]: the block's sum for a run that
/// began before the block, and for a run that began in the block and continues after it. A thread owns N columns at a
/// time.
template <class T, int N>
__global__ void add_runs_kernel(Accumulator<T>* d_weight, Accumulator<T>* edges, const T* d_out, const TokenRow* sorted,
                                int64_t count, uint32_t vocabulary, int64_t channels) {
    using A = Accumulator<T>;
    SIMT_SHARED(TokenRow, near, [kRunRows + 2]);  // the block's tokens and their two neighbours
    const int64_t begin = int64_t{blockIdx.x} * kRunRows;
    const int rows = static_cast<int>(min(int64_t{kRunRows}, count - begin));
    if (threadIdx.x < kRunRows + 2) {
        const int64_t i = begin - 1 + threadIdx.x;
        near[threadIdx.x] = 0 <= i && i < count ? sorted[i] : TokenRow{kNoId, 0};
    }
    __syncthreads();
    const TokenRow* tokens = near + 1;
    for (int64_t c = int64_t{threadIdx.x} * N; c < channels; c += int64_t{blockDim.x} * N) {
        A sum[N] = {};
        bool began_here = tokens[-1].id != tokens[0].id;
        for (int first = 0; first < rows; first += kRowsInFlight) {
            A row[kRowsInFlight][N];
            SIMT_UNROLL
            for (int i = 0; i < kRowsInFlight; ++i)
                if (first + i < rows) load(row[i], d_out + tokens[first + i].row * channels + c);
            SIMT_UNROLL
            for (int i = 0; i < kRowsInFlight; ++i) {
                if (first + i >= rows) break;
                SIMT_UNROLL
                for (int j = 0; j < N; ++j) sum[j] += row[i][j];
                const uint32_t id = tokens[first + i].id;
                const bool ends = tokens[first + i + 1].id != id;
                if (!ends && first + i + 1 < rows) continue;
                const bool whole = began_here && ends;
                A* to = whole ? d_weight + id * channels + c
                              : edges + (2 * int64_t{blockIdx.x} + began_here) * channels + c;
                if (id < vocabulary) put_sums(to, sum, whole);
                SIMT_UNROLL
                for (int j = 0; j < N; ++j) sum[j] = 0;
                began_here = true;
            }
        }
    }
}

/// Block b: if a run began in block b of add_runs_kernel and continues after it, adds its partial sums, in order, to
/// its row of d_weight. blockIdx.y counts columns, N per thread.
template <class A, int N>
__global__ void join_runs_kernel(A* d_weight, const A* edges, const TokenRow* sorted, int64_t count,
                                 uint32_t vocabulary, int64_t channels) {
    const int64_t begin = int64_t{blockIdx.x} * kRunRows, end = begin + kRunRows, blocks = gridDim.x;
    if (end >= count) return;
    const uint32_t id = sorted[end - 1].id;
    const bool began_before = begin > 0 && sorted[begin].id == id && sorted[begin - 1].id == id;
    if (id >= vocabulary || sorted[end].id != id || began_before) return;
    const int64_t c = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
    if (c >= channels) return;
    A sum[N], head[kHeadsInFlight][N];
    load(sum, edges + (2 * int64_t{blockIdx.x} + 1) * channels + c);
    bool goes_on = true;
    for (int64_t first = blockIdx.x + 1; goes_on && first < blocks; first += kHeadsInFlight) {
        bool belongs[kHeadsInFlight];
        SIMT_UNROLL
        for (int i = 0; i < kHeadsInFlight; ++i) {
            belongs[i] = first + i < blocks && sorted[(first + i) * kRunRows].id == id;
            if (belongs[i]) load(head[i], edges + 2 * (first + i) * channels + c);
        }
        SIMT_UNROLL
        for (int i = 0; i < kHeadsInFlight; ++i) SIMT_UNROLL
        for (int j = 0; j < N; ++j) sum[j] += belongs[i] ? head[i][j] : A(0);
        goes_on = belongs[kHeadsInFlight - 1];
    }
    put_sums(d_weight + id * channels + c, sum, true);
}

}  // namespace ballast::cuda
