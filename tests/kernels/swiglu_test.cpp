#include <array>

#include "base/larger_or_nan.h"
#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

struct SwigluRun {
    SwigluRun(Dtype dtype, int64_t N, int64_t F)
        : gate_up(dtype, {N, 2 * F}, normal(2 * N * F, "gate_up", 2.0)),
          d_out(dtype, {N, F}, normal(N * F, "d_out")),
          out(dtype, {N, F}),
          d_gate_up(dtype, {N, 2 * F}) {}
    void forward(Context& context) { ops::swiglu_forward(context, out, gate_up); }
    void backward(Context& context) { ops::swiglu_backward(context, d_gate_up, d_out, gate_up); }

    TestTensor gate_up, d_out, out, d_gate_up;
};

}  // namespace

TEST_CASE("swiglu: against the oracle, odd shapes") {
    for (Dtype dtype : compute_dtypes())
        for (int64_t F : {1, 7, 63, 65, 200, 1000})
            for (int64_t N : {1, 7, 65}) {
                SwigluRun run(dtype, N, F);
                INFO(run.out.tensor().describe());
                const Values x = run.gate_up.get(), d_out = run.d_out.get();
                Values out(d_out.size()), d_gate_up(x.size());
                for (size_t n = 0; n < static_cast<size_t>(N); ++n)
                    for (size_t f = 0; f < static_cast<size_t>(F); ++f) {
                        const size_t i = n * static_cast<size_t>(F) + f, gate = 2 * n * static_cast<size_t>(F) + f,
                                     up = gate + static_cast<size_t>(F);
                        out[i] = reference_silu(x[gate]) * x[up];
                        d_gate_up[gate] = d_out[i] * x[up] * reference_silu_slope(x[gate]);
                        d_gate_up[up] = d_out[i] * reference_silu(x[gate]);
                    }
                Context context(test_device(), 2);
                run.forward(context);
                run.backward(context);
                check_close("out", run.out, out);
                check_close("d_gate_up", run.d_gate_up, d_gate_up);
            }
}

TEST_CASE("swiglu: every magnitude of the gate, and NaN stays NaN") {
    Values gates;
    for (double magnitude = 1e-6; magnitude < 1e4; magnitude *= 1.01)
        gates.insert(gates.end(), {magnitude, -magnitude});
    gates.push_back(std::numeric_limits<double>::quiet_NaN());
    const auto F = static_cast<int64_t>(gates.size());
    Values gate_up = gates;
    gate_up.resize(gates.size() * 2, 1.0);
    for (Dtype dtype : computable({Dtype::f32, Dtype::f64})) {
        TestTensor x(dtype, {1, 2 * F}, gate_up), out(dtype, {1, F}), d_out(dtype, {1, F}, Values(gates.size(), 1.0)),
            d_x(dtype, {1, 2 * F});
        Context context(test_device(), 1);
        ops::swiglu_forward(context, out, x);
        ops::swiglu_backward(context, d_x, d_out, x);
        const double tol = dtype == Dtype::f64 ? 5e-14 : 5e-6;
        for (int64_t i = 0; i + 1 < F; ++i) {
            const double z = x.at(i), scale = std::max(1.0, std::abs(z));
            const double error_out = std::abs(out.at(i) - reference_silu(z)) / scale,
                         error_slope = std::abs(d_x.at(i) - reference_silu_slope(z));
            if (!(larger_or_nan(error_out, error_slope) <= tol))
                FAIL("gate " << z << ": " << error_out << ", " << error_slope);
        }
        CHECK(std::isnan(out.at(F - 1)));
        CHECK(std::isnan(d_x.at(F - 1)));
    }
}

TEST_CASE("swiglu: in place backward") {
    for (const int64_t F : {33, 40}) {
        SwigluRun run(Dtype::f32, 9, F), in_place(Dtype::f32, 9, F);
        Context context(test_device(), 1);
        run.backward(context);
        ops::swiglu_backward(context, in_place.gate_up, in_place.d_out, in_place.gate_up);
        CHECK(in_place.gate_up.bytes() == run.d_gate_up.bytes());
    }
}

TEST_CASE("swiglu: finite differences of gate and up", "[not_cuda]") {
    for (const int64_t F : {9, 10}) {
        SwigluRun run(Dtype::f64, 4, F);
        Context context(test_device(), 1);
        run.backward(context);
        check_gradient("gate_up", run.gate_up, run.d_gate_up.get(), [&] {
            run.forward(context);
            return dot(run.out.get(), run.d_out.get());
        });
    }
}

