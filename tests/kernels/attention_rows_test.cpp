// Attention where each query has a place and a first key of its own: documents, packed sequences, padding, decoding.
#include "kernels/recording.h"
#include "tests/kernels/attention_check.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Where the document of each token begins: documents of 1, 3, 5, … up to `longest` tokens, others in every sequence.
std::vector<int32_t> documents(int64_t B, int64_t T, int64_t longest) {
    const Philox generator(kSeed, "documents");
    std::vector<int32_t> first;
    uint64_t n = 0;
    for (int64_t b = 0; b < B; ++b)
        for (int64_t begin = 0; begin < T;) {
            const auto half = static_cast<int64_t>(generator.uniform(n++) * static_cast<double>(longest / 2));
            const int64_t end = std::min(begin + 1 + 2 * half, T);
            first.insert(first.end(), static_cast<size_t>(end - begin), static_cast<int32_t>(begin));
            begin = end;
        }
    return first;
}

std::vector<int32_t> counted(int64_t B, int64_t T, int64_t start) {
    std::vector<int32_t> positions;
    for (int64_t b = 0; b < B; ++b)
        for (int64_t t = 0; t < T; ++t) positions.push_back(static_cast<int32_t>(start + t));
    return positions;
}

/// Three sequences that stand at places of their own in caches of S = 90 keys: one with padding before it, one with
/// padding behind it, one whole.
AttentionCase packed(int64_t D) {
    AttentionCase x{.B = 3, .T = 37, .S = 90, .H = 4, .G = 2, .D = D};
    for (int64_t b = 0; b < 3; ++b)
        for (int64_t t = 0; t < x.T; ++t) {
            const int64_t place = b == 0 ? t - 9 : b == 1 ? std::min<int64_t>(40 + t, 61) : 53 + t;
            const int64_t first = b == 2 ? 11 : 0;
            x.query_position.push_back(static_cast<int32_t>(std::max<int64_t>(place, -1)));
            x.first_key.push_back(static_cast<int32_t>(b == 1 && 40 + t > 61 ? 1000 : first));
        }
    return x;
}

std::string result_bytes(const AttentionCase& x, Dtype dtype, AttentionKernels kernels) {
    Context context(test_device(), 2);
    context.set_attention_kernels(kernels);
    AttentionRun run(x, dtype);
    run.forward(context);
    run.backward(context);
    std::string bytes = run.out.bytes() + run.lse.bytes() + run.d_q.bytes() + run.d_k.bytes() + run.d_v.bytes();
    if (run.d_sink_logit) bytes += run.d_sink_logit->bytes();
    return bytes;
}

}  // namespace

TEST_CASE("attention rows: documents under every normaliser, mask, bias and grouping against the oracle") {
    for (AttentionCase x : attention_variants({.B = 2, .T = 63, .S = 63, .D = 8})) {
        x.first_key = documents(x.B, x.T, 30);
        for (Dtype dtype : compute_dtypes()) check_case(x, dtype);
    }
}

TEST_CASE("attention rows: documents over several tiles, on every kernel, against the oracle") {
    for (AttentionCase x : attention_variants({.B = 1, .T = 150, .S = 150, .D = 5})) {
        if (x.normaliser != Normaliser::sink_logit) continue;
        x.first_key = documents(x.B, x.T, 90);
        check_case(x, Dtype::f32);
    }
    for (AttentionCase x : attention_variants({.B = 1, .T = 281, .S = 281, .D = 64})) {
        if (x.normaliser != Normaliser::off_by_one) continue;
        x.first_key = documents(x.B, x.T, 120);
        check_case(x, Dtype::bf16);
    }
    for (int64_t D : {20, 128, 200})
        for (Dtype dtype : computable({Dtype::bf16, Dtype::f16})) {
            AttentionCase x{.B = 2, .T = 137, .S = 137, .H = 2, .G = 1, .D = D, .normaliser = Normaliser::sink_logit};
            x.first_key = documents(x.B, x.T, 60);
            x.span = {17, -1};
            x.alibi = {0.25, 0.0625};
            check_case(x, dtype);
            x.sinks = x.key_start = 5;
            x.has_sink_query = true;
            x.sink_query_position = 22;
            check_case(x, dtype);
        }
}

