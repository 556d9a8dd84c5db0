#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr double kRmsEps = 1e-5;

/// y = x, or y = x + b, and its RMSNorm.
struct RmsNormRun {
    RmsNormRun(Dtype dtype, int64_t N, int64_t C, bool adds)
        : acc(accumulation_dtype(dtype)),
          add(adds),
          x(dtype, {N, C}),
          b(dtype, {N, C}, normal(N * C, "b")),
          y(dtype, {N, C}),
          weight(dtype, {C}, normal(C, "weight")),
          d_out(dtype, {N, C}, normal(N * C, "d_out")),
          out(dtype, {N, C}),
          d_x(dtype, {N, C}, normal(N * C, "d_x")),
          rstd_N(acc, {N}),
          d_weight(acc, {C}, normal(C, "d_weight")) {
        Values values = normal(N * C, "x");
        for (double& v : values) v += 0.5;  // a mean, which must stay in
        x.set(values);
    }
    const TestTensor& stream() const { return add ? y : x; }
    void forward(Context& context) {
        const Tensor absent;
        const ops::NormOutput norm{out, weight, absent};
        ops::residual_norm_forward(context, add ? y.tensor() : absent, {&norm, 1}, absent, rstd_N, x,
                                   add ? b.tensor() : absent, absent, kRmsEps);
    }
    void backward(Context& context) {
        const ops::NormGradient norm{d_out, weight, d_weight, {}};
        ops::norm_backward(context, d_x, {&norm, 1}, stream(), {}, rstd_N);
    }

    Dtype acc;
    bool add;
    TestTensor x, b, y, weight, d_out, out, d_x, rstd_N, d_weight;
};

}  // namespace

TEST_CASE("rmsnorm: against the oracle, odd shapes, with and without a sum") {
    for (Dtype dtype : compute_dtypes())
        for (const auto& [N, C] :
             {std::pair<int64_t, int64_t>{1, 1}, {7, 7}, {65, 63}, {7, 65}, {65, 128}, {7, 1000}, {3, 2056}})
            for (const bool add : {false, true}) {
                RmsNormRun run(dtype, N, C, add);
                INFO(run.x.tensor().describe() << (add ? ", added" : ""));
                Context context(test_device(), 2);
                run.forward(context);
                if (add) {
                    Values y = run.x.get();
                    for (size_t i = 0; i < y.size(); ++i) y[i] += run.b.at(static_cast<int64_t>(i));
                    check_close("y", run.y, y);
                }
                const RmsNormResult expected =
                    reference_rmsnorm(run.stream().get(), run.weight.get(), run.d_out.get(), kRmsEps);
                Values d_x = run.d_x.get(), d_weight = run.d_weight.get();
                for (size_t i = 0; i < d_x.size(); ++i) d_x[i] += expected.d_x[i];
                for (size_t i = 0; i < d_weight.size(); ++i) d_weight[i] += expected.d_weight[i];
                run.backward(context);
                check_close("out", run.out, expected.out);
                check_error("rstd", run.rstd_N, expected.rstd, run.acc == Dtype::f64 ? 1e-12 : 1e-6);
                // With one channel the gradient cancels; what is left is rounding times rstd.
                check_close("d_x", run.d_x, d_x, C == 1 ? 1e-4 : 2e-6, C == 1 ? 1e-11 : 1e-12);
                check_error("d_weight", run.d_weight, d_weight, run.acc == Dtype::f64 ? 1e-12 : 3e-6);
            }
}

TEST_CASE("rmsnorm: finite differences of both terms and weight", "[not_cuda]") {
    for (const int64_t C : {17, 18}) {
        RmsNormRun run(Dtype::f64, 5, C, true);
        Context context(test_device(), 1);
        const auto loss = [&] {
            run.forward(context);
            return dot(run.out.get(), run.d_out.get());
        };
        loss();
        run.d_x.set(Values(static_cast<size_t>(5 * C), 0.0));
        run.d_weight.set(Values(static_cast<size_t>(C), 0.0));
        run.backward(context);
        check_gradient("x", run.x, run.d_x.get(), loss);
        check_gradient("b", run.b, run.d_x.get(), loss);
        check_gradient("weight", run.weight, run.d_weight.get(), loss);
    }
}

TEST_CASE("rmsnorm: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            RmsNormRun run(dtype, 200, 129, true);
            run.forward(context);
            run.backward(context);
            return run.y.bytes() + run.out.bytes() + run.d_x.bytes() + run.d_weight.bytes();
        });
}
