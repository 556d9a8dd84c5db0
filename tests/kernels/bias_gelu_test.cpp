#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr ops::Gelu kKinds[] = {ops::Gelu::tanh, ops::Gelu::erf};

struct GeluRun {
    GeluRun(Dtype dtype, int64_t N, int64_t F, double spread = 2.0)
        : acc(accumulation_dtype(dtype)),
          x(dtype, {N, F}, normal(N * F, "x", spread)),
          bias(dtype, {F}, normal(F, "bias")),
          d_out(dtype, {N, F}, normal(N * F, "d_out")),
          out(dtype, {N, F}),
          d_x(dtype, {N, F}),
          d_bias(acc, {F}, normal(F, "d_bias")) {}

    double u(int64_t i) const { return x.at(i) + bias.at(i % bias.tensor().dim(0)); }

    Dtype acc;
    TestTensor x, bias, d_out, out, d_x, d_bias;
};

}  // namespace

TEST_CASE("bias_gelu: both kinds against the oracle, odd shapes") {
    for (ops::Gelu kind : kKinds)
        for (Dtype dtype : compute_dtypes())
            for (int64_t F : {1, 7, 63, 65, 200})
                for (int64_t N : {1, 65}) {
                    GeluRun run(dtype, N, F);
                    INFO(run.x.tensor().describe());
                    Values out, d_x, d_bias = run.d_bias.get();
                    for (int64_t i = 0; i < N * F; ++i) {
                        out.push_back(reference_gelu(run.u(i), kind));
                        d_x.push_back(run.d_out.at(i) * reference_gelu_slope(run.u(i), kind));
                        d_bias[static_cast<size_t>(i % F)] += d_x.back();
                    }
                    Context context(test_device(), 2);
                    ops::bias_gelu_forward(context, run.out, run.x, run.bias, kind);
                    ops::bias_gelu_backward(context, run.d_x, run.d_bias, run.d_out, run.x, run.bias, kind);
                    check_close("out", run.out, out);
                    check_close("d_x", run.d_x, d_x);
                    check_error("d_bias", run.d_bias, d_bias, run.acc == Dtype::f64 ? 1e-12 : 2e-6);
                }
}

TEST_CASE("bias_gelu: every magnitude, element by element") {
    // From deep in one tail to deep in the other: no overflow, no NaN, absolute error at rounding level.
    for (ops::Gelu kind : kKinds)
        for (Dtype dtype : computable({Dtype::f32, Dtype::f64})) {
            Values points;
            for (double magnitude = 1e-6; magnitude < 1e4; magnitude *= 1.01) points.insert(points.end(), {magnitude, -magnitude});
            const auto count = static_cast<int64_t>(points.size());
            TestTensor x(dtype, {1, count}, points), bias(dtype, {count}, Values(points.size(), 0.0)), out(dtype, {1, count}),
                d_out(dtype, {1, count}, Values(points.size(), 1.0)), d_x(dtype, {1, count}),
                d_bias(dtype, {count}, Values(points.size(), 0.0));
            Context context(test_device(), 1);
            ops::bias_gelu_forward(context, out, x, bias, kind);
            ops::bias_gelu_backward(context, d_x, d_bias, d_out, x, bias, kind);
            const double tol = dtype == Dtype::f64 ? 5e-14 : 5e-6;
            double worst = 0, worst_slope = 0;
            for (int64_t i = 0; i < count; ++i) {
                const double u = x.at(i);
                worst = std::max(worst, std::abs(out.at(i) - reference_gelu(u, kind)) / std::max(1.0, std::abs(u)));
                worst_slope = std::max(worst_slope, std::abs(d_x.at(i) - reference_gelu_slope(u, kind)));
                if (!std::isfinite(out.at(i)) || !std::isfinite(d_x.at(i))) FAIL("not finite at " << u);
            }
            INFO("errors " << worst << " and " << worst_slope);
            CHECK(worst <= tol);
            CHECK(worst_slope <= tol);
        }
}

TEST_CASE("bias_gelu: in place, and NaN stays NaN") {
    for (ops::Gelu kind : kKinds) {
        GeluRun run(Dtype::f32, 9, 33), in_place(Dtype::f32, 9, 33);
        Context context(test_device(), 1);
        ops::bias_gelu_forward(context, run.out, run.x, run.bias, kind);
        ops::bias_gelu_backward(context, run.d_x, run.d_bias, run.d_out, run.x, run.bias, kind);
        ops::bias_gelu_backward(context, in_place.d_out, in_place.d_bias, in_place.d_out, in_place.x, in_place.bias, kind);
        ops::bias_gelu_forward(context, in_place.x, in_place.x, in_place.bias, kind);
        CHECK(in_place.x.bytes() == run.out.bytes());
        CHECK(in_place.d_out.bytes() == run.d_x.bytes());
        run.x.put(5, std::numeric_limits<double>::quiet_NaN());
        ops::bias_gelu_forward(context, run.out, run.x, run.bias, kind);
        CHECK(std::isnan(run.out.at(5)));
    }
}

TEST_CASE("bias_gelu: finite differences of x and bias", "[not_cuda]") {
    for (ops::Gelu kind : kKinds) {
        GeluRun run(Dtype::f64, 4, 9);
        Context context(test_device(), 1);
        const auto loss = [&] {
            ops::bias_gelu_forward(context, run.out, run.x, run.bias, kind);
            return dot(run.out.get(), run.d_out.get());
        };
        run.d_bias.set(Values(9, 0.0));
        ops::bias_gelu_backward(context, run.d_x, run.d_bias, run.d_out, run.x, run.bias, kind);
        check_gradient("x", run.x, run.d_x.get(), loss);
        check_gradient("bias", run.bias, run.d_bias.get(), loss);
    }
}

TEST_CASE("bias_gelu: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            GeluRun run(dtype, 300, 257);
            ops::bias_gelu_forward(context, run.out, run.x, run.bias, ops::Gelu::erf);
            ops::bias_gelu_backward(context, run.d_x, run.d_bias, run.d_out, run.x, run.bias, ops::Gelu::tanh);
            return run.out.bytes() + run.d_x.bytes() + run.d_bias.bytes();
        });
}
