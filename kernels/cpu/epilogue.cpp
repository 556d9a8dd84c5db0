#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/epilogue.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gelu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// `columns` neighbours of a row: u = c + bias (if any), aux = u, c = gelu(u).
template <class Kind, class C, class Aux, class Bias>
void gelu_row(C* c, Aux* aux, const Bias* bias, int64_t columns) {
    const hn::ScalableTag<Accumulator<C>> d;
    for_vectors(d, columns, [&](int64_t i, auto lanes) HWY_ATTR {
        auto u = load(d, c + i, lanes);
        if (bias != nullptr) u = hn::Add(u, load(d, bias + i, lanes));
        store(u, d, aux + i, lanes);
        store(hn::Mul(u, Kind::at(d, u).phi), d, c + i, lanes);
    });
}

/// c = c gelu'(aux).
template <class Kind, class C, class Aux>
void d_gelu_row(C* c, const Aux* aux, int64_t columns) {
    const hn::ScalableTag<Accumulator<C>> d;
    for_vectors(d, columns, [&](int64_t i, auto lanes) HWY_ATTR {
        const auto u = load(d, aux + i, lanes);
        const auto gate = Kind::at(d, u);
        store(hn::Mul(load(d, c + i, lanes), hn::MulAdd(u, gate.slope, gate.phi)), d, c + i, lanes);
    });
}

template <class C, class Aux>
void apply_to_block(const GemmArguments& g, int64_t row, int64_t column, int64_t rows, int64_t columns) {
    // The bias of a narrow C is in it already.
    const auto* bias = g.bias == nullptr || g.narrow_c ? nullptr : static_cast<const Accumulator<C>*>(g.bias) + column;
    for (int64_t r = row; r < row + rows; ++r) {
        C* c = static_cast<C*>(g.c) + r * g.n + column;
        Aux* aux = static_cast<Aux*>(g.aux) + r * g.n + column;
        switch (g.epilogue) {
            case Epilogue::none: break;
            case Epilogue::gelu_tanh: gelu_row<TanhGate>(c, aux, bias, columns); break;
            case Epilogue::gelu_erf: gelu_row<ErfGate>(c, aux, bias, columns); break;
            case Epilogue::d_gelu_tanh: d_gelu_row<TanhGate>(c, aux, columns); break;
            case Epilogue::d_gelu_erf: d_gelu_row<ErfGate>(c, aux, columns); break;
        }
    }
}

void apply_epilogue(const GemmArguments& g, int64_t row, int64_t column, int64_t rows, int64_t columns) {
    if (g.dtype == Dtype::f64) return apply_to_block<double, double>(g, row, column, rows, columns);
    if (g.narrow_c) return apply_to_block<bf16, bf16>(g, row, column, rows, columns);
    if (g.aux_dtype == Dtype::bf16) return apply_to_block<float, bf16>(g, row, column, rows, columns);
    apply_to_block<float, float>(g, row, column, rows, columns);
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(apply_epilogue);

GemmArguments before_epilogue(const GemmArguments& g) {
    GemmArguments product = g;
    product.epilogue = Epilogue::none;
    if (is_gelu(g.epilogue) && !g.narrow_c) product.bias = nullptr;
    return product;
}

void apply_epilogue(const GemmArguments& g, int64_t row, int64_t column, int64_t rows, int64_t columns) {
    if (g.epilogue != Epilogue::none) HWY_DYNAMIC_DISPATCH(apply_epilogue)(g, row, column, rows, columns);
}

}  // namespace ballast::cpu
#endif
