// What only the executor can show of attention on tensor cores: bank conflicts, orders of threads, and fp16.
#include "kernels/cuda/attention_fma.cuh"
#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/attention_mma_forward.cuh"
#include "kernels/simt/buffer.h"
#include "tests/kernels/attention_fixture.h"
#include "tests/simt/orders.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Sinks, a second query, windows, ALiBi, a learned sink logit, two heads a key-value head.
AttentionCase everything(int64_t T, int64_t D) {
    AttentionCase x{.B = 1, .T = T, .S = T, .H = 2, .G = 1, .D = D, .normaliser = Normaliser::sink_logit};
    x.sinks = x.key_start = 3;
    x.span = {20, -1};
    x.has_sink_query = true;
    x.sink_query_position = 23;
    x.alibi = {0.5, 0.125};
    fill(x, Dtype::bf16);
    return x;
}

std::string results(const AttentionCase& x) {
    Context context(Device::simt, 1);
    AttentionRun run(x, Dtype::bf16);
    run.forward(context);
    run.backward(context);
    return run.out.bytes() + run.lse.bytes() + run.d_q.bytes() + run.d_k.bytes() + run.d_v.bytes() +
           run.d_sink_query->bytes() + run.d_sink_logit->bytes();
}

/// Forward and backward in fp16 by the kernels of one tile shape.
template <int kDims>
void check_fp16(const AttentionCase& shape) {
    using T = __half;
    using Forward = cuda::MmaForward<T, kDims>;
    using Query = cuda::MmaQueryGradient<T, kDims>;
    using Key = cuda::MmaKeyGradient<T, kDims>;
    AttentionCase x = shape;
    for (Values* values : {&x.q, &x.k, &x.v, &x.sink_query, &x.d_out})
        for (double& value : *values) value = static_cast<float>(T(value));
    const AttentionResult expected = reference_attention(x);

    const auto half = [](const Values& values) {
        return simt::Buffer<T>(std::vector<T>(values.begin(), values.end()));
    };
    simt::Buffer<T> q = half(x.q), k = half(x.k), v = half(x.v), sink_query = half(x.sink_query);
    simt::Buffer<T> d_out = half(x.d_out), out(x.q.size()), d_q(x.q.size()), d_sink_query(x.q.size());
    simt::Buffer<T> d_k(x.k.size()), d_v(x.k.size());
    simt::Buffer<float> lse(expected.lse.size()), delta(expected.lse.size());

    const AttentionRun run(x, Dtype::bf16);  // for its parameters, and as the shapes of these:
    const auto like = [](const TestTensor& tensor, simt::Buffer<T>& data) {
        Tensor view = tensor.tensor();
        view.data = data.data();
        return view;
    };
    const cuda::AttentionInputs in{like(run.q, q), like(run.k, k), like(run.v, v), like(run.q, sink_query)};
    const cuda::AttentionOperands<T> operands(in, run.params());
    const auto grid = [&](int64_t tiles, int64_t heads) {
        return dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(heads), static_cast<unsigned>(x.B));
    };
    const auto tiles = [](int64_t rows, int64_t own) { return (rows + own - 1) / own; };
    simt::launch(cuda::attention_mma_forward_kernel<T, kDims>, grid(tiles(x.T, Forward::kOwn), x.H), Forward::kThreads,
                 Forward::memory().shared(), nullptr, cuda::HeadRows<T>(like(run.q, out)), lse.data(), operands);
    simt::launch(cuda::attention_delta_kernel<T>, grid(tiles(x.T, cuda::kRowsAtOnce), x.H), cuda::kAttentionThreads, {},
                 nullptr, delta.data(), cuda::HeadRows<const T>(like(run.q, d_out)),
                 cuda::HeadRows<const T>(like(run.q, out)), x.T, static_cast<int>(x.D));
    const cuda::AttentionSaved<T> saved{cuda::HeadRows<const T>(like(run.q, d_out)), lse.data(), delta.data()};
    simt::launch(cuda::attention_mma_d_query_kernel<T, kDims>, grid(tiles(x.T, Query::kOwn), x.H), Query::kThreads,
                 Query::memory().shared(), nullptr, cuda::HeadRows<T>(like(run.q, d_q)),
                 cuda::HeadRows<T>(like(run.q, d_sink_query)), saved, operands);
    simt::launch(cuda::attention_mma_d_key_kernel<T, kDims>,
                 grid(tiles(x.sinks, Key::kOwn) + tiles(x.S - x.sinks, Key::kOwn), x.G), Key::kThreads,
                 Key::memory().shared(), nullptr, cuda::HeadRows<T>(like(run.k, d_k)),
                 cuda::HeadRows<T>(like(run.k, d_v)), saved, operands);

    const auto check = [](const char* name, const auto& buffer, const Values& reference, double tolerance) {
        const auto values = buffer.values();
        const double err = error(Values(values.begin(), values.end()), reference);
        INFO(name << ": error " << err << ", tolerance " << tolerance << ", seed " << kSeed);
        if (!(err <= tolerance)) FAIL();
    };
    check("lse", lse, expected.lse, 1e-6);
    check("out", out, expected.out, 1e-3);  // half's rounding is 2^-11, of results and of weights
    check("d_q", d_q, expected.d_q, 1e-3);
    check("d_sink_query", d_sink_query, expected.d_sink_query, 1e-3);
    check("d_k", d_k, expected.d_k, 1e-3);
    check("d_v", d_v, expected.d_v, 1e-3);
}

}  // namespace

TEST_CASE("attention on tensor cores: no bank conflict at any tile of head dims") {
    for (int64_t D : {32, 64, 128, 256}) {
        simt::statistics() = {};
        results(everything(70, D));
        CHECK(simt::statistics().matrix_products > 0);
        CHECK(simt::statistics().bank_conflicts == 0);
    }
}

TEST_CASE("attention on tensor cores: every order of threads gives the same bits") {
    for (const AttentionCase& x :
         {everything(140, 32), everything(70, 64), everything(70, 128), everything(35, 256), everything(40, 20)}) {
        INFO(describe(x));
        const std::string expected = results(x);
        CHECK(results(x) == expected);
        for_each_order([&] { CHECK(results(x) == expected); });
    }
}

TEST_CASE("attention on tensor cores: fp16 against the oracle") {
    check_fp16<32>(everything(140, 24));
    check_fp16<64>(everything(70, 64));
    check_fp16<128>(everything(70, 100));
    check_fp16<256>(everything(35, 256));
}
