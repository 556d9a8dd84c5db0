// Times the ops on the shapes of the quickstart model (4 layers, C 128, 4 heads of 32, F 512, V 1024, 8 × 128 tokens) and
// of Pythia-160M (C 768, 12 heads of 64, F 3072, V 50304). Beside each figure stands its limit, measured in the same run:
// the rate of a large square product, and of adding long arrays.
//
//   bench_ops [threads] [f32|bf16]

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace {

using namespace ballast;

/// Best of the runs within about a third of a second: the machine's other work only ever adds time.
double seconds(const std::function<void()>& run) {
    using Clock = std::chrono::steady_clock;
    double best = 1e9;
    const auto end = Clock::now() + std::chrono::milliseconds(300);
    do {
        const auto start = Clock::now();
        run();
        best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    } while (Clock::now() < end);
    return best;
}

class Bench {
  public:
    Bench(int threads, Dtype dtype) : context_(Device::cpu, threads), x_(dtype), acc_(accumulation_dtype(dtype)) {}

    void run() {
        measure_limits();
        for (auto [i, o] : {std::pair<int64_t, int64_t>{128, 384}, {128, 128}, {128, 512}, {512, 128}}) linear(1024, i, o);
        for (auto [i, o] : {std::pair<int64_t, int64_t>{768, 2304}, {768, 768}, {768, 3072}, {3072, 768}}) linear(1024, i, o);
        attention(8, 128, 4, 32);
        attention(1, 1024, 12, 64);
        decode(2048, 12, 64);
        cross_entropy(1024, 128, 1024);
        cross_entropy(512, 768, 50304);
        rows(1024, 128);
        rows(2048, 768);
        gelu(1024, 512);
        gelu(2048, 3072);
        rope(8, 128, 4, 32);
        optimiser(1 << 20);
        optimiser(32 << 20);
    }

  private:
    Tensor tensor(Dtype dtype, std::initializer_list<int64_t> shape, double spread = 0.5) {
        Tensor t(nullptr, dtype, shape);
        buffers_.push_back(context_.allocate(t.bytes()));
        t.data = buffers_.back().data();
        if (dtype == Dtype::i32) return t;
        std::vector<double> values(static_cast<size_t>(t.numel()));
        uint64_t state = 1;  // any numbers will do, so long as none is special
        for (double& v : values) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            v = spread * (static_cast<double>(state >> 11) * 0x1p-53 - 0.5);
        }
        ops::cast(context_, t, Tensor(values.data(), Dtype::f64, {t.numel()}));
        return t;
    }

    void measure_limits() {
        const int64_t n = 1536;
        const Tensor a = tensor(Dtype::f32, {n, n}), b = tensor(Dtype::f32, {n, n}), c = tensor(Dtype::f32, {n, n});
        peak_flops_ = 2.0 * n * n * n / seconds([&] { ops::linear_forward(context_, c, a, b, {}); });
        const int64_t long_n = 16 << 20;
        const Tensor x = tensor(Dtype::f32, {long_n}), y = tensor(Dtype::f32, {long_n}), z = tensor(Dtype::f32, {long_n});
        peak_bytes_ = 12.0 * long_n / seconds([&] { ops::add(context_, z, x, y); });
        fmt::print("{} threads, {}. Limits: {:.1f} GFLOP/s (f32 product of {}), {:.1f} GB/s (a + b of {} MiB)\n\n",
                   context_.pool().num_threads(), name_of(x_), peak_flops_ * 1e-9, n, peak_bytes_ * 1e-9, long_n >> 18);
        buffers_.clear();
    }

    void print(const std::string& what, double time, double flops, double bytes) {
        fmt::print("{:<42} {:>10.1f} us", what, time * 1e6);
        if (flops > 0) fmt::print("  {:>7.1f} GFLOP/s ({:>3.0f} %)", flops / time * 1e-9, 100 * flops / time / peak_flops_);
        if (bytes > 0) fmt::print("  {:>7.1f} GB/s ({:>3.0f} %)", bytes / time * 1e-9, 100 * bytes / time / peak_bytes_);
        fmt::print("\n");
    }

    void linear(int64_t N, int64_t I, int64_t O) {
        const Tensor x = tensor(x_, {N, I}), w = tensor(x_, {O, I}), bias = tensor(x_, {O}), out = tensor(x_, {N, O}),
                     d_x = tensor(x_, {N, I}), d_w = tensor(acc_, {O, I}), d_bias = tensor(acc_, {O});
        const double flops = 2.0 * static_cast<double>(N) * static_cast<double>(I) * static_cast<double>(O);
        const std::string shape = fmt::format("{} x {} -> {}", N, I, O);
        print("linear forward " + shape, seconds([&] { ops::linear_forward(context_, out, x, w, bias); }), flops, 0);
        print("linear backward " + shape,
              seconds([&] { ops::linear_backward(context_, d_x, d_w, d_bias, out, x, w); }), 2 * flops, 0);
        buffers_.clear();
    }

    void attention(int64_t B, int64_t T, int64_t H, int64_t D) {
        const auto make = [&] { return tensor(x_, {B, T, H, D}); };
        const ops::AttentionInputs in{make(), make(), make(), {}};
        const Tensor out = make(), d_out = make(), d_q = make(), d_k = make(), d_v = make(), lse = tensor(acc_, {B, H, T});
        ops::AttentionParams params;
        params.scale = 0.125;
        params.normaliser = Normaliser::off_by_one;
        // Two products of 2 T² D / 2 (causal) forward, five backward.
        const double product = static_cast<double>(B * H) * static_cast<double>(T * T) * static_cast<double>(D);
        const std::string shape = fmt::format("B {} T {} H {} D {}", B, T, H, D);
        print("attention forward " + shape, seconds([&] { ops::attention_forward(context_, out, lse, in, params); }), 2 * product, 0);
        print("attention backward " + shape, seconds([&] {
                  ops::attention_backward(context_, {d_q, d_k, d_v, {}, {}}, d_out, out, lse, in, params);
              }), 5 * product, 0);
        buffers_.clear();
    }

    void decode(int64_t S, int64_t H, int64_t D) {
        const Tensor q = tensor(x_, {1, 1, H, D}), k = tensor(x_, {1, S, H, D}), v = tensor(x_, {1, S, H, D}),
                     out = tensor(x_, {1, 1, H, D}), lse = tensor(acc_, {1, H, 1});
        ops::AttentionParams params;
        params.scale = 0.125;
        params.mask.query_start = S - 1;
        print(fmt::format("attention decode S {} H {} D {}", S, H, D),
              seconds([&] { ops::attention_forward(context_, out, lse, {q, k, v, {}}, params); }), 0,
              static_cast<double>(k.bytes() + v.bytes()));
        buffers_.clear();
    }

    void cross_entropy(int64_t N, int64_t C, int64_t V) {
        const Tensor x = tensor(x_, {N, C}), w = tensor(x_, {V, C}), targets = tensor(Dtype::i32, {N}), losses = tensor(acc_, {N}),
                     d_x = tensor(x_, {N, C}), d_w = tensor(acc_, {V, C});
        const double flops = 2.0 * static_cast<double>(N) * static_cast<double>(C) * static_cast<double>(V);
        print(fmt::format("linear_cross_entropy {} x {} -> {}", N, C, V), seconds([&] {
                  ops::linear_cross_entropy(context_, losses, d_x, d_w, x, w, targets, 1.0);
              }), 3 * flops, 0);
        buffers_.clear();
    }

    void rows(int64_t N, int64_t C) {
        const Tensor x = tensor(x_, {N, C}), w = tensor(x_, {C}), b = tensor(x_, {C}), out = tensor(x_, {N, C}),
                     mean = tensor(acc_, {N}), rstd = tensor(acc_, {N}), d_x = tensor(x_, {N, C}), d_w = tensor(acc_, {C}),
                     d_b = tensor(acc_, {C});
        const auto bytes = static_cast<double>(x.bytes());
        const std::string shape = fmt::format("{} x {}", N, C);
        print("layernorm forward " + shape,
              seconds([&] { ops::layernorm_forward(context_, out, mean, rstd, x, w, b, 1e-5); }), 0, 2 * bytes);
        print("layernorm backward " + shape, seconds([&] {
                  ops::layernorm_backward(context_, d_x, d_w, d_b, out, x, w, mean, rstd);
              }), 0, 4 * bytes);
        print("add of three " + shape, seconds([&] { ops::add(context_, d_x, x, out, d_x); }), 0, 4 * bytes);
        buffers_.clear();
    }

    void gelu(int64_t N, int64_t F) {
        const Tensor x = tensor(x_, {N, F}), b = tensor(x_, {F}), out = tensor(x_, {N, F}), d_x = tensor(x_, {N, F}),
                     d_b = tensor(acc_, {F});
        const auto bytes = static_cast<double>(x.bytes());
        for (auto [kind, name] : {std::pair{ops::Gelu::tanh, "tanh"}, std::pair{ops::Gelu::erf, "erf"}}) {
            const std::string what = fmt::format("{} {} x {}", name, N, F);
            print("bias_gelu forward " + what, seconds([&] { ops::bias_gelu_forward(context_, out, x, b, kind); }), 0, 2 * bytes);
            print("bias_gelu backward " + what,
                  seconds([&] { ops::bias_gelu_backward(context_, d_x, d_b, out, x, b, kind); }), 0, 3 * bytes);
        }
        buffers_.clear();
    }

    void rope(int64_t B, int64_t T, int64_t H, int64_t D) {
        const Tensor qkv = tensor(x_, {B, T, 3 * H * D}), table = tensor(acc_, {T, D / 4});
        const auto make = [&] { return tensor(x_, {B, T, H, D}); };
        const Tensor q = make(), k = make(), v = make();
        print(fmt::format("qkv_split_rope B {} T {} H {} D {}", B, T, H, D),
              seconds([&] { ops::qkv_split_rope_forward(context_, q, k, v, qkv, table, {}); }), 0,
              2 * static_cast<double>(qkv.bytes()));
        buffers_.clear();
    }

    void optimiser(int64_t P) {
        const Tensor master = tensor(acc_, {P}), m = tensor(acc_, {P}), v = tensor(acc_, {P}, 0.0), g = tensor(acc_, {P}),
                     loss = tensor(Dtype::f64, {1}), sums = tensor(Dtype::f64, {1});
        ops::StepScalars scalars{.learning_rate = 1e-4, .step = 1};
        const Tensor step(&scalars, Dtype::u8, {static_cast<int64_t>(sizeof scalars)});
        const ops::ParameterSet spans(context_, {{0, P, true}});
        const auto bytes = static_cast<double>(g.bytes());
        print(fmt::format("global_norm {}", P), seconds([&] { ops::global_norm(context_, step, sums, g, spans, loss, 1.0); }), 0, bytes);
        print(fmt::format("adamw {}", P), seconds([&] { ops::adamw(context_, master, {}, m, v, g, spans, step, {}); }), 0, 7 * bytes);
        buffers_.clear();
    }

    Context context_;
    Dtype x_, acc_;
    std::vector<DeviceBuffer> buffers_;
    double peak_flops_ = 1, peak_bytes_ = 1;
};

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
    const bool narrow = argc > 2 && std::string(argv[2]) == "bf16";
    Bench(threads, narrow ? ballast::Dtype::bf16 : ballast::Dtype::f32).run();
}
