#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/swiglu.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

template <class T>
void forward(Context& context, const Tensor& out, const Tensor& gate_up) {
    const hn::ScalableTag<Accumulator<T>> d;
    const int64_t features = out.dim(1);
    const Blocks blocks = row_blocks(out.dim(0), features);
    T* to = out.ptr<T>();
    const T* from = gate_up.ptr<T>();
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) {
            const T *gates = from + 2 * n * features, *ups = gates + features;
            for_vectors(d, features, [&](int64_t f, auto lanes) HWY_ATTR {
                const auto gate = load(d, gates + f, lanes);
                const auto silu = hn::Mul(gate, sigmoid(d, gate));
                store(hn::Mul(silu, load(d, ups + f, lanes)), d, to + n * features + f, lanes);
            });
        }
    });
}

/// silu'(z) = s (1 + z (1 - s)), s = sigmoid(z).
template <class T>
void backward(Context& context, const Tensor& d_gate_up, const Tensor& d_out, const Tensor& gate_up) {
    using A = Accumulator<T>;
    const hn::ScalableTag<A> d;
    const int64_t features = d_out.dim(1);
    const Blocks blocks = row_blocks(d_out.dim(0), features);
    T* to = d_gate_up.ptr<T>();
    const T *from = gate_up.ptr<T>(), *gradients = d_out.ptr<T>();
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        const auto one = hn::Set(d, A(1));
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) {
            const int64_t gates = 2 * n * features, ups = gates + features;
            for_vectors(d, features, [&](int64_t f, auto lanes) HWY_ATTR {
                const auto gate = load(d, from + gates + f, lanes), up = load(d, from + ups + f, lanes);
                const auto g = load(d, gradients + n * features + f, lanes), s = sigmoid(d, gate);
                const auto slope = hn::Mul(s, hn::MulAdd(gate, hn::Sub(one, s), one));
                store(hn::Mul(hn::Mul(g, up), slope), d, to + gates + f, lanes);
                store(hn::Mul(g, hn::Mul(gate, s)), d, to + ups + f, lanes);
            });
        }
    });
}

void swiglu_forward(Context& context, const Tensor& out, const Tensor& gate_up) {
    with_compute_type(out.dtype, [&]<class T>(T) { forward<T>(context, out, gate_up); });
}

void swiglu_backward(Context& context, const Tensor& d_gate_up, const Tensor& d_out, const Tensor& gate_up) {
    with_compute_type(d_out.dtype, [&]<class T>(T) { backward<T>(context, d_gate_up, d_out, gate_up); });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(swiglu_forward);
HWY_EXPORT(swiglu_backward);

void swiglu_forward(Context& context, const Tensor& out, const Tensor& gate_up) {
    HWY_DYNAMIC_DISPATCH(swiglu_forward)(context, out, gate_up);
}

void swiglu_backward(Context& context, const Tensor& d_gate_up, const Tensor& d_out, const Tensor& gate_up) {
    HWY_DYNAMIC_DISPATCH(swiglu_backward)(context, d_gate_up, d_out, gate_up);
}

}  // namespace ballast::cpu
#endif
