// Attention with bf16 products, for processors that multiply bf16 faster than f32 (native_bf16()): AMX tiles, AMD's
// AVX512-BF16. oneDNN multiplies whole tiles that stay in the L2 cache; the softmax between the products is ours, in
// f32. P, P' and dS are rounded to bf16 before they are multiplied, as on a GPU's tensor cores (docs/numerics.md).
// Masked elements of a tile are multiplied too: keys, values, queries and d_out must be finite in every row that a tile
// holds, visible or not.
#pragma once

#include "kernels/cpu/onednn.h"
#include "kernels/cpu/ops.h"

namespace ballast::cpu {

/// True when attention_forward() and attention_backward() should use these kernels: bf16 tensors, a processor on which
/// they are faster, and enough queries to outweigh the cost of calling the library.
bool takes_bf16_attention(const Context&, const AttentionInputs&);

void attention_forward_bf16(Context&, const Tensor& out, const Tensor& lse, const AttentionInputs&,
                            const AttentionParams&);
void attention_backward_bf16(Context&, const AttentionGradients&, const Tensor& d_out, const Tensor& out,
                             const Tensor& lse, const AttentionInputs&, const AttentionParams&);

/// Element (i, j) is data[i * row + j * column].
struct Bf16Matrix {
    const bf16* data;
    int64_t row, column;
    Bf16Matrix transposed() const { return {data, column, row}; }
};

/// C[m × n] = or += A[m × k] B[k × n]; rows of C are c_row apart.
inline void multiply_bf16(int64_t m, int64_t n, int64_t k, Bf16Matrix a, Bf16Matrix b, bool accumulate, float* c,
                          int64_t c_row) {
    onednn_matmul({Dtype::bf16, Dtype::f32, m, n, k, a.row, a.column, b.row, b.column, c_row, accumulate, false},
                  a.data, b.data, nullptr, c);
}

}  // namespace ballast::cpu
