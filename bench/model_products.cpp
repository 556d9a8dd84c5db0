#include "bench/model_products.h"

#include <dlfcn.h>
#include <omp.h>

#include <functional>
#include <limits>
#include <thread>

#include "bench/measure.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/onednn.h"
#include "kernels/ops.h"

namespace ballast::bench {
namespace {

using model::Product;
using Kind = Product::Kind;

/// C[m × n] = A B, row-major; a transposed operand is stored the other way round.
struct Operands {
    int64_t m, n, k;
    bool a_transposed, b_transposed;
    Tensor a, b, c;
};

Operands make_operands(Tensors& tensors, const Product& p, Dtype dtype) {
    const Dtype acc = accumulation_dtype(dtype);
    const auto x = [&] { return tensors.make(dtype, {p.rows, p.inputs}); };
    const auto weight = [&] { return tensors.make(dtype, {p.outputs, p.inputs}); };
    const auto d_out = [&] { return tensors.make(dtype, {p.rows, p.outputs}); };
    switch (p.kind) {
        case Kind::forward:
            return {p.rows, p.outputs, p.inputs, false, true, x(), weight(), tensors.zeros(dtype, {p.rows, p.outputs})};
        case Kind::d_x:
            return {p.rows, p.inputs, p.outputs, false,
                    false,  d_out(),  weight(),  tensors.zeros(dtype, {p.rows, p.inputs})};
        case Kind::d_weight: break;
    }
    return {p.outputs, p.inputs, p.rows, true, false, d_out(), x(), tensors.zeros(acc, {p.outputs, p.inputs})};
}

/// oneDNN as it is: the whole product at once, on its own threads.
void onednn(const Operands& o) {
    const cpu::MatmulShape shape{o.a.dtype,
                                 o.c.dtype,
                                 o.m,
                                 o.n,
                                 o.k,
                                 o.a_transposed ? 1 : o.k,
                                 o.a_transposed ? o.m : 1,
                                 o.b_transposed ? 1 : o.n,
                                 o.b_transposed ? o.k : 1,
                                 o.n,
                                 false,
                                 false};
    if (o.a.dtype == Dtype::f32)
        cpu::onednn_sgemm(shape, o.a.ptr<float>(), o.b.ptr<float>(), o.c.ptr<float>());
    else
        cpu::onednn_matmul(shape, o.a.data, o.b.data, nullptr, o.c.data);
}

/// libopenblas, if this machine has it.
class OpenBlas {
  public:
    OpenBlas() {
        void* library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) return;
        sgemm_ = reinterpret_cast<Sgemm>(dlsym(library, "cblas_sgemm"));
        set_threads_ = reinterpret_cast<SetThreads>(dlsym(library, "openblas_set_num_threads"));
    }
    bool found() const { return sgemm_ != nullptr && set_threads_ != nullptr; }
    void operator()(const Operands& o, int threads) const {
        constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
        set_threads_(threads);
        const auto m = static_cast<int>(o.m), n = static_cast<int>(o.n), k = static_cast<int>(o.k);
        sgemm_(kRowMajor, o.a_transposed ? kTransposed : kPlain, o.b_transposed ? kTransposed : kPlain, m, n, k, 1,
               o.a.ptr<float>(), o.a_transposed ? m : k, o.b.ptr<float>(), o.b_transposed ? k : n, 0, o.c.ptr<float>(),
               n);
    }

  private:
    using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*,
                           int);
    using SetThreads = void (*)(int);
    Sgemm sgemm_ = nullptr;
    SetThreads set_threads_ = nullptr;
};

/// The product as the step has it done.
void ours(Context& context, const Operands& o) {
    cpu::gemm(context, {.dtype = o.a.dtype,
                        .m = o.m,
                        .n = o.n,
                        .k = o.k,
                        .a = {o.a.data, o.a_transposed ? 1 : o.k, o.a_transposed ? o.m : 1},
                        .b = {o.b.data, o.b_transposed ? 1 : o.n, o.b_transposed ? o.k : 1},
                        .c = o.c.data,
                        .narrow_c = o.c.dtype == Dtype::bf16});
}

}  // namespace

std::vector<MeasuredProduct> measure_products(Context& context, const std::vector<Product>& products,
                                              Dtype dtype) {
    const OpenBlas openblas;
    std::vector<MeasuredProduct> measured;
    for (const Product& p : products) {
        Tensors tensors(context);
        const Operands o = make_operands(tensors, p, ops::product_dtype(context, dtype));
        MeasuredProduct best{p, "", std::numeric_limits<double>::infinity()};
        const auto attempt = [&](const char* library, const std::function<void()>& run) {
            const double seconds = Timer(context, 0.1)(run).least;
            if (seconds < best.seconds) best = {p, library, seconds};
        };
        attempt("ours", [&] { ours(context, o); });
        // oneDNN takes OpenMP's threads. Its wrapper asks for one, once a thread; here a thread of our own takes all.
        std::thread([&] {
            onednn(o);
            omp_set_num_threads(context.pool().num_threads());
            attempt("oneDNN", [&] { onednn(o); });
        }).join();
        if (openblas.found() && o.a.dtype == Dtype::f32)
            attempt("OpenBLAS", [&] { openblas(o, context.pool().num_threads()); });
        measured.push_back(best);
    }
    return measured;
}

double weighted_rate(const std::vector<MeasuredProduct>& measured) {
    double flops = 0, seconds = 0;
    for (const auto& [product, library, time] : measured) {
        flops += product.flops() * static_cast<double>(product.count);
        seconds += time * static_cast<double>(product.count);
    }
    return flops / seconds;
}

}  // namespace ballast::bench