TEST_CASE("attention rows: documents in the CPU's tiles of hundreds of queries and keys, against the oracle") {
    if (test_device() != Device::cpu) return;  // a GPU's tiles are smaller, and the executor takes its time
    AttentionCase x{.B = 2, .T = 700, .S = 700, .H = 2, .G = 1, .D = 24, .normaliser = Normaliser::sink_logit};
    for (int64_t longest : {80, 600}) {
        x.first_key = documents(x.B, x.T, longest);
        for (Dtype dtype : {Dtype::bf16, Dtype::f32}) check_case(x, dtype);
    }
    x.sinks = x.key_start = 4;
    x.span = {37, 530};
    check_case(x, Dtype::bf16);
}

TEST_CASE("attention rows: packed sequences with padding, against the oracle") {
    for (int64_t D : {8, 64})
        for (Normaliser normaliser : {Normaliser::softmax, Normaliser::sink_logit})
            for (Dtype dtype : compute_dtypes()) {
                AttentionCase x = packed(D);
                x.normaliser = normaliser;
                check_case(x, dtype);
                x.alibi = {0.5, 0.25, 0.125, 0.0625};
                x.sinks = x.key_start = 3;
                x.span = {1, 20, 50, -1};
                check_case(x, dtype);
                x.has_sink_query = true;
                x.sink_query_position = 31;
                check_case(x, dtype);
                x.first_key.clear();  // places alone
                check_case(x, dtype);
            }
}

TEST_CASE("attention rows: padding gives zero, z, no gradient and no NaN, with sinks and without") {
    for (Dtype dtype : compute_dtypes())
        for (int64_t sinks : {0, 3})
            for (Normaliser normaliser : {Normaliser::softmax, Normaliser::off_by_one}) {
                AttentionCase x = packed(64);
                x.normaliser = normaliser;
                x.sinks = x.key_start = sinks;
                fill(x, dtype);
                for (AttentionKernels kernels : kernels_for(x, dtype)) {
                    INFO(describe(x) << " in " << name_of(dtype) << " on " << name_of(kernels));
                    Context context(test_device(), 1);
                    context.set_attention_kernels(kernels);
                    AttentionRun run(x, dtype);
                    run.forward(context);
                    run.backward(context);
                    const Values out = run.out.get(), lse = run.lse.get(), d_q = run.d_q.get();
                    int64_t padding = 0;
                    for (int64_t b = 0; b < x.B; ++b)
                        for (int64_t t = 0; t < x.T; ++t) {
                            if (x.first(b, t) <= x.position(b, t)) continue;
                            ++padding;
                            for (int64_t h = 0; h < x.H; ++h) {
                                CHECK(lse[static_cast<size_t>((b * x.H + h) * x.T + t)] == x.z(h));
                                for (int64_t d = 0; d < x.D; ++d) {
                                    REQUIRE(out[x.q_at(b, t, h, d)] == 0.0);
                                    REQUIRE(d_q[x.q_at(b, t, h, d)] == 0.0);
                                }
                            }
                        }
                    CHECK(padding == 9 + 15);
                    for (double value : run.d_k.get()) REQUIRE(std::isfinite(value));
                }
            }
}

TEST_CASE("attention rows: finite differences of every input through documents and packed places", "[not_cuda]") {
    for (AttentionCase x : attention_variants({.B = 2, .T = 7, .S = 7, .D = 3})) {
        if (x.normaliser != Normaliser::sink_logit) continue;
        x.first_key = {0, 0, 0, 3, 3, 3, 6, /* the second sequence: */ 0, 1, 1, 1, 1, 5, 100};
        x.query_position = {-1, -1, 1, 3, 4, 6, 6, /* */ 0, 1, 2, 3, 4, 6, 6};
        fill(x, Dtype::f64);
        x.sink_logit = {-1.5, 0.3, 2.0, 0.0};
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
        Values gradient = run.d_sink_logit->get();
        for (double& value : gradient) value -= 1.0;  // it was 1 before
        check_gradient("sink_logit", *run.sink_logit, gradient, loss);
    }
}

