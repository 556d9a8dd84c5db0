#include <memory>

#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr double kEps = 1e-5;

/// y = a + b + c (or the first `terms` of them) and `norms` LayerNorms of it.
struct LayerNormRun {
    struct Norm {
        Norm(Dtype dtype, int64_t N, int64_t C, const std::string& name)
            : weight(dtype, {C}, normal(C, "weight" + name)),
              bias(dtype, {C}, normal(C, "bias" + name)),
              out(dtype, {N, C}),
              d_out(dtype, {N, C}, normal(N * C, "d_out" + name)),
              d_weight(accumulation_dtype(dtype), {C}, normal(C, "d_weight" + name)),
              d_bias(accumulation_dtype(dtype), {C}, normal(C, "d_bias" + name)) {}
        TestTensor weight, bias, out, d_out, d_weight, d_bias;
    };

    LayerNormRun(Dtype dtype, int64_t N, int64_t C, int num_terms = 1, size_t num_norms = 1, double mean = 0.5)
        : acc(accumulation_dtype(dtype)),
          terms(num_terms),
          a(dtype, {N, C}),
          b(dtype, {N, C}, normal(N * C, "b")),
          c(dtype, {N, C}, normal(N * C, "c")),
          y(dtype, {N, C}),
          d_y(dtype, {N, C}, normal(N * C, "d_y")),
          mean_N(acc, {N}),
          rstd_N(acc, {N}) {
        Values values = normal(N * C, "a");
        for (double& v : values) v += mean;
        a.set(values);
        for (size_t k = 0; k < num_norms; ++k) norms.push_back(std::make_unique<Norm>(dtype, N, C, std::to_string(k)));
    }
    const TestTensor& stream() const { return terms == 1 ? a : y; }
    void forward(Context& context) {
        std::vector<ops::NormOutput> outputs;
        for (const auto& n : norms) outputs.push_back({n->out, n->weight, n->bias});
        const Tensor absent;
        ops::residual_norm_forward(context, terms > 1 ? y.tensor() : absent, outputs, mean_N, rstd_N, a,
                                   terms > 1 ? b.tensor() : absent, terms > 2 ? c.tensor() : absent, kEps);
    }
    void backward(Context& context) {
        std::vector<ops::NormGradient> gradients;
        for (const auto& n : norms) gradients.push_back({n->d_out, n->weight, n->d_weight, n->d_bias});
        ops::norm_backward(context, d_y, gradients, stream(), mean_N, rstd_N);
    }
    /// Of the stream as it is stored: rounded.
    LayerNormResult reference(size_t k) const {
        const Norm& n = *norms[k];
        return reference_layernorm(stream().get(), n.weight.get(), n.bias.get(), n.d_out.get(), kEps);
    }
    std::string bytes() const {
        std::string all = d_y.bytes() + mean_N.bytes() + rstd_N.bytes() + (terms > 1 ? y.bytes() : "");
        for (const auto& n : norms) all += n->out.bytes() + n->d_weight.bytes() + n->d_bias.bytes();
        return all;
    }

    Dtype acc;
    int terms;
    TestTensor a, b, c, y, d_y, mean_N, rstd_N;
    std::vector<std::unique_ptr<Norm>> norms;
};

Values sum(Values a, const Values& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
}

void check_layernorm(LayerNormRun& run, Context& context) {
    const int64_t C = run.a.tensor().dim(1);
    INFO(run.a.tensor().describe() << ", " << run.terms << " terms, " << run.norms.size() << " norms");
    run.forward(context);
    if (run.terms > 1) {
        Values y = sum(run.a.get(), run.b.get());
        if (run.terms > 2) y = sum(y, run.c.get());
        check_close("y", run.y, y);
    }
    Values d_y = run.d_y.get();
    std::vector<LayerNormResult> expected;
    for (size_t k = 0; k < run.norms.size(); ++k) {
        expected.push_back(run.reference(k));
        d_y = sum(d_y, expected[k].d_x);
        expected[k].d_weight = sum(run.norms[k]->d_weight.get(), expected[k].d_weight);
        expected[k].d_bias = sum(run.norms[k]->d_bias.get(), expected[k].d_bias);
    }
    run.backward(context);
    const double tight = run.acc == Dtype::f64 ? 1e-12 : 1e-6;
    check_error("mean", run.mean_N, expected[0].mean, tight);
    check_error("rstd", run.rstd_N, expected[0].rstd, tight);
    for (size_t k = 0; k < run.norms.size(); ++k) {
        check_close("out", run.norms[k]->out, expected[k].out);
        check_error("d_weight", run.norms[k]->d_weight, expected[k].d_weight, run.acc == Dtype::f64 ? 1e-12 : 3e-6);
        check_error("d_bias", run.norms[k]->d_bias, expected[k].d_bias, run.acc == Dtype::f64 ? 1e-12 : 3e-6);
    }
    // With one channel every gradient cancels; what is left is rounding times rstd = 316.
    check_close("d_y", run.d_y, d_y, C == 1 ? 1e-4 : 2e-6, 1e-12);
}

}  // namespace

