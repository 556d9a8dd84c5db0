#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

template <class T> void add_elements(Context& context, const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& c) {
    const hn::ScalableTag<Accumulator<T>> d;
    T* to = out.ptr<T>();
    const T *x = a.ptr<T>(), *y = b.ptr<T>(), *z = c.empty() ? nullptr : c.ptr<T>();
    const Blocks blocks{out.numel(), kTaskElements};
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        const int64_t first = blocks.begin(block);
        for_vectors(d, blocks.end(block) - first, [&](int64_t i, auto lanes) HWY_ATTR {
            auto sum = hn::Add(load(d, x + first + i, lanes), load(d, y + first + i, lanes));
            if (z != nullptr) sum = hn::Add(sum, load(d, z + first + i, lanes));
            store(sum, d, to + first + i, lanes);
        });
    });
}

void add(Context& context, const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& c) {
    with_compute_type(out.dtype, [&]<class T>(T) { add_elements<T>(context, out, a, b, c); });
}

/// f32 <-> bf16 on vectors; doubles are for tests and go one by one.
HWY_INLINE void convert(float* to, const bf16* from, int64_t count) {
    const hn::ScalableTag<float> d;
    for_vectors(d, count, [&](int64_t i, auto lanes) HWY_ATTR { store(load(d, from + i, lanes), d, to + i, lanes); });
}
HWY_INLINE void convert(bf16* to, const float* from, int64_t count) {
    const hn::ScalableTag<float> d;
    for_vectors(d, count, [&](int64_t i, auto lanes) HWY_ATTR { store(load(d, from + i, lanes), d, to + i, lanes); });
}
template <class To, class From> HWY_INLINE void convert(To* to, const From* from, int64_t count) {
    using A = Accumulator<To>;
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(static_cast<A>(static_cast<Accumulator<From>>(from[i])));
}

void cast(Context& context, const Tensor& out, const Tensor& in) {
    with_compute_type(out.dtype, [&]<class To>(To) {
        with_compute_type(in.dtype, [&]<class From>(From) {
            To* to = out.ptr<To>();
            const From* from = in.ptr<From>();
            const Blocks blocks{out.numel(), kTaskElements};
            context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
                const int64_t first = blocks.begin(block);
                convert(to + first, from + first, blocks.end(block) - first);
            });
        });
    });
}

void sum(Context& context, const Tensor& out, const Tensor& x) {
    const Blocks blocks{x.numel(), kTaskElements};
    Scratch::Block scratch(context.scratch(), static_cast<size_t>(blocks.size()) * sizeof(double));
    double* partials = static_cast<double*>(scratch.data());
    with_accumulation_type(x.dtype, [&]<class A>(A) {
        const A* from = x.ptr<A>();
        context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
            const int64_t first = blocks.begin(block);
            partials[block] = reduce_sum<double>(blocks.end(block) - first, [&](int64_t i, auto lanes) HWY_ATTR {
                return load_as_double(hn::ScalableTag<double>(), from + first + i, lanes);
            });
        });
    });
    double total = 0;
    for (int64_t i = 0; i < blocks.size(); ++i) total += partials[i];
    *out.ptr<double>() = total;
}

/// body(i, lanes) for vectors of [0, count), in tasks of whole blocks.
template <class D, class Body>
void for_elements(Context& context, D d, int64_t count, const Body& body) {
    const Blocks blocks{count, kTaskElements};
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        const int64_t first = blocks.begin(block);
        for_vectors(d, blocks.end(block) - first, [&](int64_t i, auto lanes) HWY_ATTR { body(first + i, lanes); });
    });
}

void clamp_forward(Context& context, const Tensor& out, const Tensor& x, double limit) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        const hn::ScalableTag<Accumulator<T>> d;
        T* to = out.ptr<T>();
        const T* from = x.ptr<T>();
        for_elements(context, d, x.numel(), [&](int64_t i, auto lanes) HWY_ATTR {
            const auto v = load(d, from + i, lanes);
            const auto high = hn::Set(d, static_cast<Accumulator<T>>(limit)), low = hn::Neg(high);
            const auto clipped = hn::IfThenElse(hn::Lt(v, low), low, hn::IfThenElse(hn::Lt(high, v), high, v));
            store(clipped, d, to + i, lanes);
        });
    });
}

void clamp_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& x, double limit) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        const hn::ScalableTag<Accumulator<T>> d;
        T* to = d_x.ptr<T>();
        const T *from = x.ptr<T>(), *gradient = d_out.ptr<T>();
        for_elements(context, d, x.numel(), [&](int64_t i, auto lanes) HWY_ATTR {
            const auto passes =
                hn::Le(hn::Abs(load(d, from + i, lanes)), hn::Set(d, static_cast<Accumulator<T>>(limit)));
            store(hn::IfThenElseZero(passes, load(d, gradient + i, lanes)), d, to + i, lanes);
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(add);
HWY_EXPORT(cast);
HWY_EXPORT(sum);
HWY_EXPORT(clamp_forward);
HWY_EXPORT(clamp_backward);

void add(Context& context, const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& c) {
    HWY_DYNAMIC_DISPATCH(add)(context, out, a, b, c);
}

void cast(Context& context, const Tensor& out, const Tensor& in) { HWY_DYNAMIC_DISPATCH(cast)(context, out, in); }

void sum(Context& context, const Tensor& out, const Tensor& x) { HWY_DYNAMIC_DISPATCH(sum)(context, out, x); }

void clamp_forward(Context& context, const Tensor& out, const Tensor& x, double limit) {
    HWY_DYNAMIC_DISPATCH(clamp_forward)(context, out, x, limit);
}

void clamp_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& x, double limit) {
    HWY_DYNAMIC_DISPATCH(clamp_backward)(context, d_x, d_out, x, limit);
}

void copy(Context& context, const Tensor& out, const Tensor& in) {
    const int last = out.rank - 1;
    const int64_t width = last < 0 ? 1 : out.dim(last);
    const int64_t rows = width == 0 ? 0 : out.numel() / width;
    const size_t unit = size_of(out.dtype);
    const Blocks blocks = row_blocks(rows, width);
    context.pool().parallel_for(blocks.size(), [&](int64_t block) {
        for (int64_t r = blocks.begin(block); r < blocks.end(block); ++r) {
            int64_t rest = r, to = 0, from = 0;
            for (int d = last - 1; d >= 0; --d) {
                const int64_t i = rest % out.dim(d);
                rest /= out.dim(d);
                to += i * out.stride[static_cast<size_t>(d)];
                from += i * in.stride[static_cast<size_t>(d)];
            }
            std::memmove(static_cast<char*>(out.data) + to * static_cast<int64_t>(unit),
                         static_cast<const char*>(in.data) + from * static_cast<int64_t>(unit),
                         static_cast<size_t>(width) * unit);
        }
    });
}

}  // namespace ballast::cpu
#endif
