// The influence of attention's entries against hiding them one by one, and what keys weigh against the weights.
#include "tests/kernels/attention_fixture.h"
#include "tests/kernels/reference/influence.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// E's sums for a case, added to ones, from the device's own forward pass.
struct InfluenceRun {
    InfluenceRun(const AttentionCase& x, Dtype dtype, int64_t block)
        : run(x, dtype),
          absolute(accumulation_dtype(dtype), shape(x, block), Values(count(x, block), 1.0)),
          signed_sum(accumulation_dtype(dtype), shape(x, block), Values(count(x, block), 1.0)),
          block_(block) {}
    void go(Context& context) {
        run.forward(context);
        ops::attention_influence(context, {absolute, signed_sum}, block_, run.d_out, run.out, run.lse, run.inputs(),
                                 run.params());
    }
    static std::vector<int64_t> shape(const AttentionCase& x, int64_t block) {
        return {x.B, x.H, (x.T + block - 1) / block, (x.S + block - 1) / block};
    }
    static size_t count(const AttentionCase& x, int64_t block) {
        const auto dims = shape(x, block);
        return static_cast<size_t>(dims[0] * dims[1] * dims[2] * dims[3]);
    }

    AttentionRun run;
    TestTensor absolute, signed_sum;

  private:
    int64_t block_;
};

/// `values` with `more` added to each.
Values plus(Values values, double more) {
    for (double& value : values) value += more;
    return values;
}

/// Against the oracle. Narrow types have a D of the rounded out, which the oracle is given.
void check_influence(AttentionCase x, Dtype dtype, int64_t block) {
    // Row 0 has P' = 1 - exp(z - LSE'): at z = -10 the difference D - g that this divides is one of 5 digits more.
    if (x.normaliser == Normaliser::sink_logit) x.sink_logit = Values{-2, 0.5, 3, 10};
    x.sink_logit.resize(std::min(x.sink_logit.size(), static_cast<size_t>(x.H)));
    fill(x, dtype);
    Context context(test_device(), 2);
    InfluenceRun run(x, dtype, block);
    run.go(context);
    const AttentionResult attention = reference_attention(x);
    Values change = reference_influence(x, attention.logits);
    if (is_narrow(dtype)) {
        const Values out = run.run.out.get();
        for (int64_t row = 0; row < x.B * x.H * x.T; ++row) {
            const int64_t b = row / x.T / x.H, h = row / x.T % x.H, t = row % x.T;
            double off = 0;  // D of the rounded out less D
            for (int64_t d = 0; d < x.D; ++d)
                off += x.d_out[x.q_at(b, t, h, d)] * (out[x.q_at(b, t, h, d)] - attention.out[x.q_at(b, t, h, d)]);
            int64_t seen = 0;
            for (int64_t c = 0; c < x.S; ++c) seen += x.visible(b, h, t, c);
            if (seen == 1 && std::isinf(x.z(h))) continue;
            for (int64_t c = 0; c < x.S; ++c) {
                const double p = attention.weights[static_cast<size_t>(row * x.S + c)];
                change[static_cast<size_t>(row * x.S + c)] += p / (1 - p) * off;
            }
        }
    }
    INFO(describe(x) << " block " << block << " in " << name_of(dtype));
    check_error("signed", run.signed_sum, plus(tile_sums(x, change, block, [](double e) { return e; }), 1),
                dtype == Dtype::f64 ? 1e-11 : 2e-4);
    check_error("absolute", run.absolute, plus(tile_sums(x, change, block, [](double e) { return std::abs(e); }), 1),
                dtype == Dtype::f64 ? 1e-11 : 2e-4);
}

}  // namespace

TEST_CASE("attention influence: every entry is what hiding it and renormalising its row changes a linear loss by") {
    const int64_t T = test_device() == Device::cpu ? 13 : 7;  // the executor takes its time
    for (const AttentionCase& x : attention_variants({.T = T, .S = T, .D = 8}))
        for (Dtype dtype : compute_dtypes()) check_influence(x, dtype, 1);
}

