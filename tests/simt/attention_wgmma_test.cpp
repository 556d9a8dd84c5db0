// What only the executor can show of attention with TMA and wgmma: which kernels ran, that they agree with those on
// mma.sync, and that every order of threads gives the same bits. (Against the oracle:
// tests/kernels/attention_test.cpp.)
#include <array>

#include "kernels/cuda/attention_choice.h"
#include "kernels/simt/options.h"
#include "tests/kernels/attention_fixture.h"
#include "tests/simt/orders.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Sinks, a second query, windows that begin and end inside tiles, ALiBi, a learned sink logit, grouped heads.
AttentionCase everything(int64_t T, int64_t D, Dtype dtype = Dtype::bf16) {
    AttentionCase x{.B = 1, .T = T, .S = T, .H = 2, .G = 1, .D = D, .normaliser = Normaliser::sink_logit};
    x.sinks = x.key_start = 3;
    x.span = {static_cast<int32_t>(T / 3), -1};
    x.has_sink_query = true;
    x.sink_query_position = 23;
    x.alibi = {0.5, 0.125};
    fill(x, dtype);
    return x;
}

/// Plain causal attention: one part, one tile of q, which the output is staged in.
AttentionCase plain(int64_t T, int64_t D) {
    AttentionCase x{.B = 1, .T = T, .S = T, .H = 1, .G = 1, .D = D};
    fill(x, Dtype::bf16);
    return x;
}

/// A view of [B,T,H,D] with so many elements before its first one and between its heads.
struct View {
    TestTensor buffer;
    Tensor view;
    int64_t D, first, gap;

    View(const TestTensor& x, int64_t before, int64_t between)
        : buffer(x.tensor().dtype,
                 {x.tensor().dim(0), x.tensor().dim(1), x.tensor().dim(2), x.tensor().dim(3) + between}),
          view(buffer.tensor().slice(3, before, before + x.tensor().dim(3))),
          D(x.tensor().dim(3)),
          first(before),
          gap(between) {
        for (int64_t n = 0; n < x.tensor().numel(); ++n) buffer.put(place(n), x.at(n));
    }
    int64_t place(int64_t n) const { return n / D * (D + gap) + first + n % D; }
    /// Whether it holds the same, and nothing was written beside it.
    bool equals(const TestTensor& x) const {
        bool same = true;
        for (int64_t n = 0; n < x.tensor().numel(); ++n) same = same && buffer.at(place(n)) == x.at(n);
        for (int64_t i = 0; i < buffer.tensor().numel(); ++i) {
            const int64_t d = i % (D + gap);
            if (d < first || d >= first + D) same = same && std::isnan(buffer.at(i));
        }
        return same;
    }
};

/// out, lse and the gradients of one run, and what the executor counted.
struct Result {
    std::vector<std::pair<const char*, Values>> values;
    std::string bytes;
    simt::Statistics forward, backward;
};

Result run(const AttentionCase& x, AttentionKernels kernels, Dtype dtype = Dtype::bf16) {
    Context context(Device::simt, 1);
    context.set_attention_kernels(kernels);
    AttentionRun run(x, dtype);
    Result result;
    simt::statistics() = {};
    run.forward(context);
    result.forward = simt::statistics();
    simt::statistics() = {};
    run.backward(context);
    result.backward = simt::statistics();
    const auto add = [&](const char* name, const TestTensor& tensor) {
        result.values.emplace_back(name, tensor.get());
        result.bytes += tensor.bytes();
    };
    add("out", run.out);
    add("lse", run.lse);
    add("d_q", run.d_q);
    add("d_k", run.d_k);
    add("d_v", run.d_v);
    if (run.d_sink_query) add("d_sink_query", *run.d_sink_query);
    if (run.d_sink_logit) add("d_sink_logit", *run.d_sink_logit);
    return result;
}

bool on_wgmma(const simt::Statistics& statistics) {  // which needs no ldmatrix
    return statistics.matrix_products > 0 && statistics.matrix_loads == 0;
}

}  // namespace

TEST_CASE("attention on wgmma: agrees with mma.sync within rounding") {
    for (Dtype dtype : {Dtype::bf16, Dtype::f16})
        for (int64_t D : {64, 128}) {
            const AttentionCase x = everything(280, D, dtype);
            const Result mma = run(x, AttentionKernels::mma, dtype);
            const Result wgmma = run(x, AttentionKernels::wgmma, dtype);
            CHECK_FALSE(on_wgmma(mma.forward));
            CHECK_FALSE(on_wgmma(mma.backward));
            CHECK(on_wgmma(wgmma.forward));
            CHECK(on_wgmma(wgmma.backward));
            // Maxima rise at other tiles, so that weights are rounded at other scales.
            const double rounding = dtype == Dtype::bf16 ? 0x1p-8 : 0x1p-11;
            for (size_t i = 0; i < mma.values.size(); ++i) {
                const auto& [name, values] = wgmma.values[i];
                INFO(name << " at D = " << D);
                CHECK(error(values, mma.values[i].second) <= (name == std::string_view("lse") ? 1e-6 : rounding));
            }
        }
}

