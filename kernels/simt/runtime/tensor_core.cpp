// mma.sync and ldmatrix.
#include <algorithm>

#include "kernels/simt/host.h"
#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/sanitizers.h"
#include "kernels/simt/runtime/tensor_core.h"

namespace ballast::simt::host {
namespace {

constexpr int M = 16, N = 8, K = 16;

struct Product {
    float* d;
    const uint32_t *a, *b;
    const float* c;
};

/// Fragments as the PTX ISA lays them out ("Matrix Fragments for mma.m16n8k16", 16-bit types): with g = lane / 4 and
/// t = 2 (lane % 4), a lane holds what unpack_a() says of A, B[t..][g], B[t+8..][g] and C[g][t..], C[g+8][t..], two
/// neighbours each.
template <class T>
void combine_product(const Lanes& lanes) {
    if (lanes.active() != kFullWarp) throw Error("mma.sync needs all 32 lanes; some have exited");
    ++statistics().matrix_products;
    float a[M][K], b[K][N], c[M][N];
    for (unsigned lane = 0; lane < 32; ++lane) {
        const auto& x = lanes.at<Product>(lane);
        const unsigned g = lane / 4, t = lane % 4 * 2;
        unpack_a<T>(x.a, lane, a);
        for (unsigned half = 0; half < 2; ++half) {
            b[t + 8 * half][g] = low<T>(x.b[half]);
            b[t + 8 * half + 1][g] = high<T>(x.b[half]);
            c[g + 8 * half][t] = x.c[2 * half];
            c[g + 8 * half][t + 1] = x.c[2 * half + 1];
        }
    }
    for (int m = 0; m < M; ++m)
        for (int k = 0; k < K; ++k)
            for (int n = 0; n < N; ++n) c[m][n] += a[m][k] * b[k][n];
    for (unsigned lane = 0; lane < 32; ++lane) {
        float* d = lanes.at<Product>(lane).d;
        const unsigned g = lane / 4, t = lane % 4 * 2;
        d[0] = c[g][t], d[1] = c[g][t + 1], d[2] = c[g + 8][t], d[3] = c[g + 8][t + 1];
    }
}

template <class T>
void product(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], Location where) {
    const Quiet quiet;
    Product mine{d, a, b, c};
    meet(kFullWarp, &mine, combine_product<T>, "mma.sync", where);
}

struct Rows {
    const void* mine;
    const void** all;
    unsigned matrices;
};

/// An 8 x 8 matrix is one wavefront of eight 16-byte rows if they lie in eight different groups of banks.
unsigned extra_wavefronts(const Lanes& lanes, unsigned first) {
    const void* seen[8][8];
    unsigned rows[8] = {}, most = 1;
    for (unsigned i = first; i < first + 8; ++i) {
        const void* row = lanes.at<Rows>(i).mine;
        const auto bank = reinterpret_cast<uintptr_t>(row) / 16 % 8;
        const auto* end = seen[bank] + rows[bank];
        if (std::find(seen[bank], const_cast<const void**>(end), row) == end) seen[bank][rows[bank]++] = row;
        most = std::max(most, rows[bank]);
    }
    return most - 1;
}

void combine_rows(const Lanes& lanes) {
    if (lanes.active() != kFullWarp) throw Error("ldmatrix needs all 32 lanes; some have exited");
    ++statistics().matrix_loads;
    for (unsigned m = 0; m < lanes.at<Rows>(0).matrices; ++m)
        statistics().bank_conflicts += extra_wavefronts(lanes, 8 * m);
    for (unsigned i = 0; i < 32; ++i)
        for (unsigned j = 0; j < 32; ++j) lanes.at<Rows>(i).all[j] = lanes.at<Rows>(j).mine;
}

}  // namespace

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], Location where) {
    product<Bf16>(d, a, b, c, where);
}

void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], Location where) {
    product<Fp16>(d, a, b, c, where);
}

void gather_rows(const void* mine, const void* (&all)[32], unsigned matrices, Location where) {
    const Quiet quiet;
    Rows rows{mine, all, matrices};
    meet(kFullWarp, &rows, combine_rows, "ldmatrix", where);
}

}  // namespace ballast::simt::host