TEST_CASE("attention influence: sums over blocks, in chunks and under masks by row") {
    for (Dtype dtype : compute_dtypes()) {
        for (int64_t block : {5, 64, 100}) {
            AttentionCase x{.T = 133, .S = 133, .H = 2, .G = 1, .D = 33, .normaliser = Normaliser::sink_logit};
            x.span = {40, -1};
            x.sinks = x.key_start = 3;
            check_influence(x, dtype, block);
        }
        AttentionCase chunk{.T = 9, .S = 80, .H = 1, .G = 1, .D = 16};
        chunk.sinks = 4, chunk.key_start = 20, chunk.query_start = 87;
        check_influence(chunk, dtype, 32);
        AttentionCase documents{.T = 6, .S = 6, .H = 1, .G = 1, .D = 8};
        documents.first_key = {0, 0, 0, 3, 3, 5};
        check_influence(documents, dtype, 2);
    }
}

TEST_CASE("attention influence: a key that takes nearly all gives finite numbers") {
    AttentionCase x{.T = 4, .S = 4, .H = 1, .G = 1, .D = 4};
    fill(x, Dtype::f32, 30);
    Context context(test_device(), 1);
    InfluenceRun run(x, Dtype::f32, 1);
    run.go(context);
    for (double e : run.absolute.get()) REQUIRE(std::isfinite(e));
}

TEST_CASE("attention influence and key mass: the same bits for any number of threads, and one of two sums alone") {
    AttentionCase x{.B = 2, .T = 150, .S = 150, .H = 4, .G = 2, .D = 32, .normaliser = Normaliser::off_by_one};
    fill(x, Dtype::f32);
    check_thread_counts([&](Context& context) {
        InfluenceRun run(x, Dtype::f32, 64), alone(x, Dtype::f32, 64);
        run.go(context);
        TestTensor mass(Dtype::f32, {x.B, x.H, x.S}, Values(static_cast<size_t>(x.B * x.H * x.S), 0.0));
        ops::attention_key_mass(context, mass, run.run.lse, run.run.inputs(), run.run.params());
        ops::attention_influence(context, {alone.absolute, {}}, 64, run.run.d_out, run.run.out, run.run.lse,
                                 run.run.inputs(), run.run.params());
        CHECK(alone.absolute.bytes() == run.absolute.bytes());
        return run.absolute.bytes() + run.signed_sum.bytes() + mass.bytes();
    });
}

TEST_CASE("attention key mass: the weights summed over queries") {
    std::vector<AttentionCase> cases = attention_variants({.B = 2, .T = 70, .S = 70, .D = 20});
    AttentionCase chunk{.T = 9, .S = 80, .H = 2, .G = 1, .D = 64};
    chunk.sinks = 4, chunk.key_start = 20, chunk.query_start = 87, chunk.span = {30, -1};
    cases.push_back(chunk);
    for (AttentionCase& x : cases)
        for (Dtype dtype : compute_dtypes()) {
            fill(x, dtype);
            AttentionRun run(x, dtype);
            Context context(test_device(), 2);
            run.forward(context);
            const AttentionResult expected = reference_attention(x);
            Values sums(static_cast<size_t>(x.B * x.H * x.S), 2.0);
            const TestTensor mass(accumulation_dtype(dtype), {x.B, x.H, x.S}, sums);
            ops::attention_key_mass(context, mass, run.lse, run.inputs(), run.params());
            for (size_t i = 0; i < expected.weights.size(); ++i) {
                const size_t bht = i / static_cast<size_t>(x.S), c = i % static_cast<size_t>(x.S);
                sums[bht / static_cast<size_t>(x.T) * static_cast<size_t>(x.S) + c] += expected.weights[i];
            }
            INFO(describe(x) << " in " << name_of(dtype));
            check_close("mass", mass, sums, 1e-5);
        }
}
