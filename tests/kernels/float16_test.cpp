// What fp16 has of its own: a range that ends at 65504 and at 2^-24. (What it shares with the other dtypes is tested
// beside them: compute_dtypes().) The CPU has no kernels for it.
#include "tests/kernels/reference/attention.h"
#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

bool has_fp16() {
    if (test_device() == Device::cpu) WARN("skipped: the CPU has no fp16 kernels");
    return test_device() != Device::cpu;
}

/// n values of `size`: up in the first half, down in the second, so that their sum comes back from afar.
Values up_and_down(int64_t n, double size) {
    Values values(static_cast<size_t>(n), size);
    for (int64_t i = (n + 1) / 2; i < n; ++i) values[static_cast<size_t>(i)] = -size;
    return values;
}

}  // namespace

TEST_CASE("fp16 cast: every pattern to f32 and back") {
    if (!has_fp16()) return;
    Context context(test_device(), 1);
    TestTensor halves(Dtype::f16, {65536}), floats(Dtype::f32, {65536}), back(Dtype::f16, {65536});
    std::vector<uint16_t> patterns(65536), returned(65536);
    std::iota(patterns.begin(), patterns.end(), uint16_t{0});
    write_device(halves.tensor().data, patterns.data(), patterns.size() * sizeof(uint16_t));
    ops::cast(context, floats, halves);
    ops::cast(context, back, floats);
    read_device(returned.data(), back.tensor().data, returned.size() * sizeof(uint16_t));
    const Values expected = halves.get(), actual = floats.get(), again = back.get();
    for (size_t i = 0; i < 65536; ++i) {
        INFO("bits " << i);
        if (std::isnan(expected[i])) {
            if (!std::isnan(actual[i]) || !std::isnan(again[i])) FAIL();
        } else if (actual[i] != expected[i] || returned[i] != i) {
            FAIL();
        }
    }
}

TEST_CASE("fp16 cast: ties to even, subnormals, infinities and NaN, from f32") {
    if (!has_fp16()) return;
    const float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> values{0.0f,      -0.0f, 65504.0f, 65519.99f, 65520.0f,
                              -65520.0f, 1e30f, infinity, -infinity, 1e-45f};
    for (uint32_t bits = 0; bits < 0x7bff; bits += 31) {  // the whole table is tests/base/dtype_test.cpp's
        f16 low, high;
        low.bits = static_cast<uint16_t>(bits);
        high.bits = static_cast<uint16_t>(bits + 1);
        const float tie = (static_cast<float>(low) + static_cast<float>(high)) / 2;
        for (float x : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, infinity), -tie}) values.push_back(x);
    }
    const auto count = static_cast<int64_t>(values.size());
    Context context(test_device(), 1);
    TestTensor in(Dtype::f32, {count}, Values(values.begin(), values.end())), out(Dtype::f16, {count});
    ops::cast(context, out, in);
    std::vector<uint16_t> rounded_bits(values.size());
    read_device(rounded_bits.data(), out.tensor().data, rounded_bits.size() * sizeof(uint16_t));
    for (int64_t i = 0; i < count; ++i) {
        INFO(values[static_cast<size_t>(i)]);
        if (rounded_bits[static_cast<size_t>(i)] != f16(values[static_cast<size_t>(i)]).bits) FAIL();
    }
    in.poison();
    ops::cast(context, out, in);
    CHECK(std::isnan(out.at(0)));
    CHECK(std::isnan(out.at(count - 1)));
}

TEST_CASE("fp16 linear: products and sums go far beyond 65504 and come back") {
    if (!has_fp16()) return;
    const int64_t N = 5, I = 1001, O = 7;  // 64 * 64 * 500 is two millions
    Context context(test_device(), 1);
    TestTensor x(Dtype::f16, {N, I}, Values(N * I, 64.0)), weight(Dtype::f16, {O, I}),
        bias(Dtype::f16, {O}, normal(O, "bias")), out(Dtype::f16, {N, O});
    Values rows;
    for (int64_t o = 0; o < O; ++o) {
        const Values row = up_and_down(I, 64 * static_cast<double>(o - 3));
        rows.insert(rows.end(), row.begin(), row.end());
    }
    weight.set(rows);
    Values expected = reference_matmul(x.get(), false, weight.get(), true, N, O, I);
    const Values biases = bias.get();
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += biases[i % biases.size()];
    ops::linear_forward(context, out, x, {weight, bias});
    check_close("out", out, expected);

    // Gradients of parameters are f32: they may stay there.
    TestTensor d_out(Dtype::f16, {N, O}, Values(N * O, 60000.0)), d_x(Dtype::f16, {N, I}),
        d_weight(Dtype::f32, {O, I}, Values(O * I, 0.0)), d_bias(Dtype::f32, {O}, Values(O, 0.0));
    ops::linear_backward(context, d_x, d_weight, d_bias, d_out, x, weight);
    check_error("d_x", d_x, Values(N * I, 0.0), 0);  // the weights of a column cancel
    check_error("d_weight", d_weight, Values(O * I, N * 60000.0 * 64), 1e-6);
    check_error("d_bias", d_bias, Values(O, N * 60000.0), 1e-6);
}

TEST_CASE("fp16 linear: a result beyond 65504 is infinite, which the gradient norm finds") {
    if (!has_fp16()) return;
    Context context(test_device(), 1);
    TestTensor x(Dtype::f16, {1, 2}, {300.0, 1.0}), weight(Dtype::f16, {1, 2}, {300.0, 1.0}), out(Dtype::f16, {1, 1});
    ops::linear_forward(context, out, x, {weight, {}});
    CHECK(std::isinf(out.at(0)));
}

