#include <array>

#include "tests/kernels/attention_check.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("attention: every normaliser, mask, bias and grouping against the oracle") {
    AttentionCase shape{.B = 2, .T = 63, .S = 63, .D = 8};
    for (const AttentionCase& x : attention_variants(shape))
        for (Dtype dtype : compute_dtypes()) check_case(x, dtype);
}

TEST_CASE("attention: several tiles of queries and keys under every mask against the oracle") {
    for (const AttentionCase& x : attention_variants({.B = 1, .T = 150, .S = 150, .D = 5})) check_case(x, Dtype::f32);
}

TEST_CASE("attention: odd lengths and head dims against the oracle") {
    for (Dtype dtype : compute_dtypes()) {
        for (int64_t T : {1, 2, 7, 63, 65, 130}) check_case({.B = 1, .T = T, .S = T, .H = 2, .G = 1, .D = 33}, dtype);
        for (int64_t D : {1, 3, 32, 64, 80, 128, 256}) check_case({.B = 1, .T = 65, .S = 65, .H = 2, .G = 2, .D = D}, dtype);
    }
    check_case({.B = 1, .T = 1000, .S = 1000, .H = 1, .G = 1, .D = 16}, Dtype::f32);
}

TEST_CASE("attention: every tile of head dims in bf16, several tiles of queries and keys, against the oracle") {
    for (int64_t D : {20, 32, 64, 96, 128, 256}) {
        AttentionCase x{.B = 1, .T = 140, .S = 140, .H = 2, .G = 1, .D = D, .normaliser = Normaliser::sink_logit};
        check_case(x, Dtype::bf16);
        x.sinks = x.key_start = 5;  // windows that begin and end inside tiles, sinks on their own
        x.span = {37, 70};
        x.has_sink_query = true;
        x.sink_query_position = 42;
        x.alibi = {0.25, 0.03125};
        check_case(x, Dtype::bf16);
    }
    // Many sinks, and more key rows than queries: the cache of a second chunk.
    AttentionCase chunk{.B = 1, .T = 66, .S = 200, .H = 4, .G = 2, .D = 64, .normaliser = Normaliser::off_by_one};
    chunk.sinks = 70;
    chunk.key_start = 100;
    chunk.query_start = 164;
    chunk.span = {33, 65, 200, -1};
    check_case(chunk, Dtype::bf16);
    chunk.has_sink_query = true;
    check_case(chunk, Dtype::bf16);
}

TEST_CASE("attention: every normaliser, mask, bias and grouping on every kernel of 16-bit types, several tiles") {
    for (const AttentionCase& x : attention_variants({.B = 1, .T = 33, .S = 33, .D = 64})) check_case(x, Dtype::bf16);
    for (const AttentionCase& x : attention_variants({.B = 1, .T = 145, .S = 145, .D = 64}))
        if (x.normaliser == Normaliser::sink_logit) check_case(x, Dtype::bf16);
    for (const AttentionCase& x : attention_variants({.B = 1, .T = 131, .S = 131, .D = 128}))
        for (Dtype dtype : computable({Dtype::f16}))
            if (x.normaliser == Normaliser::off_by_one && x.has_sink_query) check_case(x, dtype);
    for (double scale : {-1.0, 0.0})
        check_case({.B = 1, .T = 70, .S = 70, .H = 2, .G = 2, .D = 64, .normaliser = Normaliser::off_by_one}, Dtype::bf16,
                   1.0, scale);
    AttentionCase apart{.B = 1, .T = 300, .S = 140, .H = 2, .G = 1, .D = 64};  // most queries see a few keys, or none
    apart.key_start = 130;
    apart.span = {20, 5};
    apart.normaliser = Normaliser::off_by_one;
    check_case(apart, Dtype::bf16);
}