TEST_CASE("attention on wgmma: every order of threads, and every run, gives the same bits") {
    for (const AttentionCase& x :
         {everything(280, 64), everything(200, 128), everything(130, 80), everything(9, 64), plain(200, 128)}) {
        INFO(describe(x));
        const std::string expected = run(x, AttentionKernels::wgmma).bytes;
        CHECK(run(x, AttentionKernels::wgmma).bytes == expected);
        for_each_order([&] {
            CHECK(run(x, AttentionKernels::wgmma).bytes == expected);
            simt::options().late_copies = false;  // nobody waits for a load: warps run further ahead of each other
            CHECK(run(x, AttentionKernels::wgmma).bytes == expected);
        });
    }
}

TEST_CASE("attention on wgmma: what it cannot take runs on mma.sync, with its bits") {
    const Result padded = run(everything(70, 40), AttentionKernels::wgmma);  // on tiles of 64 dims
    CHECK(on_wgmma(padded.forward));
    CHECK(on_wgmma(padded.backward));
    for (const AttentionCase& x : {everything(70, 32), everything(70, 129), everything(70, 66)}) {
        INFO(describe(x));
        const Result wgmma = run(x, AttentionKernels::wgmma);
        CHECK_FALSE(on_wgmma(wgmma.forward));
        CHECK_FALSE(on_wgmma(wgmma.backward));
        CHECK(wgmma.bytes == run(x, AttentionKernels::mma).bytes);
    }
    CHECK_FALSE(on_wgmma(run(everything(70, 64), AttentionKernels::automatic).forward));
}

TEST_CASE("attention on wgmma: strided views, unaligned results, and unaligned inputs") {
    const AttentionCase x = everything(140, 72);
    Context context(Device::simt, 1);
    AttentionRun expected(x, Dtype::bf16);
    TestTensor lse(Dtype::f32, {x.B, x.H, x.T});
    // Views whose q, k, v, sink_query and d_out begin after so many elements; results begin anywhere.
    const auto check = [&](const std::array<int64_t, 5>& first) {
        View q(expected.q, first[0], 24), k(expected.k, first[1], 16), v(expected.v, first[2], 8);
        View sink_query(*expected.sink_query, first[3], 16), d_out(expected.d_out, first[4], 8);
        View out(expected.out, 1, 3), d_q(expected.d_q, 8, 16), d_k(expected.d_k, 3, 4), d_v(expected.d_v, 0, 1);
        View d_sink_query(*expected.d_sink_query, 2, 2);
        TestTensor d_sink_logit(Dtype::f32, {x.H}, Values(static_cast<size_t>(x.H), 1.0));
        const ops::AttentionInputs in{q.view, k.view, v.view, sink_query.view};
        simt::statistics() = {};
        ops::attention_forward(context, out.view, lse, in, expected.params());
        ops::attention_backward(context, {d_q.view, d_k.view, d_v.view, d_sink_query.view, d_sink_logit}, d_out.view,
                                out.view, lse, in, expected.params());
        CHECK(out.equals(expected.out));
        CHECK(lse.bytes() == expected.lse.bytes());
        CHECK(d_q.equals(expected.d_q));
        CHECK(d_k.equals(expected.d_k));
        CHECK(d_v.equals(expected.d_v));
        CHECK(d_sink_query.equals(*expected.d_sink_query));
        return simt::statistics().matrix_loads;
    };
    context.set_attention_kernels(AttentionKernels::wgmma);
    expected.forward(context);
    expected.backward(context);
    CHECK(check({8, 16, 0, 8, 8}) == 0);

    context.set_attention_kernels(AttentionKernels::mma);
    expected.forward(context);
    expected.backward(context);
    context.set_attention_kernels(AttentionKernels::wgmma);
    for (size_t unaligned = 0; unaligned < 4; ++unaligned) {
        std::array<int64_t, 5> first{8, 8, 8, 8, 8};
        first[unaligned] = 4;
        CHECK(check(first) > 0);
    }
}

TEST_CASE("wgmma attention: what a GPU tries on first use agrees with mma.sync, and the executor stays with mma.sync") {
    const double difference = cuda::wgmma_difference(Device::simt);
    INFO("difference " << difference);
    CHECK(difference <= 5e-3);
    CHECK(difference > 0);  // other kernels, other roundings
    CHECK_FALSE(cuda::prefers_wgmma(Device::simt));
}