TEST_CASE("swiglu: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            SwigluRun run(dtype, 130, 257);
            run.forward(context);
            run.backward(context);
            return run.out.bytes() + run.d_gate_up.bytes();
        });
}

namespace {

/// Llama's MLP: I inputs, 2F features of one product, F of them gated, O outputs; no biases.
struct GatedMlpRun {
    GatedMlpRun(Dtype dtype, int64_t N, int64_t I, int64_t F, int64_t O)
        : acc(accumulation_dtype(dtype)),
          x(dtype, {N, I}, normal(N * I, "x")),
          up(dtype, {2 * F, I}, normal(2 * F * I, "up", 1.5 / std::sqrt(static_cast<double>(I)))),
          gate_up(dtype, {N, 2 * F}),
          hidden(dtype, {N, F}),
          down(dtype, {O, F}, normal(O * F, "down")),
          out(dtype, {N, O}),
          d_out(dtype, {N, O}, normal(N * O, "d_out")),
          d_hidden(dtype, {N, F}),
          d_gate_up(dtype, {N, 2 * F}),
          d_x(dtype, {N, I}),
          d_up(acc, {2 * F, I}, Values(static_cast<size_t>(2 * F * I), 0.0)),
          d_down(acc, {O, F}, Values(static_cast<size_t>(O * F), 0.0)) {}
    void forward(Context& context) {
        ops::linear_forward(context, gate_up, x, {up, {}});
        ops::swiglu_forward(context, hidden, gate_up);
        ops::linear_forward(context, out, hidden, {down, {}});
    }
    void backward(Context& context) {
        ops::linear_backward(context, d_hidden, d_down, {}, d_out, hidden, down);
        ops::swiglu_backward(context, d_gate_up, d_hidden, gate_up);
        ops::linear_backward(context, d_x, d_up, {}, d_gate_up, x, up);
    }

    Dtype acc;
    TestTensor x, up, gate_up, hidden, down, out, d_out, d_hidden, d_gate_up, d_x, d_up, d_down;
};

}  // namespace

TEST_CASE("swiglu: between two linear layers without biases, against the oracle") {
    for (Dtype dtype : compute_dtypes())
        for (const auto& [N, I, F, O] : {std::array<int64_t, 4>{7, 33, 65, 9}, {65, 24, 40, 24}}) {
            GatedMlpRun run(dtype, N, I, F, O);
            Context context(test_device(), 2);
            run.forward(context);
            run.backward(context);
            // Each product of what the ops before it stored.
            check_close("gate_up", run.gate_up, reference_matmul(run.x.get(), false, run.up.get(), true, N, 2 * F, I));
            const Values gate_up = run.gate_up.get();
            Values hidden;
            for (int64_t n = 0; n < N; ++n)
                for (int64_t f = 0; f < F; ++f) {
                    const auto gate = static_cast<size_t>(n * 2 * F + f), up = gate + static_cast<size_t>(F);
                    hidden.push_back(reference_silu(gate_up[gate]) * gate_up[up]);
                }
            check_close("hidden", run.hidden, hidden);
            check_close("out", run.out, reference_matmul(run.hidden.get(), false, run.down.get(), true, N, O, F));
            check_close("d_hidden", run.d_hidden,
                        reference_matmul(run.d_out.get(), false, run.down.get(), false, N, F, O));
            check_close("d_x", run.d_x, reference_matmul(run.d_gate_up.get(), false, run.up.get(), false, N, I, 2 * F));
            check_error("d_down", run.d_down, reference_matmul(run.d_out.get(), true, run.hidden.get(), false, O, F, N),
                        run.acc == Dtype::f64 ? 1e-12 : 2e-6);
            check_error("d_up", run.d_up, reference_matmul(run.d_gate_up.get(), true, run.x.get(), false, 2 * F, I, N),
                        run.acc == Dtype::f64 ? 1e-12 : 2e-6);
        }
}

TEST_CASE("swiglu: finite differences through two linear layers without biases", "[not_cuda]") {
    GatedMlpRun run(Dtype::f64, 4, 5, 7, 3);
    Context context(test_device(), 1);
    const auto loss = [&] {
        run.forward(context);
        return dot(run.out.get(), run.d_out.get());
    };
    loss();
    run.backward(context);
    check_gradient("x", run.x, run.d_x.get(), loss);
    check_gradient("up", run.up, run.d_up.get(), loss);
    check_gradient("down", run.down, run.d_down.get(), loss);
}