TEST_CASE("attention: bf16 in the CPU's tiles of hundreds of queries and keys, against the oracle") {
    if (test_device() != Device::cpu) return;  // a GPU's tiles are smaller, and the executor takes its time
    AttentionCase x{.B = 2, .T = 600, .S = 600, .H = 2, .G = 1, .D = 24, .normaliser = Normaliser::sink_logit};
    check_case(x, Dtype::bf16);
    x.sinks = x.key_start = 4;  // windows that end inside tiles, or reach over two
    x.span = {37, 530};
    x.has_sink_query = true;
    x.sink_query_position = 300;
    x.alibi = {0.25, 0.0078125};
    check_case(x, Dtype::bf16);
    // A chunk behind a long cache: every query sees more than one tile of keys. One query is left over.
    AttentionCase chunk{.B = 1, .T = 129, .S = 1100, .H = 1, .G = 1, .D = 33, .query_start = 971};
    check_case(chunk, Dtype::bf16);
}

TEST_CASE("attention: what runs by default agrees with mma.sync, and is wgmma on a GPU that has it") {
    // On a GPU this includes the comparison that decides it (kernels/cuda/attention_choice.cpp).
    const char* only = std::getenv("BALLAST_TEST_ATTENTION");
    if (only != nullptr && std::string_view(only) == "mma") return;  // a trap of wgmma is not to be mma's
    const int64_t T = test_device() == Device::cuda ? 1000 : 70;
    for (const int64_t D : {64, 128}) {
        AttentionCase x{.B = 1, .T = T, .S = T, .H = 2, .G = 1, .D = D, .normaliser = Normaliser::sink_logit};
        fill(x, Dtype::bf16);
        const auto run_on = [&](AttentionKernels kernels) {
            Context context(test_device(), 1);
            context.set_attention_kernels(kernels);
            auto run = std::make_unique<AttentionRun>(x, Dtype::bf16);
            run->forward(context);
            run->backward(context);
            return run;
        };
        const auto results = [](const AttentionRun& run) {
            return std::array{&run.out, &run.lse, &run.d_q, &run.d_k, &run.d_v, &*run.d_sink_logit};
        };
        const auto mma = run_on(AttentionKernels::mma), wgmma = run_on(AttentionKernels::wgmma),
                   chosen = run_on(AttentionKernels::automatic);
        // Without wgmma all three are alike.
        const AttentionRun& wanted = test_device() == Device::cuda ? *wgmma : *mma;
        for (size_t i = 0; i < results(*mma).size(); ++i) {
            const double err = error(results(*wgmma)[i]->get(), results(*mma)[i]->get());
            INFO("D " << D << ", " << results(*mma)[i]->tensor().describe() << ": difference " << err);
            if (!(err <= 1e-2)) FAIL();
            CHECK(results(*chosen)[i]->bytes() == results(wanted)[i]->bytes());
        }
        if (test_device() == Device::simt) CHECK(wgmma->out.bytes() != mma->out.bytes());
    }
}

TEST_CASE("attention: a scale that is negative, or zero") {
    for (double scale : {-1.0, 0.0})
        for (Dtype dtype : compute_dtypes())
            check_case({.B = 1, .T = 70, .S = 70, .H = 2, .G = 2, .D = 16, .normaliser = Normaliser::off_by_one}, dtype, 1.0, scale);
}

TEST_CASE("attention: large logits against the oracle") {
    for (Dtype dtype : computable({Dtype::f32, Dtype::f64}))
        check_case({.B = 1, .T = 65, .S = 65, .H = 2, .G = 2, .D = 32, .normaliser = Normaliser::sink_logit}, dtype, 5.0);
}

