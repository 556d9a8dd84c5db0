#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"

#ifndef BALLAST_KERNELS_CPU_OPTIMIZER_ONCE
#define BALLAST_KERNELS_CPU_OPTIMIZER_ONCE
namespace ballast::cpu {

/// A run of one parameter's elements, as long as one task should handle.
struct Piece {
    size_t parameter;
    int64_t first, count;  // in the flat arrays
};

/// Cuts every parameter from its own beginning, so its sums do not depend on where it lies.
inline std::vector<Piece> cut(std::span<const ParameterSpan> parameters) {
    std::vector<Piece> pieces;
    for (size_t p = 0; p < parameters.size(); ++p) {
        const Blocks blocks{parameters[p].count, 2 * kTaskElements};
        for (int64_t i = 0; i < blocks.size(); ++i)
            pieces.push_back({p, parameters[p].offset + blocks.begin(i), blocks.end(i) - blocks.begin(i)});
    }
    return pieces;
}

/// AdamW's per-step numbers.
struct AdamWStep {
    double clip, beta1, beta2, inverse_correction1, inverse_correction2, eps, learning_rate, weight_decay;
};

}  // namespace ballast::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

template <class A> double sum_of_squares(const A* x, int64_t count) {
    const hn::ScalableTag<double> d;
    return reduce_sum<double>(count, [&](int64_t i, auto lanes) HWY_ATTR {
        const auto v = load_as_double(d, x + i, lanes);
        return hn::Mul(v, v);
    });
}

/// partials[i] = sum of squares of piece i.
void piece_sums_of_squares(Context& context, std::span<double> partials, std::span<const Piece> pieces, const Tensor& gradients) {
    with_accumulation_type(gradients.dtype, [&]<class A>(A) {
        const A* g = gradients.ptr<A>();
        context.pool().parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i) HWY_ATTR {
            const Piece& piece = pieces[static_cast<size_t>(i)];
            partials[static_cast<size_t>(i)] = sum_of_squares(g + piece.first, piece.count);
        });
    });
}

template <class A, class T>
void adamw_piece(A* master, T* compute, A* m, A* v, const A* gradient, int64_t count, const AdamWStep& step) {
    const hn::ScalableTag<A> d;
    const auto set = [&](double x) HWY_ATTR { return hn::Set(d, static_cast<A>(x)); };
    const auto clip = set(step.clip), b1 = set(step.beta1), b2 = set(step.beta2), c1 = set(1 - step.beta1),
               c2 = set(1 - step.beta2), i1 = set(step.inverse_correction1), i2 = set(step.inverse_correction2),
               eps = set(step.eps), rate = set(step.learning_rate), decay = set(step.weight_decay);
    for_vectors(d, count, [&](int64_t i, auto lanes) HWY_ATTR {
        const auto g = hn::Mul(clip, load(d, gradient + i, lanes));
        const auto m1 = hn::MulAdd(b1, load(d, m + i, lanes), hn::Mul(c1, g));
        const auto v1 = hn::MulAdd(b2, load(d, v + i, lanes), hn::Mul(c2, hn::Mul(g, g)));
        const auto p = load(d, master + i, lanes);
        const auto ratio = hn::Div(hn::Mul(m1, i1), hn::Add(hn::Sqrt(hn::Mul(v1, i2)), eps));
        const auto p1 = hn::NegMulAdd(rate, hn::MulAdd(decay, p, ratio), p);
        store(m1, d, m + i, lanes);
        store(v1, d, v + i, lanes);
        store(p1, d, master + i, lanes);
        if (compute != nullptr) store(p1, d, compute + i, lanes);
    });
}