TEST_CASE("attention rows: a packed call equals a call for each document") {
    const int64_t T = 203, H = 4, G = 2, D = 16;
    const std::vector<int32_t> first = documents(1, T, 70);
    for (Dtype dtype : computable({Dtype::f32, Dtype::f64}))
        for (bool alibi : {false, true}) {
            AttentionCase x{.B = 1, .T = T, .S = T, .H = H, .G = G, .D = D, .normaliser = Normaliser::off_by_one};
            if (alibi) x.alibi = {0.5, 0.25, 0.125, 0.0625};
            x.span = {9, 40, 0, -1};
            fill(x, dtype);
            AttentionCase packed_case = x;
            packed_case.first_key = first;
            Context context(test_device(), 2);
            AttentionRun all(packed_case, dtype);
            all.forward(context);
            all.backward(context);
            AttentionRun each(x, dtype);
            for (int64_t begin = 0; begin < T;) {
                int64_t end = begin;
                while (end < T && first[static_cast<size_t>(end)] == begin) ++end;
                const auto of = [&](const TestTensor& tensor) { return tensor.tensor().slice(1, begin, end); };
                TestTensor lse(accumulation_dtype(dtype), {1, H, end - begin});
                const ops::AttentionInputs in{of(each.q), of(each.k), of(each.v), {}};
                ops::attention_forward(context, of(each.out), lse, in, each.params());
                ops::attention_backward(context, {of(each.d_q), of(each.d_k), of(each.d_v), {}, {}}, of(each.d_out),
                                        of(each.out), lse, in, each.params());
                begin = end;
            }
            const double tol = dtype == Dtype::f64 ? 1e-13 : 1e-5;
            check_error("out", all.out, each.out.get(), tol);
            check_error("d_q", all.d_q, each.d_q.get(), tol);
            check_error("d_k", all.d_k, each.d_k.get(), tol);
            check_error("d_v", all.d_v, each.d_v.get(), tol);
        }
}

TEST_CASE("attention rows: those of plain causal attention give its bits") {
    for (Dtype dtype : compute_dtypes())
        for (int64_t D : {24, 64}) {
            AttentionCase x{.B = 2, .T = 141, .S = 150, .H = 2, .G = 1, .D = D, .normaliser = Normaliser::sink_logit};
            x.query_start = 9;
            x.span = {31, -1};
            x.alibi = {0.25, 0.125};
            fill(x, dtype);
            AttentionCase rows = x;
            rows.query_position = counted(x.B, x.T, x.query_start);
            rows.first_key.assign(static_cast<size_t>(x.B * x.T), 0);
            rows.query_start = 7;  // nobody's
            for (AttentionKernels kernels : kernels_for(x, dtype)) {
                INFO(describe(x) << " in " << name_of(dtype) << " on " << name_of(kernels));
                CHECK(result_bytes(x, dtype, kernels) == result_bytes(rows, dtype, kernels));
            }
        }
}

TEST_CASE("attention rows: tiles of other documents are never touched") {
    // Two documents that meet where tiles of every kernel do. All of the first is NaN, and one product with it, even
    // of weight 0, would make NaN of the second.
    const int64_t T = 600, boundary = 384;
    for (Dtype dtype : compute_dtypes()) {
        AttentionCase x{.B = 1, .T = T, .S = T, .H = 1, .G = 1, .D = 64};
        fill(x, dtype);
        const auto row = static_cast<size_t>(x.D);
        for (int64_t t = 0; t < T; ++t) x.first_key.push_back(static_cast<int32_t>(t < boundary ? 0 : boundary));
        AttentionCase apart = x;
        for (Values* values : {&apart.q, &apart.k, &apart.v, &apart.d_out})
            std::fill_n(values->begin(), static_cast<size_t>(boundary) * row, std::numeric_limits<double>::quiet_NaN());
        for (AttentionKernels kernels : kernels_for(x, dtype)) {
            INFO(name_of(dtype) << " on " << name_of(kernels));
            Context context(test_device(), 2);
            context.set_attention_kernels(kernels);
            AttentionRun whole(x, dtype), run(apart, dtype);
            for (AttentionRun* r : {&whole, &run}) {
                r->forward(context);
                r->backward(context);
            }
            const auto second = [&](const TestTensor& tensor) {
                const Values values = tensor.get();
                return Values(values.begin() + boundary * x.D, values.end());
            };
            CHECK(std::isnan(run.out.at(0)));
            CHECK(second(run.out) == second(whole.out));
            CHECK(second(run.d_q) == second(whole.d_q));
            CHECK(second(run.d_k) == second(whole.d_k));
            CHECK(second(run.d_v) == second(whole.d_v));
        }
    }
}