TEST_CASE("attention: keys and queries anywhere in the stream") {
    for (Dtype dtype : compute_dtypes()) {
        // A chunk of 7 queries behind a cache of 4 sinks and 60 recent keys that begin at position 500.
        AttentionCase cached{.B = 2, .T = 7, .S = 64, .H = 2, .G = 1, .D = 16};
        cached.sinks = 4;
        cached.key_start = 500;
        cached.query_start = 553;
        check_case(cached, dtype);
        cached.span = {20, 59};
        cached.has_sink_query = true;
        cached.sink_query_position = 63;
        cached.alibi = {0.5, 0.1};
        check_case(cached, dtype);
        // One token against a long cache: decoding.
        AttentionCase decode{.B = 1, .T = 1, .S = 777, .H = 4, .G = 2, .D = 64};
        decode.query_start = 776;
        check_case(decode, dtype);
        decode.sinks = decode.key_start = 4;
        decode.span = {100, 300, 0, -1};
        decode.normaliser = Normaliser::off_by_one;
        check_case(decode, dtype);
        // Fewer keys than sinks.
        check_case({.B = 1, .T = 3, .S = 3, .H = 1, .G = 1, .D = 8, .span = {0}, .sinks = 8, .key_start = 8}, dtype);
    }
}

TEST_CASE("attention: rows that see nothing give zero, z, and no NaN") {
    for (Normaliser normaliser : {Normaliser::softmax, Normaliser::off_by_one, Normaliser::sink_logit})
        for (Dtype dtype : compute_dtypes()) {
            AttentionCase x{.B = 1, .T = 9, .S = 5, .H = 2, .G = 2, .D = 8, .normaliser = normaliser};
            x.key_start = 4;  // keys at 4 … 8, queries at 0 … 8: the first four see none
            fill(x, dtype);
            Context context(test_device(), 1);
            AttentionRun run(x, dtype);
            run.forward(context);
            run.backward(context);
            const AttentionResult expected = reference_attention(x);
            const Values lse = run.lse.get(), out = run.out.get(), d_q = run.d_q.get();
            for (size_t t = 0; t < 4; ++t)
                for (size_t h = 0; h < 2; ++h) CHECK(lse[h * 9 + t] == x.z(static_cast<int64_t>(h)));
            for (size_t i = 0; i < 4 * 2 * 8; ++i) {
                CHECK(out[i] == 0.0);
                CHECK(d_q[i] == 0.0);
            }
            check_close("out", run.out, expected.out);
            check_error("d_k", run.d_k, expected.d_k, is_narrow(dtype) ? 1e-2 : 1e-5);
            if (run.d_sink_logit) CHECK(std::isfinite(run.d_sink_logit->at(0)));
        }
}

TEST_CASE("attention: SoftMax-off-by-one is an explicit zero key and value, and a gated softmax", "[not_cuda]") {
    AttentionCase zero_sink{.B = 1, .T = 20, .S = 20, .H = 2, .G = 2, .D = 16, .normaliser = Normaliser::off_by_one};
    fill(zero_sink, Dtype::f64);
    AttentionCase softmax = zero_sink, prepended = zero_sink;
    softmax.normaliser = prepended.normaliser = Normaliser::softmax;
    prepended.S = 21;
    prepended.query_start = 1;
    for (Values* x : {&prepended.k, &prepended.v}) x->insert(x->begin(), static_cast<size_t>(zero_sink.G * zero_sink.D), 0.0);

    Context context(test_device(), 1);
    AttentionRun off_by_one(zero_sink, Dtype::f64), plain(softmax, Dtype::f64), explicit_zero(prepended, Dtype::f64);
    off_by_one.forward(context);
    plain.forward(context);
    explicit_zero.forward(context);
    check_close("explicit zero key and value", explicit_zero.out, off_by_one.out.get(), 0, 1e-14);
    Values gated = plain.out.get();
    const Values lse = plain.lse.get();
    for (int64_t t = 0; t < 20; ++t)
        for (int64_t h = 0; h < 2; ++h)
            for (int64_t d = 0; d < 16; ++d)
                gated[softmax.q_at(0, t, h, d)] /= 1 + std::exp(-lse[static_cast<size_t>(h * 20 + t)]);
    check_close("O sigmoid(LSE)", off_by_one.out, gated, 0, 1e-14);
}