template <class T>
void adamw_pieces(Context& context, const Tensor& master, const Tensor& compute, const Tensor& m, const Tensor& v,
                  const Tensor& gradients, std::span<const ParameterSpan> parameters, std::span<const Piece> pieces,
                  const AdamWStep& step) {
    using A = Accumulator<T>;
    A *p = master.ptr<A>(), *first = m.ptr<A>(), *second = v.ptr<A>();
    T* narrow = compute.empty() ? nullptr : compute.ptr<T>();
    const A* g = gradients.ptr<A>();
    context.pool().parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i) HWY_ATTR {
        const Piece& piece = pieces[static_cast<size_t>(i)];
        AdamWStep own = step;
        if (!parameters[piece.parameter].decay) own.weight_decay = 0;
        const int64_t at = piece.first;
        adamw_piece(p + at, narrow == nullptr ? narrow : narrow + at, first + at, second + at, g + at, piece.count, own);
    });
}

void adamw(Context& context, const Tensor& master, const Tensor& compute, const Tensor& m, const Tensor& v,
           const Tensor& gradients, std::span<const ParameterSpan> parameters, std::span<const Piece> pieces,
           const AdamWStep& step) {
    with_compute_type(compute.empty() ? master.dtype : compute.dtype, [&]<class T>(T) {
        adamw_pieces<T>(context, master, compute, m, v, gradients, parameters, pieces, step);
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(piece_sums_of_squares);
HWY_EXPORT(adamw);

DeviceBuffer parameter_table(Context&, std::span<const ParameterSpan>) { return {}; }  // cut() is quick

void sums_of_squares(Context& context, const Tensor& sum_of_squares, const Tensor& gradients,
                     const ParameterSet& set) {
    const std::span<const ParameterSpan> parameters = set.spans();
    const std::vector<Piece> pieces = cut(parameters);
    std::vector<double> partials(pieces.size());
    HWY_DYNAMIC_DISPATCH(piece_sums_of_squares)(context, partials, pieces, gradients);

    double* sums = sum_of_squares.ptr<double>();
    std::fill_n(sums, parameters.size(), 0.0);
    for (size_t i = 0; i < pieces.size(); ++i) sums[pieces[i].parameter] += partials[i];
}

void global_norm(Context&, const Tensor& scalars, const Tensor& sum_of_squares, const Tensor& losses,
                 double clip_norm) {
    const std::span sums(sum_of_squares.ptr<double>(), static_cast<size_t>(sum_of_squares.dim(0)));
    const double total = std::accumulate(sums.begin(), sums.end(), 0.0);
    auto& step = *static_cast<StepScalars*>(scalars.data);
    step.grad_norm = std::sqrt(total) / step.loss_scale;
    step.clip_factor = (clip_norm > 0 ? 1 / std::max(1.0, (step.grad_norm + 1e-6) / clip_norm) : 1) / step.loss_scale;
    const std::span all_losses(losses.ptr<double>(), static_cast<size_t>(losses.dim(0)));
    const bool finite_losses = std::all_of(all_losses.begin(), all_losses.end(), [](double loss) { return std::isfinite(loss); });
    step.non_finite = std::isfinite(step.grad_norm) && finite_losses ? 0 : 1;
    const double loss = std::accumulate(all_losses.begin(), all_losses.end(), 0.0);
    step.spike = step.grad_norm > step.norm_limit || loss > step.loss_limit ? 1 : 0;
}

void adamw(Context& context, const Tensor& master, const Tensor& compute, const Tensor& m, const Tensor& v,
           const Tensor& gradients, const ParameterSet& set, const Tensor& scalars, const AdamW& options) {
    const auto& now = *static_cast<const StepScalars*>(scalars.data);
    if (now.non_finite != 0 || now.spike != 0) return;
    const double t = static_cast<double>(now.step);
    const AdamWStep step{now.clip_factor,
                         options.beta1,
                         options.beta2,
                         1 / (1 - std::pow(options.beta1, t)),
                         1 / (1 - std::pow(options.beta2, t)),
                         options.eps,
                         now.learning_rate,
                         options.weight_decay};
    HWY_DYNAMIC_DISPATCH(adamw)(context, master, compute, m, v, gradients, set.spans(), cut(set.spans()), step);
}

}  // namespace ballast::cpu
#endif
