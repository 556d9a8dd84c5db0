#include "base/larger_or_nan.h"
#include "kernels/recording.h"
#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr ops::Gelu kKinds[] = {ops::Gelu::tanh, ops::Gelu::erf};

/// The MLP's two layers: I inputs, F features, O outputs.
struct MlpRun {
    MlpRun(Dtype dtype, int64_t N, int64_t I, int64_t F, int64_t O)
        : acc(accumulation_dtype(dtype)),
          x(dtype, {N, I}, normal(N * I, "x")),
          up(dtype, {F, I}, normal(F * I, "up", 1.5 / std::sqrt(static_cast<double>(I)))),
          up_bias(dtype, {F}, normal(F, "up_bias")),
          pre(dtype, {N, F}),
          hidden(dtype, {N, F}),
          down(dtype, {O, F}, normal(O * F, "down")),
          d_out(dtype, {N, O}, normal(N * O, "d_out")),
          d_pre(dtype, {N, F}),
          d_down(acc, {O, F}, normal(O * F, "d_down")),
          d_bias(acc, {O}, normal(O, "d_bias")) {}
    void forward(Context& context, ops::Gelu kind) {
        ops::linear_gelu_forward(context, hidden, pre, x, {up, up_bias}, kind);
    }
    void backward(Context& context, ops::Gelu kind) {
        ops::gelu_linear_backward(context, d_pre, d_down, d_bias, d_out, hidden, pre, down, kind);
    }

    Dtype acc;
    TestTensor x, up, up_bias, pre, hidden, down, d_out, d_pre, d_down, d_bias;
};

/// u = x up^T + up_bias.
Values reference_pre(const MlpRun& run) {
    const int64_t N = run.x.tensor().dim(0), I = run.x.tensor().dim(1), F = run.up.tensor().dim(0);
    Values u = reference_matmul(run.x.get(), false, run.up.get(), true, N, F, I);
    const Values bias = run.up_bias.get();
    for (size_t i = 0; i < u.size(); ++i) u[i] += bias[i % bias.size()];
    return u;
}

/// Twice the error of a naive computation in x's dtype.
double tolerance_of(const MlpRun& run, const Values& naive, const Values& reference) {
    return is_narrow(run.x.tensor().dtype) ? 2 * error(naive, reference) + 1e-12 : tolerance(run.acc, reference);
}

void check_mlp(MlpRun& run, Context& context, ops::Gelu kind) {
    const Dtype dtype = run.x.tensor().dtype;
    const int64_t N = run.x.tensor().dim(0), F = run.up.tensor().dim(0), O = run.down.tensor().dim(0);
    const Values pre = reference_pre(run);
    Values hidden, naive;
    for (double u : pre) {
        hidden.push_back(reference_gelu(u, kind));
        naive.push_back(rounded(dtype, reference_gelu(rounded(dtype, u), kind)));
    }
    run.forward(context, kind);
    check_close("pre", run.pre, pre);
    check_error("hidden", run.hidden, hidden, tolerance_of(run, naive, hidden));

    // The oracle of the backward pass reads what the op reads: u and gelu(u) as they were stored.
    const Values d_out = run.d_out.get(), u = run.pre.get();
    Values d_pre = reference_matmul(d_out, false, run.down.get(), false, N, F, O), d_bias = run.d_bias.get();
    Values d_down = reference_matmul(d_out, true, run.hidden.get(), false, O, F, N);
    for (size_t i = 0; i < u.size(); ++i) {
        const double slope = reference_gelu_slope(u[i], kind);
        naive[i] = rounded(dtype, rounded(dtype, d_pre[i]) * slope);
        d_pre[i] *= slope;
    }
    const Values d_down_before = run.d_down.get();
    for (size_t i = 0; i < d_down.size(); ++i) d_down[i] += d_down_before[i];
    for (size_t i = 0; i < d_out.size(); ++i) d_bias[i % d_bias.size()] += d_out[i];
    run.backward(context, kind);
    check_error("d_pre", run.d_pre, d_pre, tolerance_of(run, naive, d_pre));
    check_error("d_down", run.d_down, d_down, run.acc == Dtype::f64 ? 1e-12 : 2e-6);
    check_error("d_bias", run.d_bias, d_bias, run.acc == Dtype::f64 ? 1e-12 : 1e-5);
}

}  // namespace

TEST_CASE("linear_gelu: both kinds against the oracle, odd shapes, both GEMMs") {
    // F a multiple of 8 takes the GPU library's epilogues, the rest our kernels.
    const int64_t shapes[][4] = {{1, 1, 1, 1}, {7, 33, 65, 9}, {63, 20, 200, 31}, {65, 63, 8, 1}, {130, 17, 1000, 7}};
    for (Gemm gemm : {Gemm::automatic, Gemm::reference}) {
        Context context(test_device(), 2, gemm);
        for (ops::Gelu kind : kKinds)
            for (Dtype dtype : compute_dtypes())
                for (const auto& [N, I, F, O] : shapes) {
                    MlpRun run(dtype, N, I, F, O);
                    INFO(run.x.tensor().describe()
                         << " to " << F << " to " << O << ", kind " << static_cast<int>(kind));
                    check_mlp(run, context, kind);
                }
    }
}