TEST_CASE("attention: finite differences of every input, for every normaliser, mask, bias and grouping", "[not_cuda]") {
    AttentionCase shape{.B = 1, .T = 7, .S = 7, .D = 3};
    for (AttentionCase x : attention_variants(shape)) {
        fill(x, Dtype::f64);
        if (x.normaliser == Normaliser::sink_logit) x.sink_logit = {-1.5, 0.3, 2.0, 0.0};
        INFO(describe(x));
        Context context(test_device(), 1);
        AttentionRun run(x, Dtype::f64);
        const auto loss = [&] {
            run.forward(context);
            return dot(run.out.get(), x.d_out);
        };
        loss();
        run.backward(context);
        check_gradient("q", run.q, run.d_q.get(), loss);
        check_gradient("k", run.k, run.d_k.get(), loss);
        check_gradient("v", run.v, run.d_v.get(), loss);
        if (run.sink_query) check_gradient("sink_query", *run.sink_query, run.d_sink_query->get(), loss);
        if (run.sink_logit) {
            Values gradient = run.d_sink_logit->get();
            for (double& value : gradient) value -= 1.0;  // it was 1 before
            check_gradient("sink_logit", *run.sink_logit, gradient, loss);
        }
    }
}

TEST_CASE("attention: strided views") {
    // q, k and v as slices of one [B,T,3,H,D] buffer, out as a slice of a wider one.
    const int64_t B = 2, T = 17, H = 3, D = 8;
    AttentionCase x{.B = B, .T = T, .S = T, .H = H, .G = H, .D = D};
    fill(x, Dtype::f32);
    TestTensor packed(Dtype::f32, {B, T, 3, H, D}), wide(Dtype::f32, {B, T, H, D + 4}), lse(Dtype::f32, {B, H, T});
    const auto part = [&](int64_t i) {
        Tensor view = packed.tensor();
        view.rank = 4;
        view.data = static_cast<float*>(view.data) + i * H * D;
        view.shape = {B, T, H, D};
        view.stride = {T * 3 * H * D, 3 * H * D, D, 1};
        return view;
    };
    Values qkv;
    for (int64_t n = 0; n < B * T; ++n)
        for (const Values* values : {&x.q, &x.k, &x.v})
            qkv.insert(qkv.end(), values->begin() + n * H * D, values->begin() + (n + 1) * H * D);
    packed.set(qkv);
    Context context(test_device(), 1);
    ops::AttentionParams params;
    params.scale = x.scale;
    ops::attention_forward(context, wide.tensor().slice(3, 0, D), lse, {part(0), part(1), part(2), {}}, params);
    const Values expected = reference_attention(x).out;
    const Values all = wide.get();
    Values out;
    for (size_t i = 0; i < all.size(); ++i) {
        if (i % (D + 4) < D)
            out.push_back(all[i]);
        else
            CHECK(std::isnan(all[i]));
    }
    const double err = error(out, expected);
    if (!(err <= 2e-6)) FAIL("error " << err);
}