TEST_CASE("attention rows: recorded decoding reads places that grow, each sequence its own") {
    for (Dtype dtype : computable({Dtype::f32, Dtype::bf16})) {
        AttentionCase x{.B = 3, .T = 1, .S = 150, .H = 4, .G = 2, .D = 64};
        x.query_position = {0, 0, 0};
        x.first_key = {0, 0, 0};
        fill(x, dtype);
        for (AttentionKernels kernels : kernels_for(x, dtype)) {
            INFO(name_of(dtype) << " on " << name_of(kernels));
            Context context(test_device(), 1);
            context.set_attention_kernels(kernels);
            AttentionRun run(x, dtype);
            Recording recording(context, [&] { run.forward(context); });
            for (int32_t step = 0; step < 5; ++step) {
                x.query_position = {step, 40 + 2 * step, 140 + step};
                x.first_key = {0, step, 100};
                context.copy_from_host(*run.query_position, x.query_position.data());
                context.copy_from_host(*run.first_key, x.first_key.data());
                recording.run();
                context.synchronise();
                const AttentionResult expected = reference_attention(x);
                check_error("out", run.out, expected.out, is_narrow(dtype) ? 1e-2 : 1e-5);
                check_error("lse", run.lse, expected.lse, 1e-5);
            }
        }
    }
}

TEST_CASE("attention rows: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes()) {
        AttentionCase x{.B = 2, .T = 130, .S = 130, .H = 4, .G = 2, .D = 24};
        x.sinks = x.key_start = 4;
        x.first_key = documents(x.B, x.T, 50);
        fill(x, dtype);
        check_thread_counts([&](Context& context) {
            AttentionRun run(x, dtype);
            run.forward(context);
            run.backward(context);
            return run.out.bytes() + run.lse.bytes() + run.d_q.bytes() + run.d_k.bytes() + run.d_v.bytes();
        });
    }
}

TEST_CASE("attention rows: rows that decrease, or of another shape, are InternalErrors") {
    AttentionCase x{.B = 2, .T = 3, .S = 3, .H = 1, .G = 1, .D = 8};
    fill(x, Dtype::f32);
    Context context(test_device(), 1);
    const auto refuses = [&](const AttentionCase& bad) {
        AttentionRun run(bad, Dtype::f32);
        CHECK_THROWS_AS(run.forward(context), InternalError);
        CHECK_THROWS_AS(run.backward(context), InternalError);
        CHECK_THROWS_AS(run.measure(context), InternalError);
    };
    if (context.device() == Device::cpu) {  // a GPU's rows are the GPU's
        AttentionCase bad = x;
        bad.first_key = {0, 1, 1, 0, 2, 1};
        refuses(bad);
        bad.first_key = {0, 1, 2, 0, 1, 1};  // from one sequence to the next they may
        AttentionRun run(bad, Dtype::f32);
        CHECK_NOTHROW(run.forward(context));
        bad = x;
        bad.query_position = {0, 2, 1, 0, 1, 2};
        refuses(bad);
    }
    AttentionRun run(x, Dtype::f32);
    const TestTensor narrow({2, 2}, std::vector<int32_t>(4, 0));
    ops::AttentionParams params = run.params();
    params.mask.first_key_BT = narrow;
    CHECK_THROWS_AS(ops::attention_forward(context, run.out, run.lse, run.inputs(), params), InternalError);
    params.mask.first_key_BT = {};
    params.mask.query_position_BT = narrow;
    CHECK_THROWS_AS(ops::attention_forward(context, run.out, run.lse, run.inputs(), params), InternalError);
}