TEST_CASE("linear_gelu: every magnitude, element by element") {
    // From deep in one tail to deep in the other: no overflow, no NaN, absolute error at rounding level. u is x itself.
    Values points;
    for (double magnitude = 1e-6; magnitude < 1e4; magnitude *= 1.01)
        points.insert(points.end(), {magnitude, -magnitude});
    const auto N = static_cast<int64_t>(points.size());
    for (const int64_t F : {1, 8})  // our kernels, the library's epilogues
        for (ops::Gelu kind : kKinds)
            for (Dtype dtype : computable({Dtype::f32, Dtype::f64})) {
                const Values ones(static_cast<size_t>(F), 1.0), zeros(static_cast<size_t>(F), 0.0);
                TestTensor x(dtype, {N, 1}, points), up(dtype, {F, 1}, ones), bias(dtype, {F}, zeros),
                    pre(dtype, {N, F}), hidden(dtype, {N, F}), d_out(dtype, {N, 1}, Values(points.size(), 1.0)),
                    down(dtype, {1, F}, ones), d_pre(dtype, {N, F}), d_down(dtype, {1, F}, zeros),
                    d_bias(dtype, {1}, {0.0});
                Context context(test_device(), 1);
                ops::linear_gelu_forward(context, hidden, pre, x, {up, bias}, kind);
                ops::gelu_linear_backward(context, d_pre, d_down, d_bias, d_out, hidden, pre, down, kind);
                const Values outs = hidden.get(), slopes = d_pre.get(), u = pre.get();
                double worst = 0, worst_slope = 0;
                for (size_t i = 0; i < u.size(); ++i) {
                    worst = larger_or_nan(
                        worst, std::abs(outs[i] - reference_gelu(u[i], kind)) / std::max(1.0, std::abs(u[i])));
                    worst_slope = larger_or_nan(worst_slope, std::abs(slopes[i] - reference_gelu_slope(u[i], kind)));
                    if (!std::isfinite(outs[i]) || !std::isfinite(slopes[i])) FAIL("not finite at " << u[i]);
                }
                const double tol = dtype == Dtype::f64 ? 5e-14 : 5e-6;
                INFO("F " << F << ", errors " << worst << " and " << worst_slope);
                CHECK(worst <= tol);
                CHECK(worst_slope <= tol);
            }
}

TEST_CASE("linear_gelu: erf of every 16-bit u on a GPU is the rounded result but for 2^-17 of it") {
    if (test_device() == Device::cpu) return;
    for (Dtype dtype : computable({Dtype::bf16, Dtype::f16})) {
        Values points;
        for (uint32_t bits = 0; bits < 0x10000; ++bits) {
            const auto pattern = static_cast<uint16_t>(bits);
            const double u = dtype == Dtype::bf16 ? static_cast<float>(std::bit_cast<bf16>(pattern))
                                                  : static_cast<float>(std::bit_cast<f16>(pattern));
            if (std::abs(u) <= 1e4 && (u == 0 || std::abs(u) >= 0x1p-14)) points.push_back(u);
        }
        const auto N = static_cast<int64_t>(points.size());
        const TestTensor x(dtype, {N, 1}, points), one(dtype, {1, 1}, {1.0}), zero(dtype, {1}, {0.0});
        const TestTensor pre(dtype, {N, 1}), hidden(dtype, {N, 1}), d_out(dtype, {N, 1}, Values(points.size(), 1.0));
        const TestTensor d_pre(dtype, {N, 1}), d_down(Dtype::f32, {1, 1}, {0.0}), d_bias(Dtype::f32, {1}, {0.0});
        Context context(test_device(), 1);
        ops::linear_gelu_forward(context, hidden, pre, x, {one, zero}, ops::Gelu::erf);
        ops::gelu_linear_backward(context, d_pre, d_down, d_bias, d_out, hidden, pre, one, ops::Gelu::erf);
        const Values outs = hidden.get(), slopes = d_pre.get();
        for (size_t i = 0; i < points.size(); ++i) {
            const double u = points[i], phi = std::erfc(-u * std::sqrt(0.5)) / 2;
            const double steep = u * std::exp(-u * u / 2) / std::sqrt(2 * std::acos(-1.0));
            const auto is_near = [&](double got, double expected, double parts) {
                const double bound = 0x1p-17 * parts + 0x1p-120;
                return rounded(dtype, expected - bound) <= got && got <= rounded(dtype, expected + bound);
            };
            INFO(name_of(dtype) << " u " << u << ": " << outs[i] << ", slope " << slopes[i]);
            REQUIRE(is_near(outs[i], u * phi, std::abs(u) * phi));
            REQUIRE(is_near(slopes[i], phi + steep, phi + std::abs(steep)));
        }
    }
}

