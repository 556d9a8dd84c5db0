// The head shapes of Llama, SmolLM2 and Falcon through QKV split, rotary embedding and attention, forward and backward.
#include "tests/kernels/attention_fixture.h"
#include "tests/kernels/reference/qkv.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// x with every head's gradient rotated back.
Values rotated_back(const Values& x, int64_t T, int64_t H, const QkvCase& c) {
    Values out;
    for (int64_t row = 0; row * c.D < static_cast<int64_t>(x.size()); ++row) {
        const auto first = x.begin() + row * c.D;
        const Values z = reference_rope(Values(first, first + c.D), c.R, -(row / H % T), kBase);
        out.insert(out.end(), z.begin(), z.end());
    }
    return out;
}

/// d_qkv [T,M] of the gradients of its parts.
Values joined(const AttentionResult& r, int64_t T, const QkvCase& c) {
    const Values parts[] = {rotated_back(r.d_q, T, c.H, c), rotated_back(r.d_k, T, c.G, c), r.d_v};
    Values out(static_cast<size_t>(T * c.width()));
    for (int part = 0; part < 3; ++part) {
        const int64_t heads = part == 0 ? c.H : c.G;
        for (int64_t row = 0; row < T * heads; ++row)
            std::copy_n(parts[part].begin() + row * c.D, c.D,
                        out.begin() + row / heads * c.width() + c.place(part, row % heads));
    }
    return out;
}

/// Tensors of one sequence from qkv to attention's out and back.
struct QkvAttentionRun {
    QkvAttentionRun(const QkvCase& shape, int64_t T, Dtype dtype)
        : c(shape),
          acc(accumulation_dtype(dtype)),
          qkv(dtype, {1, T, c.width()}, normal(T * c.width(), "qkv")),
          d_out(dtype, {1, T, c.H, c.D}, normal(T * c.H * c.D, "d_out")),
          table(acc, {T, c.R}),
          q(dtype, {1, T, c.H, c.D}),
          k(dtype, {1, T, c.G, c.D}),
          v(dtype, {1, T, c.G, c.D}),
          out(dtype, {1, T, c.H, c.D}),
          lse(acc, {1, c.H, T}),
          d_q(dtype, {1, T, c.H, c.D}),
          d_k(dtype, {1, T, c.G, c.D}),
          d_v(dtype, {1, T, c.G, c.D}),
          d_qkv(dtype, {1, T, c.width()}) {
        params.scale = 1 / std::sqrt(static_cast<double>(c.D));
    }
    void forward(Context& context) {
        fill_table(context, table);
        ops::qkv_split_rope_forward(context, q, k, v, qkv, table, {}, c.layout);
        ops::attention_forward(context, out, lse, {q, k, v, {}}, params);
    }
    void backward(Context& context) {
        ops::attention_backward(context, {d_q, d_k, d_v, {}, {}}, d_out, out, lse, {q, k, v, {}}, params);
        ops::qkv_split_rope_backward(context, d_qkv, d_q, d_k, d_v, table, {}, c.layout);
    }

    QkvCase c;
    Dtype acc;
    ops::AttentionParams params;
    TestTensor qkv, d_out, table, q, k, v, out, lse, d_q, d_k, d_v, d_qkv;
};

}  // namespace

TEST_CASE("grouped heads: QKV split, rotary embedding and attention, forward and backward, against the oracle") {
    const int64_t T = 67;
    for (const auto& [H, G] : {std::pair<int64_t, int64_t>{9, 3}, {8, 1}})
        for (int64_t D : {64, 80, 128})
            for (auto layout : {ops::QkvLayout::grouped, kConcatenated})
                for (Dtype dtype : compute_dtypes()) {
                    const QkvCase c{H, G, D, D, layout};
                    AttentionCase x{.B = 1, .T = T, .S = T, .H = H, .G = G, .D = D};
                    fill(x, dtype);
                    const Values qkv = rounded(dtype, normal(T * c.width(), "qkv"));
                    x.q = rounded(dtype, rotated(c.part_of(qkv, T, 0), T, H, D, D, {}));
                    x.k = rounded(dtype, rotated(c.part_of(qkv, T, 1), T, G, D, D, {}));
                    x.v = c.part_of(qkv, T, 2);
                    const AttentionResult expected = reference_attention(x);
                    const AttentionResult naive = is_narrow(dtype) ? reference_attention(x, dtype) : expected;
                    const Values d_qkv = joined(expected, T, c), rough = rounded(dtype, joined(naive, T, c));
                    for (AttentionKernels kernels : kernels_for(x, dtype)) {
                        INFO(describe(x) << " in " << name_of(dtype) << " on " << name_of(kernels));
                        Context context(test_device(), 2);
                        context.set_attention_kernels(kernels);
                        QkvAttentionRun run(c, T, dtype);
                        run.forward(context);
                        run.backward(context);
                        const double exact = dtype == Dtype::f64 ? 1e-12 : 1e-5;
                        check_error("out", run.out, expected.out, 2 * error(naive.out, expected.out) + exact);
                        check_error("lse", run.lse, expected.lse, exact);
                        check_error("d_qkv", run.d_qkv, d_qkv, 2 * error(rough, d_qkv) + exact);
                    }
                }
}

TEST_CASE("grouped heads: finite differences of qkv", "[not_cuda]") {
    for (const QkvCase& c : {QkvCase{9, 3, 4, 4}, QkvCase{9, 3, 4, 4, kConcatenated}, QkvCase{8, 1, 4, 4},
                             QkvCase{8, 1, 4, 4, kConcatenated}}) {
        const int64_t T = 5;
        QkvAttentionRun run(c, T, Dtype::f64);
        Context context(test_device(), 1);
        const auto loss = [&] {
            run.forward(context);
            return dot(run.out.get(), run.d_out.get());
        };
        loss();
        run.backward(context);
        check_gradient("qkv", run.qkv, run.d_qkv.get(), loss);
    }
}
