#include <array>

#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

struct LinearRun {
    LinearRun(Dtype dtype, int64_t N, int64_t I, int64_t O, bool wide_output = false)
        : acc(accumulation_dtype(dtype)),
          x(dtype, {N, I}, normal(N * I, "x")),
          weight(dtype, {O, I}, normal(O * I, "weight")),
          bias(dtype, {O}, normal(O, "bias")),
          out(wide_output ? acc : dtype, {N, O}),
          d_out(wide_output ? acc : dtype, {N, O}, normal(N * O, "d_out")),
          d_x(dtype, {N, I}),
          d_weight(acc, {O, I}, normal(O * I, "d_weight")),
          d_bias(acc, {O}, normal(O, "d_bias")) {}
    void forward(Context& context) { ops::linear_forward(context, out, x, {weight, bias}); }
    void backward(Context& context) { ops::linear_backward(context, d_x, d_weight, d_bias, d_out, x, weight); }

    Dtype acc;
    TestTensor x, weight, bias, out, d_out, d_x, d_weight, d_bias;
};

void check_linear(LinearRun& run, Context& context) {
    const int64_t N = run.x.tensor().dim(0), I = run.x.tensor().dim(1), O = run.weight.tensor().dim(0);
    INFO(run.x.tensor().describe() << " to " << O << ", out " << run.out.tensor().describe());
    Values out = reference_matmul(run.x.get(), false, run.weight.get(), true, N, O, I);
    const Values bias = run.bias.get(), d_weight_before = run.d_weight.get(), d_out_as_is = run.d_out.get();
    for (size_t i = 0; i < out.size(); ++i) out[i] += bias[i % bias.size()];
    // The products read a gradient that is wider than they are in their own dtype.
    const Values d_out = rounded(ops::product_dtype(context, run.x.tensor().dtype), d_out_as_is);
    const Values d_x = reference_matmul(d_out, false, run.weight.get(), false, N, I, O);
    Values d_weight = reference_matmul(d_out, true, run.x.get(), false, O, I, N);
    for (size_t i = 0; i < d_weight.size(); ++i) d_weight[i] += d_weight_before[i];
    Values d_bias = run.d_bias.get();
    for (size_t i = 0; i < d_out_as_is.size(); ++i) d_bias[i % d_bias.size()] += d_out_as_is[i];
    run.forward(context);
    run.backward(context);
    check_close("out", run.out, out);
    check_close("d_x", run.d_x, d_x);
    check_error("d_weight", run.d_weight, d_weight, run.acc == Dtype::f64 ? 1e-12 : 2e-6);
    check_error("d_bias", run.d_bias, d_bias, run.acc == Dtype::f64 ? 1e-12 : 1e-5);  // sums may cancel
}

}  // namespace

TEST_CASE("linear: against the oracle, odd shapes, both GEMMs") {
    const int64_t shapes[][3] = {{1, 1, 1},      {1, 64, 50},   {7, 33, 65},   {63, 128, 1}, {65, 7, 129},
                                 {200, 300, 97}, {41, 63, 169}, {1000, 63, 64}};  // 63: see kernels/cpu/onednn.cpp
    for (Gemm gemm : {Gemm::automatic, Gemm::reference}) {
        Context context(test_device(), 2, gemm);
        for (Dtype dtype : compute_dtypes())
            for (const auto& [N, I, O] : shapes) {
                LinearRun run(dtype, N, I, O);
                check_linear(run, context);
            }
        for (Dtype dtype : compute_dtypes()) {
            if (!is_narrow(dtype)) continue;
            LinearRun wide(dtype, 65, 33, 47, true);
            check_linear(wide, context);
        }
    }
}

TEST_CASE("linear: absent bias and gradients are skipped") {
    LinearRun run(Dtype::f32, 5, 8, 9);
    Context context(test_device(), 1);
    ops::linear_forward(context, run.out, run.x, {run.weight, {}});
    check_close("out", run.out, reference_matmul(run.x.get(), false, run.weight.get(), true, 5, 9, 8));
    ops::linear_backward(context, {}, run.d_weight, {}, run.d_out, run.x, run.weight);
    CHECK(std::isnan(run.d_x.at(0)));
}

TEST_CASE("linear: without a bias, the bits of a bias that is 0, and no gradient of its") {
    for (Gemm gemm : {Gemm::automatic, Gemm::reference})
        for (Dtype dtype : compute_dtypes())
            for (bool wide : {false, true})
                for (const auto& [N, I, O] : {std::array<int64_t, 3>{1, 64, 48}, {7, 33, 65}, {65, 40, 128}}) {
                    if (wide && !is_narrow(dtype)) continue;
                    Context context(test_device(), 2, gemm);
                    LinearRun with(dtype, N, I, O, wide), without(dtype, N, I, O, wide);
                    INFO(with.x.tensor().describe() << " to " << O << ", out " << with.out.tensor().describe());
                    const std::string untouched = without.d_bias.bytes();
                    with.bias.set(Values(static_cast<size_t>(O), 0.0));
                    with.forward(context);
                    with.backward(context);
                    ops::linear_forward(context, without.out, without.x, {without.weight, {}});
                    ops::linear_backward(context, without.d_x, without.d_weight, {}, without.d_out, without.x,
                                         without.weight);
                    check_error("out", without.out, with.out.get(), 0);
                    check_error("d_x", without.d_x, with.d_x.get(), 0);
                    check_error("d_weight", without.d_weight, with.d_weight.get(), 0);
                    CHECK(without.d_bias.bytes() == untouched);
                }
}

TEST_CASE("linear: finite differences of x, weight and bias", "[not_cuda]") {
    LinearRun run(Dtype::f64, 5, 6, 7);
    Context context(test_device(), 1);
    const auto loss = [&] {
        run.forward(context);
        return dot(run.out.get(), run.d_out.get());
    };
    run.d_weight.set(Values(42, 0.0));
    run.d_bias.set(Values(7, 0.0));
    run.backward(context);
    check_gradient("x", run.x, run.d_x.get(), loss);
    check_gradient("weight", run.weight, run.d_weight.get(), loss);
    check_gradient("bias", run.bias, run.d_bias.get(), loss);
}

TEST_CASE("linear: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            LinearRun run(dtype, 515, 130, 190);
            run.forward(context);
            run.backward(context);
            return run.out.bytes() + run.d_x.bytes() + run.d_weight.bytes() + run.d_bias.bytes();
        });
}

TEST_CASE("linear: the reference GEMM is one fused chain in the order of k", "[not_cuda]") {
    // This is what golden values rest on: the same as a scalar loop with std::fma, bit for bit.
    const int64_t N = 13, I = 300, O = 37;
    LinearRun run(Dtype::f32, N, I, O);
    Context context(test_device(), 2, Gemm::reference);
    run.forward(context);
    const Values x = run.x.get(), weight = run.weight.get(), bias = run.bias.get(), out = run.out.get();
    const auto value = [](const Values& of, int64_t i) { return static_cast<float>(of[static_cast<size_t>(i)]); };
    int64_t different = 0;
    for (int64_t n = 0; n < N; ++n)
        for (int64_t o = 0; o < O; ++o) {
            float sum = value(bias, o);
            for (int64_t i = 0; i < I; ++i) sum = std::fma(value(x, n * I + i), value(weight, o * I + i), sum);
            if (value(out, n * O + o) != sum) ++different;
        }
    CHECK(different == 0);
}
