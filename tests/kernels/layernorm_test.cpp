#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr double kEps = 1e-5;

struct LayerNormRun {
    LayerNormRun(Dtype dtype, int64_t N, int64_t C, double mean = 0.5)
        : acc(accumulation_dtype(dtype)),
          x(dtype, {N, C}),
          weight(dtype, {C}, normal(C, "weight")),
          bias(dtype, {C}, normal(C, "bias")),
          d_out(dtype, {N, C}, normal(N * C, "d_out")),
          out(dtype, {N, C}),
          d_x(dtype, {N, C}, normal(N * C, "d_x")),
          mean_N(acc, {N}),
          rstd_N(acc, {N}),
          d_weight(acc, {C}, normal(C, "d_weight")),
          d_bias(acc, {C}, normal(C, "d_bias")) {
        Values values = normal(N * C, "x");
        for (double& v : values) v += mean;
        x.set(values);
    }
    void forward(Context& context) { ops::layernorm_forward(context, out, mean_N, rstd_N, x, weight, bias, kEps); }
    void backward(Context& context) {
        ops::layernorm_backward(context, d_x, d_weight, d_bias, d_out, x, weight, mean_N, rstd_N);
    }
    LayerNormResult reference() const { return reference_layernorm(x.get(), weight.get(), bias.get(), d_out.get(), kEps); }

    Dtype acc;
    TestTensor x, weight, bias, d_out, out, d_x, mean_N, rstd_N, d_weight, d_bias;
};

Values sum(Values a, const Values& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
}

}  // namespace

TEST_CASE("layernorm: against the oracle, odd shapes") {
    for (Dtype dtype : compute_dtypes())
        for (int64_t C : {1, 7, 63, 65, 128, 768, 1000})
            for (int64_t N : {1, 65, 300}) {
                LayerNormRun run(dtype, N, C);
                INFO(run.x.tensor().describe());
                const LayerNormResult expected = run.reference();
                const Values d_x = sum(run.d_x.get(), expected.d_x), d_weight = sum(run.d_weight.get(), expected.d_weight),
                             d_bias = sum(run.d_bias.get(), expected.d_bias);
                Context context(test_device(), 2);
                run.forward(context);
                run.backward(context);
                check_close("out", run.out, expected.out);
                check_error("mean", run.mean_N, expected.mean, run.acc == Dtype::f64 ? 1e-12 : 1e-6);
                check_error("rstd", run.rstd_N, expected.rstd, run.acc == Dtype::f64 ? 1e-12 : 1e-6);
                // With one channel every gradient cancels; what is left is rounding times rstd = 316.
                check_close("d_x", run.d_x, d_x, C == 1 ? 1e-4 : 2e-6, 1e-12);
                check_error("d_weight", run.d_weight, d_weight, run.acc == Dtype::f64 ? 1e-12 : 3e-6);
                check_error("d_bias", run.d_bias, d_bias, run.acc == Dtype::f64 ? 1e-12 : 3e-6);
            }
}

TEST_CASE("layernorm: a large mean costs no digits of the variance") {
    LayerNormRun run(Dtype::f32, 5, 512, 1000.0);
    Context context(test_device(), 1);
    run.forward(context);
    check_error("rstd", run.rstd_N, run.reference().rstd, 1e-5);
}

TEST_CASE("layernorm: finite differences of x, weight and bias", "[not_cuda]") {
    LayerNormRun run(Dtype::f64, 5, 17);
    Context context(test_device(), 1);
    const auto loss = [&] {
        run.forward(context);
        return dot(run.out.get(), run.d_out.get());
    };
    loss();
    run.d_x.set(Values(5 * 17, 0.0));
    run.d_weight.set(Values(17, 0.0));
    run.d_bias.set(Values(17, 0.0));
    run.backward(context);
    check_gradient("x", run.x, run.d_x.get(), loss);
    check_gradient("weight", run.weight, run.d_weight.get(), loss);
    check_gradient("bias", run.bias, run.d_bias.get(), loss);
}

TEST_CASE("layernorm: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            LayerNormRun run(dtype, 1000, 129);
            run.forward(context);
            run.backward(context);
            return run.out.bytes() + run.d_x.bytes() + run.d_weight.bytes() + run.d_bias.bytes();
        });
}