TEST_CASE("linear_gelu: NaN stays NaN") {
    for (ops::Gelu kind : kKinds)
        for (const int64_t F : {7, 8}) {
            MlpRun run(Dtype::f32, 3, 4, F, 2);
            run.x.put(4, std::numeric_limits<double>::quiet_NaN());  // row 1
            Context context(test_device(), 1);
            run.forward(context, kind);
            run.backward(context, kind);
            for (const TestTensor* out : {&run.hidden, &run.d_pre}) {
                CHECK(std::isnan(out->at(F)));
                CHECK(std::isfinite(out->at(0)));
            }
        }
}

TEST_CASE("linear_gelu: finite differences of every input", "[not_cuda]") {
    for (ops::Gelu kind : kKinds)
        for (const int64_t F : {7, 8}) {
            const int64_t N = 4, I = 5, O = 3;
            MlpRun run(Dtype::f64, N, I, F, O);
            TestTensor bias(Dtype::f64, {O}, normal(O, "bias")), out(Dtype::f64, {N, O}), d_x(Dtype::f64, {N, I}),
                d_up(Dtype::f64, {F, I}, Values(static_cast<size_t>(F * I), 0.0)),
                d_up_bias(Dtype::f64, {F}, Values(static_cast<size_t>(F), 0.0));
            Context context(test_device(), 1);
            const auto loss = [&] {
                run.forward(context, kind);
                ops::linear_forward(context, out, run.hidden, {run.down, bias});
                return dot(out.get(), run.d_out.get());
            };
            loss();
            run.d_down.set(Values(static_cast<size_t>(O * F), 0.0));
            run.d_bias.set(Values(static_cast<size_t>(O), 0.0));
            run.backward(context, kind);
            ops::linear_backward(context, d_x, d_up, d_up_bias, run.d_pre, run.x, run.up);
            check_gradient("x", run.x, d_x.get(), loss);
            check_gradient("up", run.up, d_up.get(), loss);
            check_gradient("up_bias", run.up_bias, d_up_bias.get(), loss);
            check_gradient("down", run.down, run.d_down.get(), loss);
            check_gradient("bias", bias, run.d_bias.get(), loss);
        }
}

TEST_CASE("linear_gelu: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            MlpRun run(dtype, 300, 40, 264, 33);
            run.forward(context, ops::Gelu::erf);
            run.backward(context, ops::Gelu::tanh);
            return run.pre.bytes() + run.hidden.bytes() + run.d_pre.bytes() + run.d_down.bytes() + run.d_bias.bytes();
        });
}

TEST_CASE("linear_gelu: a recording reads what memory holds when it is replayed") {
    for (const int64_t F : {63, 64}) {
        MlpRun recorded(Dtype::f32, 9, 16, F, 5), called(Dtype::f32, 9, 16, F, 5);
        Context context(test_device(), 1);
        Recording recording(context, [&] {
            recorded.forward(context, ops::Gelu::tanh);
            recorded.backward(context, ops::Gelu::tanh);
        });
        for (int run = 1; run <= 4; ++run) {
            for (MlpRun* mlp : {&recorded, &called}) mlp->x.set(normal(9 * 16, "x", run));
            recording.run();
            context.synchronise();
            called.forward(context, ops::Gelu::tanh);
            called.backward(context, ops::Gelu::tanh);
            CHECK(recorded.hidden.bytes() == called.hidden.bytes());
            CHECK(recorded.d_pre.bytes() == called.d_pre.bytes());
            CHECK(recorded.d_down.bytes() == called.d_down.bytes());
        }
    }
}

TEST_CASE("linear_gelu: without biases, the bits of biases that are 0 and no gradient of theirs") {
    for (Dtype dtype : compute_dtypes())
        for (auto kind : {ops::Gelu::tanh, ops::Gelu::erf}) {
            Context context(test_device(), 2);
            MlpRun with(dtype, 9, 16, 24, 8), without(dtype, 9, 16, 24, 8);
            with.up_bias.set(Values(24, 0.0));
            with.forward(context, kind);
            with.backward(context, kind);
            ops::linear_gelu_forward(context, without.hidden, without.pre, without.x, {without.up, {}}, kind);
            ops::gelu_linear_backward(context, without.d_pre, without.d_down, {}, without.d_out, without.hidden,
                                      without.pre, without.down, kind);
            check_error("pre", without.pre, with.pre.get(), 0);
            check_error("hidden", without.hidden, with.hidden.get(), 0);
            check_error("d_pre", without.d_pre, with.d_pre.get(), 0);
            check_error("d_weight", without.d_down, with.d_down.get(), 0);
        }
}