TEST_CASE("fp16 layernorm: sums and squares beyond 65504") {
    if (!has_fp16()) return;
    const int64_t N = 3, C = 777;
    Values values = normal(N * C, "x", 100.0);
    for (double& v : values) v += 30000;
    Context context(test_device(), 1);
    TestTensor x(Dtype::f16, {N, C}, values), weight(Dtype::f16, {C}, normal(C, "weight")),
        bias(Dtype::f16, {C}, normal(C, "bias")), d_out(Dtype::f16, {N, C}, normal(N * C, "d_out", 1000.0)),
        out(Dtype::f16, {N, C}), mean(Dtype::f32, {N}), rstd(Dtype::f32, {N}),
        d_x(Dtype::f16, {N, C}, Values(N * C, 0.0)), d_weight(Dtype::f32, {C}, Values(C, 0.0)),
        d_bias(Dtype::f32, {C}, Values(C, 0.0));
    const LayerNormResult expected = reference_layernorm(x.get(), weight.get(), bias.get(), d_out.get(), 1e-5);
    const ops::NormOutput output{out, weight, bias};
    const ops::NormGradient gradient{d_out, weight, d_weight, d_bias};
    ops::residual_norm_forward(context, {}, {&output, 1}, mean, rstd, x, {}, {}, 1e-5);
    ops::norm_backward(context, d_x, {&gradient, 1}, x, mean, rstd);
    check_close("out", out, expected.out);
    check_close("d_x", d_x, expected.d_x);
    check_error("d_weight", d_weight, expected.d_weight, 1e-4);
    check_error("d_bias", d_bias, expected.d_bias, 1e-5);
}

TEST_CASE("fp16 column sums and embedding gradients beyond 65504") {
    if (!has_fp16()) return;
    const int64_t N = 300, C = 33;
    Context context(test_device(), 1);
    TestTensor pre(Dtype::f16, {N, 1}, Values(N, 8.0)), weight(Dtype::f16, {C, 1}, Values(C, 0.0)),
        d_out(Dtype::f16, {N, C}, Values(N * C, 1000.0)), d_pre(Dtype::f16, {N, 1}),
        d_layer(Dtype::f32, {C, 1}, Values(C, 0.0)), d_bias(Dtype::f32, {C}, Values(C, 0.0));
    ops::gelu_linear_backward(context, d_pre, d_layer, d_bias, d_out, pre, pre, weight, ops::Gelu::erf);
    check_error("d_bias", d_bias, Values(C, N * 1000.0), 1e-6);

    TestTensor ids({N}, std::vector<int32_t>(N, 1)), d_weight(Dtype::f32, {2, C}, Values(2 * C, 0.0));
    ops::embedding_backward(context, d_weight, d_out, ids);
    Values expected(2 * C, 0.0);
    std::fill(expected.begin() + C, expected.end(), N * 1000.0);
    check_error("d_weight", d_weight, expected, 0);
}

TEST_CASE("fp16 attention: logits and sums of values beyond 65504") {
    if (!has_fp16()) return;
    const int64_t T = 130, D = 64;
    Context context(test_device(), 1);
    const Values far = up_and_down(D, 300.0);
    AttentionCase c{.B = 1, .T = T, .S = T, .H = 1, .G = 1, .D = D, .scale = 1.0 / 8};
    for (int64_t t = 0; t < T; ++t) {  // 300 * 300 * 32 is three millions, and cancels but for the last element
        c.q.insert(c.q.end(), D, 300.0);
        c.k.insert(c.k.end(), far.begin(), far.end());
        c.k.back() += static_cast<double>(t % 3) * 0.25;
    }
    c.q = rounded(Dtype::f16, c.q);
    c.k = rounded(Dtype::f16, c.k);
    c.v = rounded(Dtype::f16, normal(T * D, "v", 1000.0));
    for (double& v : c.v) v = rounded(Dtype::f16, v + 40000);
    TestTensor q(Dtype::f16, {1, T, 1, D}, c.q), k(Dtype::f16, {1, T, 1, D}, c.k), v(Dtype::f16, {1, T, 1, D}, c.v),
        out(Dtype::f16, {1, T, 1, D}), lse(Dtype::f32, {1, 1, T});
    ops::AttentionParams params;
    params.scale = c.scale;
    ops::attention_forward(context, out, lse, {q, k, v, {}}, params);
    const AttentionResult expected = reference_attention(c);
    check_error("out", out, expected.out, 2 * error(rounded(Dtype::f16, expected.out), expected.out) + 1e-5);
    check_error("lse", lse, expected.lse, 1e-5);
}

TEST_CASE("fp16 linear_cross_entropy: logits beyond 65504") {
    if (!has_fp16()) return;
    const int64_t N = 3, C = 2, V = 5;
    Context context(test_device(), 1);
    TestTensor x(Dtype::f16, {N, C}, Values(N * C, 300.0)), weight(Dtype::f16, {V, C}, Values(V * C, 300.0)),
        targets({N}, {0, 4, -1}), losses(Dtype::f32, {N}), d_x(Dtype::f16, {N, C}),
        d_weight(Dtype::f32, {V, C}, Values(V * C, 0.0));
    ops::linear_cross_entropy(context, losses, d_x, d_weight, x, {weight, {}}, targets, 1.0);
    check_error("losses", losses, {std::log(5.0), std::log(5.0), 0}, 1e-6);
    for (double d : d_weight.get()) CHECK(std::isfinite(d));
}