TEST_CASE("layernorm: against the oracle, odd shapes") {
    Context context(test_device(), 2);
    for (Dtype dtype : compute_dtypes())
        for (int64_t C : {1, 7, 63, 65, 128, 768, 1000})
            for (int64_t N : {1, 65, 300}) {
                LayerNormRun run(dtype, N, C);
                check_layernorm(run, context);
            }
}

TEST_CASE("layernorm: of a sum of two or three terms, one or two norms") {
    Context context(test_device(), 2);
    for (Dtype dtype : compute_dtypes())
        for (int terms : {1, 2, 3})
            for (size_t norms : {1, 2})
                for (const auto& [N, C] :
                     {std::pair<int64_t, int64_t>{1, 1}, {7, 63}, {65, 64}, {9, 1000}, {3, 2056}}) {
                    if (C == 1 && norms == 2) continue;  // nothing but rounding is left
                    LayerNormRun run(dtype, N, C, terms, norms);
                    check_layernorm(run, context);
                }
}

TEST_CASE("layernorm: fused gives the bits of its parts, in f32") {
    for (const int64_t C : {63, 64, 2056}) {
        const int64_t N = 37;
        Context context(test_device(), 2);
        LayerNormRun fused(Dtype::f32, N, C, 3, 2), parts(Dtype::f32, N, C, 3, 2);
        fused.forward(context);
        fused.backward(context);
        ops::add(context, parts.y, parts.a, parts.b, parts.c);
        for (const auto& n : parts.norms) {
            const ops::NormOutput output{n->out, n->weight, n->bias};
            ops::residual_norm_forward(context, {}, {&output, 1}, parts.mean_N, parts.rstd_N, parts.y, {}, {}, kEps);
        }
        for (const auto& n : parts.norms) {
            const ops::NormGradient gradient{n->d_out, n->weight, n->d_weight, n->d_bias};
            ops::norm_backward(context, parts.d_y, {&gradient, 1}, parts.y, parts.mean_N, parts.rstd_N);
        }
        CHECK(fused.bytes() == parts.bytes());
    }
}

TEST_CASE("layernorm: the sum may overwrite a term") {
    for (const int64_t C : {63, 64, 2056}) {
        Context context(test_device(), 1);
        LayerNormRun apart(Dtype::f32, 9, C, 2), in_place(Dtype::f32, 9, C, 2);
        apart.forward(context);
        const auto& n = *in_place.norms[0];
        const ops::NormOutput output{n.out, n.weight, n.bias};
        ops::residual_norm_forward(context, in_place.a, {&output, 1}, in_place.mean_N, in_place.rstd_N, in_place.a,
                                   in_place.b, {}, kEps);
        CHECK(in_place.a.bytes() == apart.y.bytes());
        CHECK(n.out.bytes() == apart.norms[0]->out.bytes());
    }
}

TEST_CASE("layernorm: a large mean costs no digits of the variance") {
    LayerNormRun run(Dtype::f32, 5, 512, 1, 1, 1000.0);
    Context context(test_device(), 1);
    run.forward(context);
    check_error("rstd", run.rstd_N, run.reference(0).rstd, 1e-5);
}

namespace {

/// Every kind of the one op: centred or not, with a bias or not, one or two norms, one to three terms.
struct NormKind {
    bool centred, biased;
    int terms;
    size_t norms;
};

struct AnyNormRun {
    AnyNormRun(NormKind of, Dtype dtype, int64_t N, int64_t C) : kind(of), run(dtype, N, C, of.terms, of.norms) {}
    Tensor mean() const { return kind.centred ? run.mean_N.tensor() : Tensor(); }
    void forward(Context& context) {
        std::vector<ops::NormOutput> outputs;
        for (const auto& n : run.norms)
            outputs.push_back({n->out, n->weight, kind.biased ? n->bias.tensor() : Tensor()});
        const Tensor absent;
        ops::residual_norm_forward(context, run.terms > 1 ? run.y.tensor() : absent, outputs, mean(), run.rstd_N, run.a,
                                   run.terms > 1 ? run.b.tensor() : absent, run.terms > 2 ? run.c.tensor() : absent,
                                   kEps);
    }
    void backward(Context& context) {
        std::vector<ops::NormGradient> gradients;
        for (const auto& n : run.norms)
            gradients.push_back({n->d_out, n->weight, n->d_weight, kind.biased ? n->d_bias.tensor() : Tensor()});
        ops::norm_backward(context, run.d_y, gradients, run.stream(), mean(), run.rstd_N);
    }
    LayerNormResult reference(size_t k) const {
        const auto& n = *run.norms[k];
        const Values x = run.stream().get(), weight = n.weight.get(), d_out = n.d_out.get();
        const Values bias = kind.biased ? n.bias.get() : Values(weight.size(), 0.0);
        LayerNormResult r = reference_layernorm(x, weight, bias, d_out, kEps);
        if (kind.centred) return r;
        const RmsNormResult rms = reference_rmsnorm(x, weight, d_out, kEps);
        r.rstd = rms.rstd, r.d_x = rms.d_x, r.d_weight = rms.d_weight;
        for (size_t i = 0; i < r.out.size(); ++i) r.out[i] = rms.out[i] + bias[i % bias.size()];
        return r;
    }

