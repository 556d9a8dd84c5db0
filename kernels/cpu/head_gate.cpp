// A gate for every head: out = x s(g), s(g) = 1 / (1 + e^-g). Backward: d_x = d_out s(g), and with s' = s (1 - s) d_g =
// s' sum over D of d_out x. A row is the D features of one head and token.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/head_gate.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// body(row, s(gate of the row), the row's first element), in tasks of rows.
template <class T, class Body>
void for_rows(Context& context, const Tensor& x, const Tensor& gate, const Body& body) {
    using A = Accumulator<T>;
    const int64_t dims = x.dim(3);
    const T* gates = gate.ptr<T>();
    const Blocks blocks = row_blocks(gate.numel(), dims);
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
            body(n, sigmoid_of(static_cast<A>(gates[n])), n * dims);
    });
}

void head_gate_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& gate) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        const hn::ScalableTag<Accumulator<T>> d;
        T* to = out.ptr<T>();
        const T* from = x.ptr<T>();
        for_rows<T>(context, x, gate, [&](int64_t, Accumulator<T> s, int64_t at) HWY_ATTR {
            for_vectors(d, x.dim(3), [&](int64_t i, auto lanes) HWY_ATTR {
                store(hn::Mul(load(d, from + at + i, lanes), hn::Set(d, s)), d, to + at + i, lanes);
            });
        });
    });
}

void head_gate_backward(Context& context, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_out, const Tensor& x,
                        const Tensor& gate) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const hn::ScalableTag<A> d;
        T *to = d_x.ptr<T>(), *to_gate = d_gate.ptr<T>();
        const T *from = x.ptr<T>(), *gradient = d_out.ptr<T>();
        for_rows<T>(context, x, gate, [&](int64_t n, A s, int64_t at) HWY_ATTR {
            const A sum = reduce_sum<A>(x.dim(3), [&](int64_t i, auto lanes) HWY_ATTR {
                return hn::Mul(load(d, gradient + at + i, lanes), load(d, from + at + i, lanes));
            });
            to_gate[n] = static_cast<T>(sum * s * (A(1) - s));
            for_vectors(d, x.dim(3), [&](int64_t i, auto lanes) HWY_ATTR {
                store(hn::Mul(load(d, gradient + at + i, lanes), hn::Set(d, s)), d, to + at + i, lanes);
            });
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(head_gate_forward);
HWY_EXPORT(head_gate_backward);

void head_gate_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& gate) {
    HWY_DYNAMIC_DISPATCH(head_gate_forward)(context, out, x, gate);
}

void head_gate_backward(Context& context, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_out, const Tensor& x,
                        const Tensor& gate) {
    HWY_DYNAMIC_DISPATCH(head_gate_backward)(context, d_x, d_gate, d_out, x, gate);
}

}  // namespace ballast::cpu
#endif
