// What a shorter span does to a linear loss, against hiding and renormalising in double.
#include "tests/kernels/attention_fixture.h"
#include "tests/kernels/reference/influence.h"

using namespace ballast;
using namespace ballast::test;

namespace {

struct Spans {
    int64_t block, sinks, count;
};

/// The effects of a case, added to ones, from the device's own forward pass.
struct SpanEffectRun {
    SpanEffectRun(const AttentionCase& x, Dtype dtype, const Spans& spans)
        : run(x, dtype),
          effect(accumulation_dtype(dtype), {x.B, x.H, spans.count},
                 Values(static_cast<size_t>(x.B * x.H * spans.count), 1.0)),
          spans_(spans) {}
    void go(Context& context) {
        run.forward(context);
        ops::attention_span_effect(context, effect, spans_.block, spans_.sinks, run.d_out, run.out, run.lse,
                                   run.inputs(), run.params());
    }

    AttentionRun run;
    TestTensor effect;

  private:
    Spans spans_;
};

/// Narrow types have a D of the rounded out: what that adds to each effect.
void add_rounding(Values& effect, const AttentionCase& x, const AttentionResult& attention, const Values& out,
                  const Spans& spans) {
    for (int64_t row = 0; row < x.B * x.H * x.T; ++row) {
        const int64_t b = row / x.T / x.H, h = row / x.T % x.H, t = row % x.T;
        double off = 0;
        for (int64_t d = 0; d < x.D; ++d)
            off += x.d_out[x.q_at(b, t, h, d)] * (out[x.q_at(b, t, h, d)] - attention.out[x.q_at(b, t, h, d)]);
        for (int64_t m = 1; m <= spans.count; ++m) {
            double hidden = 0;
            for (int64_t c = 0; c < x.S; ++c)
                if (x.key_position(c) >= spans.sinks && x.position(b, t) - x.key_position(c) >= m * spans.block)
                    hidden += attention.weights[static_cast<size_t>(row * x.S + c)];
            effect[static_cast<size_t>((b * x.H + h) * spans.count + m - 1)] += off * hidden / (1 - hidden);
        }
    }
}

void check_span_effect(AttentionCase x, Dtype dtype, const Spans& spans) {
    x.sink_logit.resize(std::min(x.sink_logit.size(), static_cast<size_t>(x.H)));
    fill(x, dtype);
    Context context(test_device(), 2);
    SpanEffectRun run(x, dtype, spans);
    run.go(context);
    const AttentionResult attention = reference_attention(x);
    Values expected = reference_span_effect(x, attention.logits, spans.block, spans.sinks, spans.count);
    if (is_narrow(dtype)) add_rounding(expected, x, attention, run.run.out.get(), spans);
    for (double& value : expected) value += 1;
    INFO(describe(x) << " block " << spans.block << " sinks " << spans.sinks << " in " << name_of(dtype));
    check_error("effect", run.effect, expected, dtype == Dtype::f64 ? 1e-11 : 2e-4);
}

}  // namespace

TEST_CASE("attention span effect: what hiding all beyond a span and renormalising the row changes a linear loss by") {
    const int64_t T = test_device() == Device::cpu ? 13 : 7;  // the executor takes its time
    for (const AttentionCase& x : attention_variants({.T = T, .S = T, .D = 8}))
        for (Dtype dtype : compute_dtypes())
            for (const Spans& spans : {Spans{1, 0, T + 2}, Spans{3, 2, 3}}) check_span_effect(x, dtype, spans);
}

TEST_CASE("attention span effect: over many tiles, in chunks and under masks by row") {
    for (Dtype dtype : compute_dtypes()) {
        for (const Spans& spans : {Spans{5, 7, 12}, Spans{16, 16, 8}, Spans{64, 0, 3}}) {
            AttentionCase x{.T = 133, .S = 133, .H = 2, .G = 1, .D = 33, .normaliser = Normaliser::sink_logit};
            x.sink_logit = {0.5, 4};
            x.span = {90, -1};
            x.sinks = x.key_start = 3;
            check_span_effect(x, dtype, spans);
        }
        AttentionCase chunk{.T = 9, .S = 80, .H = 1, .G = 1, .D = 16};
        chunk.sinks = 4, chunk.key_start = 20, chunk.query_start = 87;
        check_span_effect(chunk, dtype, {8, 4, 9});
        AttentionCase documents{.T = 6, .S = 6, .H = 1, .G = 1, .D = 8};
        documents.first_key = {0, 0, 0, 3, 3, 5};
        check_span_effect(documents, dtype, {1, 1, 4});
        documents.first_key = {0, 0, 0, 3, 3, 9};  // the last row sees nothing, as padding does
        check_span_effect(documents, dtype, {1, 1, 4});
    }
}

TEST_CASE("attention span effect: where next to nothing stays the numbers are finite") {
    AttentionCase x{.T = 9, .S = 9, .H = 1, .G = 1, .D = 4};
    fill(x, Dtype::f32, 30);
    Context context(test_device(), 1);
    SpanEffectRun run(x, Dtype::f32, {1, 0, 8});
    run.go(context);
    for (double effect : run.effect.get()) REQUIRE(std::isfinite(effect));
}

TEST_CASE("attention span effect: the same bits for any number of threads") {
    AttentionCase x{.B = 2, .T = 150, .S = 150, .H = 4, .G = 2, .D = 32, .normaliser = Normaliser::off_by_one};
    fill(x, Dtype::f32);
    check_thread_counts([&](Context& context) {
        SpanEffectRun run(x, Dtype::f32, {16, 16, 9});
        run.go(context);
        return run.effect.bytes();
    });
}
