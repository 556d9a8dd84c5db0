// The wrapper around oneDNN itself. bf16 products run only where the processor has AMX; the same code runs in f32 here.
#include "kernels/cpu/onednn.h"
#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// One product with every combination of transposed operands, accumulation and bias.
void check_products(Dtype dtype, Dtype c_dtype) {
    const int64_t M = 37, N = 65, K = 50;
    for (bool a_transposed : {false, true})
        for (bool b_transposed : {false, true})
            for (bool accumulate : {false, true})
                for (bool biased : {false, true}) {
                    if (accumulate && biased) continue;
                    TestTensor a(dtype, {M, K}, normal(M * K, "a")), b(dtype, {K, N}, normal(K * N, "b")),
                        bias(dtype, {N}, normal(N, "bias")), c(c_dtype, {M, N}, normal(M * N, "c"));
                    Values expected = reference_matmul(a.get(), a_transposed, b.get(), b_transposed, M, N, K);
                    for (size_t i = 0; i < expected.size(); ++i) {
                        const auto at = static_cast<int64_t>(i);
                        expected[i] += accumulate ? c.at(at) : biased ? bias.at(at % N) : 0;
                    }
                    for (int repeat = 0; repeat < 2; ++repeat) {  // the second time from the cache
                        c.set(normal(M * N, "c"));
                        cpu::onednn_matmul({dtype, c_dtype, M, N, K, a_transposed ? 1 : K, a_transposed ? M : 1,
                                            b_transposed ? 1 : N, b_transposed ? K : 1, N, accumulate, biased},
                                           a.tensor().data, b.tensor().data, bias.tensor().data, c.tensor().data);
                        check_close("c", c, expected);
                    }
                }
}

}  // namespace

TEST_CASE("onednn: cached products in f32") { check_products(Dtype::f32, Dtype::f32); }

TEST_CASE("onednn: bf16 products where the processor has AMX") {
    if (!cpu::onednn_has_amx_bf16()) {
        WARN("no AMX-BF16 here: bf16 operands are widened instead, which the linear tests cover");
        return;
    }
    check_products(Dtype::bf16, Dtype::f32);
    check_products(Dtype::bf16, Dtype::bf16);
}