TEST_CASE("attention: views that begin anywhere give the same bits, and nothing beside them is written") {
    // [B,T,H,D] inside a buffer [B,T,H,D + 3], one element in: no row is aligned to more than an element.
    struct View {
        TestTensor buffer;
        Tensor view;
        View(const TestTensor& x, int64_t D)
            : buffer(x.tensor().dtype, {x.tensor().dim(0), x.tensor().dim(1), x.tensor().dim(2), D + 3}),
              view(buffer.tensor().slice(3, 1, D + 1)) {
            const Values values = x.get();
            Values wide(static_cast<size_t>(buffer.tensor().numel()), std::numeric_limits<double>::quiet_NaN());
            const auto dims = static_cast<size_t>(D);
            for (size_t n = 0; n < values.size(); ++n) wide[n / dims * (dims + 3) + 1 + n % dims] = values[n];
            buffer.set(wide);
        }
        void check(const TestTensor& expected, int64_t D) const {
            const Values wide = buffer.get(), values = expected.get();
            const auto dims = static_cast<size_t>(D);
            int64_t different = 0, written = 0;
            for (size_t i = 0, n = 0; i < wide.size(); ++i) {
                const size_t d = i % (dims + 3);
                if (d >= 1 && d <= dims)
                    different += !(wide[i] == values[n++]);
                else
                    written += !std::isnan(wide[i]);
            }
            CHECK(different == 0);
            CHECK(written == 0);
        }
    };
    for (Dtype dtype : {Dtype::f32, Dtype::bf16})
        for (int64_t D : {13, 32, 72}) {
            AttentionCase x{.B = 2, .T = 35, .S = 35, .H = 2, .G = 1, .D = D};
            x.sinks = x.key_start = 3;
            x.span = {9, 20};
            x.has_sink_query = true;
            fill(x, dtype);
            INFO(describe(x));
            Context context(test_device(), 1);
            AttentionRun run(x, dtype);
            View q(run.q, D), k(run.k, D), v(run.v, D), sink_query(*run.sink_query, D), d_out(run.d_out, D);
            View out(run.out, D), d_q(run.d_q, D), d_k(run.d_k, D), d_v(run.d_v, D), d_sink(*run.d_sink_query, D);
            run.forward(context);
            run.backward(context);
            TestTensor lse(Dtype::f32, {x.B, x.H, x.T});
            const ops::AttentionInputs in{q.view, k.view, v.view, sink_query.view};
            ops::attention_forward(context, out.view, lse, in, run.params());
            ops::attention_backward(context, {d_q.view, d_k.view, d_v.view, d_sink.view, {}}, d_out.view, out.view, lse, in,
                                    run.params());
            CHECK(lse.bytes() == run.lse.bytes());
            out.check(run.out, D);
            d_q.check(run.d_q, D);
            d_k.check(run.d_k, D);
            d_v.check(run.d_v, D);
            d_sink.check(*run.d_sink_query, D);
        }
}

TEST_CASE("attention: a NaN in q, k or v reaches the output") {
    for (Dtype dtype : {Dtype::f32, Dtype::bf16})
        for (int which = 0; which < 3; ++which) {
            AttentionCase x{.B = 1, .T = 1, .S = 1, .H = 1, .G = 1, .D = 8};
            fill(x, dtype);
            (which == 0 ? x.q : which == 1 ? x.k : x.v)[3] = std::numeric_limits<double>::quiet_NaN();
            Context context(test_device(), 1);
            AttentionRun run(x, dtype);
            run.forward(context);
            CHECK(std::isnan(run.out.at(3)));
            CHECK(std::isnan(run.lse.at(0)) == (which < 2));
        }
}

TEST_CASE("attention: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes()) {
        AttentionCase x{.B = 2, .T = 130, .S = 130, .H = 4, .G = 2, .D = 24, .normaliser = Normaliser::sink_logit};
        x.sinks = x.key_start = 4;
        x.span = {3, 30, 64, -1};
        x.has_sink_query = true;
        fill(x, dtype);
        check_thread_counts([&](Context& context) {
            AttentionRun run(x, dtype);
            run.forward(context);
            run.backward(context);
            return run.out.bytes() + run.lse.bytes() + run.d_q.bytes() + run.d_k.bytes() + run.d_v.bytes() +
                   run.d_sink_query->bytes() + run.d_sink_logit->bytes();
        });
    }
}

TEST_CASE("attention: z = -inf by a learned sink logit is softmax", "[not_cuda]") {
    AttentionCase x{.B = 1, .T = 9, .S = 9, .H = 2, .G = 2, .D = 8, .normaliser = Normaliser::sink_logit};
    x.sink_logit = {-kInfinity, -kInfinity};
    fill(x, Dtype::f64);
    AttentionCase softmax = x;
    softmax.normaliser = Normaliser::softmax;
    Context context(test_device(), 1);
    AttentionRun a(x, Dtype::f64), b(softmax, Dtype::f64);
    a.forward(context);
    b.forward(context);
    CHECK(a.out.bytes() == b.out.bytes());
    a.backward(context);
    CHECK(a.d_sink_logit->at(0) == 1.0);  // its gradient is 0, added to the 1 that was there
}
