#include <array>

#include "tests/kernels/support.h"

using namespace ballast;
using namespace ballast::test;

namespace {

struct GateRun {
    GateRun(Dtype dtype, int64_t B, int64_t T, int64_t H, int64_t D)
        : x(dtype, {B, T, H, D}, normal(B * T * H * D, "x")),
          gate(dtype, {B, T, H}, normal(B * T * H, "gate", 3.0)),
          d_out(dtype, {B, T, H, D}, normal(B * T * H * D, "d_out")),
          out(dtype, {B, T, H, D}),
          d_x(dtype, {B, T, H, D}),
          d_gate(dtype, {B, T, H}) {}
    void forward(Context& context) { ops::head_gate_forward(context, out, x, gate); }
    void backward(Context& context) { ops::head_gate_backward(context, d_x, d_gate, d_out, x, gate); }

    TestTensor x, gate, d_out, out, d_x, d_gate;
};

double reference_sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

}  // namespace

TEST_CASE("head_gate: against the oracle, odd shapes, in place") {
    for (Dtype dtype : compute_dtypes())
        for (int64_t D : {1, 7, 64, 72, 80, 128, 200})
            for (const auto& [B, T, H] : {std::array<int64_t, 3>{1, 1, 1}, {2, 7, 3}, {1, 65, 12}}) {
                GateRun run(dtype, B, T, H, D);
                INFO(run.x.tensor().describe());
                const Values x = run.x.get(), gate = run.gate.get(), d_out = run.d_out.get();
                Values out, d_x, d_gate(gate.size(), 0.0);
                for (size_t i = 0; i < x.size(); ++i) {
                    const size_t row = i / static_cast<size_t>(D);
                    const double s = reference_sigmoid(gate[row]);
                    out.push_back(x[i] * s);
                    d_x.push_back(d_out[i] * s);
                    d_gate[row] += d_out[i] * x[i] * s * (1 - s);
                }
                Context context(test_device(), 2);
                run.forward(context);
                run.backward(context);
                check_close("out", run.out, out);
                check_close("d_x", run.d_x, d_x);
                check_close("d_gate", run.d_gate, d_gate, 1e-5);  // sums may cancel
                TestTensor d_gate_again(dtype, {B, T, H});
                ops::head_gate_backward(context, run.d_out, d_gate_again, run.d_out, run.x, run.gate);
                ops::head_gate_forward(context, run.x, run.x, run.gate);
                CHECK(run.x.bytes() == run.out.bytes());
                CHECK(run.d_out.bytes() == run.d_x.bytes());
                CHECK(d_gate_again.bytes() == run.d_gate.bytes());
            }
}

TEST_CASE("head_gate: a gate far open or shut, and NaN stays NaN") {
    for (Dtype dtype : compute_dtypes())
        for (int64_t D : {5, 64}) {
            GateRun run(dtype, 1, 4, 1, D);
            run.gate.set({1e4, -1e4, 0.0, std::numeric_limits<double>::quiet_NaN()});
            Context context(test_device(), 1);
            run.forward(context);
            run.backward(context);
            const Values out = run.out.get(), x = run.x.get(), d_gate = run.d_gate.get();
            for (int64_t d = 0; d < D; ++d) {
                const auto i = static_cast<size_t>(d), row = static_cast<size_t>(D);
                CHECK(out[i] == x[i]);
                CHECK(std::abs(out[row + i]) <= 1e-30);
                CHECK(out[2 * row + i] == rounded(dtype, 0.5 * x[2 * row + i]));
                CHECK(std::isnan(out[3 * row + i]));
            }
            CHECK(d_gate[0] == 0.0);
            CHECK(std::abs(d_gate[1]) <= 1e-30);
            CHECK(std::isnan(d_gate[3]));
        }
}

TEST_CASE("head_gate: finite differences of x and the gate", "[not_cuda]") {
    for (const int64_t D : {3, 16}) {
        GateRun run(Dtype::f64, 2, 3, 2, D);
        Context context(test_device(), 1);
        run.backward(context);
        const auto loss = [&] {
            run.forward(context);
            return dot(run.out.get(), run.d_out.get());
        };
        check_gradient("x", run.x, run.d_x.get(), loss);
        check_gradient("gate", run.gate, run.d_gate.get(), loss);
    }
}

TEST_CASE("head_gate: the same bits for any number of threads, and other shapes are refused") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            GateRun run(dtype, 2, 130, 9, 64);
            run.forward(context);
            run.backward(context);
            return run.out.bytes() + run.d_x.bytes() + run.d_gate.bytes();
        });
    GateRun run(Dtype::f32, 1, 2, 3, 4);
    TestTensor other(Dtype::f32, {1, 3, 2});
    Context context(test_device(), 1);
    CHECK_THROWS_AS(ops::head_gate_forward(context, run.out, run.x, other), InternalError);
    CHECK_THROWS_AS(ops::head_gate_backward(context, run.d_x, other, run.d_out, run.x, run.gate), InternalError);
}
