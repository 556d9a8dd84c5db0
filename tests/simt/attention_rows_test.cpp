// What only the executor can show of attention with rows of its own for every query: that the tiles of other documents
// are passed over, by count, and that every order of threads gives the same bits.
#include "kernels/simt/options.h"
#include "tests/kernels/attention_fixture.h"
#include "tests/simt/orders.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Documents of `length` tokens.
std::vector<int32_t> documents(int64_t T, int64_t length) {
    std::vector<int32_t> first;
    for (int64_t t = 0; t < T; ++t) first.push_back(static_cast<int32_t>(t / length * length));
    return first;
}

struct Counted {
    uint64_t forward, backward;
    std::string bytes;
};

Counted run(const AttentionCase& x, AttentionKernels kernels) {
    Context context(Device::simt, 1);
    context.set_attention_kernels(kernels);
    AttentionRun run(x, Dtype::bf16);
    Counted counted{};
    simt::statistics() = {};
    run.forward(context);
    counted.forward = simt::statistics().matrix_products;
    simt::statistics() = {};
    run.backward(context);
    counted.backward = simt::statistics().matrix_products;
    counted.bytes = run.out.bytes() + run.lse.bytes() + run.d_q.bytes() + run.d_k.bytes() + run.d_v.bytes();
    return counted;
}

}  // namespace

TEST_CASE("attention rows: products are those of the documents' own tiles") {
    const int64_t T = 768;
    for (int64_t D : {64, 128})
        for (AttentionKernels kernels : {AttentionKernels::mma, AttentionKernels::wgmma}) {
            AttentionCase x{.B = 1, .T = T, .S = T, .H = 1, .G = 1, .D = D};
            fill(x, Dtype::bf16);
            const Counted causal = run(x, kernels);
            // Rows that hide nothing cost no product.
            x.first_key.assign(static_cast<size_t>(T), 0);
            const Counted rows = run(x, kernels);
            CHECK(rows.forward == causal.forward);
            CHECK(rows.backward == causal.backward);
            // Six documents of 128: 6 of 36 of the pairs that T tokens make, and the half tiles of the diagonal.
            x.first_key = documents(T, 128);
            const Counted documented = run(x, kernels);
            INFO(name_of(kernels) << " D " << D << ": forward " << documented.forward << " of " << causal.forward
                                  << ", backward " << documented.backward << " of " << causal.backward);
            CHECK(documented.forward > 0);
            CHECK(3 * documented.forward <= causal.forward);
            CHECK(3 * documented.backward <= causal.backward);
        }
}

TEST_CASE("attention rows: every order of threads gives the same bits") {
    for (int64_t D : {64, 128})
        for (AttentionKernels kernels : {AttentionKernels::mma, AttentionKernels::wgmma}) {
            AttentionCase x{.B = 1, .T = 200, .S = 200, .H = 2, .G = 1, .D = D};
            x.sinks = x.key_start = 3;
            x.first_key = documents(x.T, 37);
            x.alibi = {0.25, 0.125};
            fill(x, Dtype::bf16);
            const std::string expected = run(x, kernels).bytes;
            for_each_order([&] { CHECK(run(x, kernels).bytes == expected); });
        }
}
