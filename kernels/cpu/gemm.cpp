#include "kernels/cpu/gemm.h"

#include <cstring>

#include "base/cpu_features.h"
#include "kernels/cpu/common.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/onednn.h"

namespace ballast::cpu {
namespace {

/// The part of C one task computes.
struct BlockSize {
    int64_t rows, columns;
};

/// Large blocks, near to square, keep oneDNN's packing of their operands cheap; smaller ones are taken where the product
/// would not give the threads enough tasks, as long as a task is still worth handing out. Depends on the shape alone.
BlockSize block_size(int64_t m, int64_t n, int64_t k) {
    constexpr int64_t kEnoughTasks = 16, kWorthwhile = 16 << 20, kFlopsPerLoad = 32;
    BlockSize block{std::min<int64_t>(m, 512), std::min<int64_t>(n, 384)};
    for (;;) {
        const int64_t tasks = ceil_div(m, block.rows) * ceil_div(n, block.columns);
        const int64_t cost = 2 * block.rows * block.columns * k + kFlopsPerLoad * (block.rows + block.columns) * k;
        if (tasks >= kEnoughTasks || cost <= kWorthwhile || (block.rows <= 32 && block.columns <= 64)) return block;
        if (block.rows > 32 && (block.rows > block.columns || block.columns <= 64))
            block.rows = round_up(block.rows / 2, 16);
        else
            block.columns = round_up(block.columns / 2, 32);
    }
}

const char* at(const Matrix& x, Dtype dtype, int64_t i, int64_t j) {
    return static_cast<const char*>(x.data) + (i * x.row + j * x.column) * static_cast<int64_t>(size_of(dtype));
}

struct Block {
    int64_t row, column, rows, columns;
};

/// A block of `g` for the library, its C in `c_dtype`.
MatmulShape shape_of(const GemmArguments& g, const Block& block, Dtype c_dtype, bool accumulate, bool bias) {
    return {g.dtype,    c_dtype, block.rows, block.columns, g.k,        g.a.row,
            g.a.column, g.b.row, g.b.column, g.n,           accumulate, bias};
}

void sgemm_block(const GemmArguments& g, const Block& block) {
    float* c = static_cast<float*>(g.c) + block.row * g.n + block.column;
    if (g.bias != nullptr)
        for (int64_t r = 0; r < block.rows; ++r)
            std::memcpy(c + r * g.n, static_cast<const float*>(g.bias) + block.column,
                        static_cast<size_t>(block.columns) * sizeof(float));
    onednn_sgemm(shape_of(g, block, Dtype::f32, g.accumulate || g.bias != nullptr, false),
                 reinterpret_cast<const float*>(at(g.a, Dtype::f32, block.row, 0)),
                 reinterpret_cast<const float*>(at(g.b, Dtype::f32, 0, block.column)), c);
}

void bf16_block(const GemmArguments& g, const Block& block) {
    const Dtype c_dtype = g.narrow_c ? Dtype::bf16 : Dtype::f32;
    const auto offset = [](const void* data, Dtype dtype, int64_t i) {
        return static_cast<const char*>(data) + i * static_cast<int64_t>(size_of(dtype));
    };
    onednn_matmul(shape_of(g, block, c_dtype, g.accumulate, g.bias != nullptr), at(g.a, g.dtype, block.row, 0),
                  at(g.b, g.dtype, 0, block.column),
                  g.bias == nullptr ? nullptr : offset(g.bias, g.dtype, block.column),
                  const_cast<char*>(offset(g.c, c_dtype, block.row * g.n + block.column)));
}

void multiply(const GemmArguments& g, const Block& block) {
    if (g.dtype == Dtype::bf16)
        bf16_block(g, block);
    else
        sgemm_block(g, block);
}

/// Whether our own product is taken. Without AVX-512 oneDNN's sgemm loses half its speed and more where A lies by
/// columns a power of two apart, which is what most weight gradients are (docs/log.md); ours copies A first. With
/// AVX-512 oneDNN copies it as well, and is faster.
bool is_ours(const Context& context, const GemmArguments& g) {
    static const bool copies_columns = cpu_features().avx512;
    const bool weight_gradient = g.dtype == Dtype::f32 && g.a.column != 1 && !copies_columns;
    return g.dtype == Dtype::f64 || context.gemm() == Gemm::reference || g.k == 0 || weight_gradient;
}

}  // namespace

bool native_bf16(const Context& context) {
    return context.gemm() == Gemm::automatic && onednn_bf16_units() != Bf16Units::none;
}

void gemm(Context& context, const GemmArguments& arguments) {
    if (arguments.m == 0 || arguments.n == 0) return;
    if (is_ours(context, arguments)) return gemm_reference(context, arguments);
    const GemmArguments product = before_epilogue(arguments);
    const BlockSize size = block_size(arguments.m, arguments.n, arguments.k);
    const Blocks down{arguments.m, size.rows}, across{arguments.n, size.columns};
    context.pool().parallel_for(down.size() * across.size(), [&](int64_t task) {
        const int64_t i = task / across.size(), j = task % across.size();
        const Block block{down.begin(i), across.begin(j), down.end(i) - down.begin(i), across.end(j) - across.begin(j)};
        multiply(product, block);
        apply_epilogue(arguments, block.row, block.column, block.rows, block.columns);
    });
}

void gemm_on_this_thread(const Context& context, const GemmArguments& arguments) {
    if (arguments.m == 0 || arguments.n == 0) return;
    require(arguments.epilogue == Epilogue::none, "a task does what comes after its product itself");
    if (is_ours(context, arguments)) return gemm_reference_on_this_thread(arguments);
    multiply(arguments, {0, 0, arguments.m, arguments.n});
}

}  // namespace ballast::cpu