    NormKind kind;
    LayerNormRun run;
};

void check_norm(AnyNormRun& any, Context& context) {
    LayerNormRun& run = any.run;
    INFO(run.a.tensor().describe() << (any.kind.centred ? ", centred" : "") << (any.kind.biased ? ", biased, " : ", ")
                                   << run.terms << " terms, " << run.norms.size() << " norms");
    any.forward(context);
    Values d_y = run.d_y.get();
    std::vector<LayerNormResult> expected;
    for (size_t k = 0; k < run.norms.size(); ++k) {
        const auto& n = *run.norms[k];
        expected.push_back(any.reference(k));
        check_close("out", n.out, expected[k].out);
        d_y = sum(d_y, expected[k].d_x);
        expected[k].d_weight = sum(n.d_weight.get(), expected[k].d_weight);
        // An absent bias has no gradient: what stands where it would go stays.
        expected[k].d_bias = any.kind.biased ? sum(n.d_bias.get(), expected[k].d_bias) : n.d_bias.get();
    }
    any.backward(context);
    const double tight = run.acc == Dtype::f64 ? 1e-12 : 3e-6;
    for (size_t k = 0; k < run.norms.size(); ++k) {
        check_error("d_weight", run.norms[k]->d_weight, expected[k].d_weight, tight);
        check_error("d_bias", run.norms[k]->d_bias, expected[k].d_bias, any.kind.biased ? tight : 0);
    }
    check_close("d_y", run.d_y, d_y, 2e-6, 1e-12);
}

template <class Check>
void for_norm_kinds(Check&& check) {
    for (bool centred : {true, false})
        for (bool biased : {true, false})
            for (int terms : {1, 2, 3})
                for (size_t norms : {1, 2}) check(NormKind{centred, biased, terms, norms});
}

}  // namespace

TEST_CASE("norm: every kind against the oracle") {
    Context context(test_device(), 2);
    for (Dtype dtype : compute_dtypes())
        for_norm_kinds([&](NormKind kind) {
            for (const auto& [N, C] : {std::pair<int64_t, int64_t>{7, 63}, {65, 64}, {3, 2056}}) {
                AnyNormRun run(kind, dtype, N, C);
                check_norm(run, context);
            }
        });
}

TEST_CASE("norm: finite differences of every kind", "[not_cuda]") {
    const int64_t N = 3, C = 10;
    Context context(test_device(), 1);
    for_norm_kinds([&](NormKind kind) {
        AnyNormRun any(kind, Dtype::f64, N, C);
        LayerNormRun& run = any.run;
        const auto loss = [&] {
            any.forward(context);
            double total = 0;
            for (const auto& n : run.norms) total += dot(n->out.get(), n->d_out.get());
            return total;
        };
        loss();
        run.d_y.set(Values(static_cast<size_t>(N * C), 0.0));
        for (const auto& n : run.norms)
            for (TestTensor* d : {&n->d_weight, &n->d_bias}) d->set(Values(static_cast<size_t>(C), 0.0));
        any.backward(context);
        check_gradient("a", run.a, run.d_y.get(), loss);
        if (run.terms > 1) check_gradient("b", run.b, run.d_y.get(), loss);
        if (run.terms > 2) check_gradient("c", run.c, run.d_y.get(), loss);
        for (const auto& n : run.norms) {
            check_gradient("weight", n->weight, n->d_weight.get(), loss);
            if (kind.biased) check_gradient("bias", n->bias, n->d_bias.get(), loss);
        }
    });
}

TEST_CASE("layernorm: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            LayerNormRun run(dtype, 300, 129, 3, 2);
            run.forward(context);
            run.backward(context);
            return run.bytes();
        });
}
