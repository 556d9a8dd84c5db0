// Attention's ops on a case against the oracle.
#pragma once

#include "tests/kernels/attention_fixture.h"

namespace ballast::test {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Both with 0 where both are -inf, as hidden logits are, and LSE' where nothing is seen and z = -inf.
inline std::pair<Values, Values> without_infinities(Values a, Values b) {
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
        if (a[i] == -kInfinity && b[i] == -kInfinity) a[i] = b[i] = 0;
    return {a, b};
}

/// Everything a run gave against the oracle; narrow types may be off by twice what a naive computation in them is.
inline void check_run(const AttentionRun& run, Dtype dtype, double spread, const AttentionResult& expected,
                      const std::optional<AttentionResult>& naive) {
    // Logits of size ~spread² carry the rounding of float; lse and gradients inherit it.
    const double f32 = 1e-5 * std::max(1.0, spread * spread);
    const auto check = [&](const char* name, const TestTensor& tensor, Values AttentionResult::*member,
                           bool exact = false) {
        const auto [got, wanted] = without_infinities(tensor.get(), expected.*member);
        const double tol = naive && !exact
                               ? 2 * error(without_infinities((*naive).*member, expected.*member).first, wanted) + 1e-6
                               : tolerance(tensor.tensor().dtype, wanted, f32);
        const double err = error(got, wanted);
        INFO(name << " " << tensor.tensor().describe() << ": error " << err << ", tolerance " << tol);
        if (!(err <= tol)) FAIL();
    };
    check("out", run.out, &AttentionResult::out);
    check("lse", run.lse, &AttentionResult::lse);
    check("weights", run.weights, &AttentionResult::weights);
    check("logits", run.logits, &AttentionResult::logits, true);  // only what they are of was rounded
    check("d_q", run.d_q, &AttentionResult::d_q);
    check("d_k", run.d_k, &AttentionResult::d_k);
    check("d_v", run.d_v, &AttentionResult::d_v);
    if (run.d_sink_query) check("d_sink_query", *run.d_sink_query, &AttentionResult::d_sink_query);
    if (run.d_sink_logit) {
        Values sum = expected.d_sink_logit;
        for (double& value : sum) value += 1.0;  // it accumulates
        check_close("d_sink_logit", *run.d_sink_logit, sum, is_narrow(dtype) ? 1e-2 : 1e-5);
    }
}

/// Forward, weights and backward of one case against the oracle, in one dtype.
inline void check_case(AttentionCase x, Dtype dtype, double spread = 1.0, double scale = 1.0) {
    fill(x, dtype, spread);
    x.scale *= scale;
    const AttentionResult expected = reference_attention(x);
    std::optional<AttentionResult> naive;
    if (is_narrow(dtype)) naive = reference_attention(x, dtype);
    for (AttentionKernels kernels : kernels_for(x, dtype)) {
        INFO(describe(x) << " on " << name_of(kernels));
        Context context(test_device(), 2);
        context.set_attention_kernels(kernels);
        AttentionRun run(x, dtype);
        run.forward(context);
        run.measure(context);
        run.backward(context);
        check_run(run, dtype, spread, expected, naive);
    }
}

}  // namespace ballast::test
