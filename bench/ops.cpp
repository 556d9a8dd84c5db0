// Times every op on any backend. Each figure is printed with its limit, measured in the same run: the rate of reading
// and writing as many bytes (on a GPU of a large buffer), or the rate of a large square product. Shapes: the
// quickstart's (CPU) and Pythia-160M's (8 x 2048 tokens on a GPU).
//
//   bench_ops --backend cuda --dtype bf16 --json OUT.json
#include <CLI/CLI.hpp>
#include <chrono>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/atomic_file.h"
#include "base/ending.h"
#include "base/json_file.h"
#include "bench/attention_tensors.h"
#include "bench/measure.h"
#include "bench/program.h"
#include "kernels/backend.h"
#include "kernels/ops.h"

namespace {

using namespace ballast;
using namespace ballast::bench;

struct Settings {
    std::string backend = "auto", dtype = "bf16", json, only;
    int threads = 0;
    double seconds = 0.3, budget = 1e9;
    bool smoke = false;
};

/// What an op does at the least: bytes read and written once, and operations.
struct Work {
    double bytes = 0, flops = 0;
};

class Bench {
  public:
    explicit Bench(const Settings& s)
        : settings_(s),
          context_(device_of_backend(s.backend), s.threads),
          x_(s.dtype == "bf16" ? Dtype::bf16 : Dtype::f32),
          acc_(accumulation_dtype(x_)),
          timer_(context_, s.smoke ? 0.0 : s.seconds),
          memory_limit_(context_, s.smoke) {}

    void run() {
        gemm_flops_per_second_ = gemm_limit(context_, x_, settings_.smoke);
        report_["device"] = device_description(context_);
        report_["dtype"] = name_of(x_);
        const double memory = memory_limit_.bytes_per_second();
        report_["limits"] = {{"memory_gbytes_per_s", memory * 1e-9}, {"gemm_gflops", gemm_flops_per_second_ * 1e-9}};
        fmt::print("{}\nlarge buffers at {:.1f} GB/s, {} products at {:.1f} GFLOP/s\n\n", device_description(context_),
                   memory * 1e-9, name_of(x_), gemm_flops_per_second_ * 1e-9);
        report_["ops"] = nlohmann::ordered_json::array();
        report_["attention"] = nlohmann::ordered_json::array();
        const auto wanted = [&](const char* part) { return settings_.only.empty() || settings_.only == part; };
        if (wanted("ops")) all_ops();
        if (wanted("attention")) all_attention();
        if (wanted("attention") || wanted("cached")) all_cached_attention();
        save();
    }

  private:
    bool on_gpu() const { return context_.device() == Device::cuda; }

    void all_ops() {
        if (settings_.smoke) return ops_of({.rows = 24, .C = 16, .H = 2, .V = 48, .parameters = 1 << 10});
        if (!on_gpu()) {
            ops_of({.rows = 1024, .C = 128, .H = 4, .V = 1024, .parameters = 1 << 20});
            ops_of({.rows = 1024, .C = 768, .H = 12, .V = 50304, .parameters = 1 << 25});
        } else {
            ops_of({.rows = 8 * 2048, .C = 768, .H = 12, .V = 50304, .parameters = 162'322'944});
        }
        decode(2048, 12, 64);
    }

    /// SmolLM2-135M's heads and Pythia-160M's.
    void all_cached_attention() {
        if (settings_.smoke) return cached_attention({"smoke", 2, 1, 16}, 100);
        std::vector<int64_t> lengths{1024, 4096, 16384};
        if (on_gpu()) lengths = {4096, 16384, 131072};
        for (const int64_t length : lengths)
            for (const CachedShape& shape : {CachedShape{"smollm2-135m", 9, 3, 64}, {"pythia-160m", 12, 12, 64}})
                cached_attention(shape, length);
    }

    void all_attention() {
        if (!settings_.smoke && !on_gpu()) {
            attention({"quickstart", 8, 128, 4, 32}, Normaliser::off_by_one);
            attention({"pythia-14m", 4, 512, 4, 32}, Normaliser::softmax);
            return attention({"pythia-160m", 1, 1024, 12, 64}, Normaliser::softmax);
        }
        for (const AttentionShape& shape : attention_shapes(settings_.smoke))
            for (const Normaliser normaliser : {Normaliser::softmax, Normaliser::sink_logit})
                attention(shape, normaliser);
    }

    /// Prints and records one measurement, as a share of whichever limit takes longer: that of products, or of memory
    /// for as many bytes.
    nlohmann::ordered_json record(const std::string& name, const std::string& shape, const Work& work,
                                  const Timing& time) {
        const double by_bytes = work.bytes == 0 ? 0 : work.bytes / memory_limit_.bytes_per_second(work.bytes),
                     by_flops = work.flops / gemm_flops_per_second_;
        const bool memory = by_bytes > by_flops;
        const double share = std::max(by_bytes, by_flops) / time.median;
        fmt::print("{:<36} {:<34} {:>10.1f} us (least {:>10.1f})", name, shape, time.median * 1e6, time.least * 1e6);
        if (memory)
            fmt::print("  {:>8.1f} GB/s  ", work.bytes / time.median * 1e-9);
        else
            fmt::print("  {:>8.1f} GFLOP/s", work.flops / time.median * 1e-9);
        fmt::print(" {:>4.0f} % of {}\n", 100 * share, memory ? "memory" : "products");
        std::cout << std::flush;
        return {
            {"name", name},      {"shape", shape},      {"seconds", time.median}, {"least", time.least},
            {"runs", time.runs}, {"bytes", work.bytes}, {"flops", work.flops},    {"limit", memory ? "memory" : "gemm"},
            {"share", share}};
    }
    void op(const std::string& name, const std::string& shape, const Work& work, const std::function<void()>& run) {
        if (out_of_time(name)) return;
        report_["ops"].push_back(record(name, shape, work, timer_(run)));
        save();
    }
    /// After every figure: a run that is stopped leaves what it has.
    void save() const {
        if (!settings_.json.empty()) write_json_file(settings_.json, report_);
    }
    bool out_of_time(const std::string& name) {
        if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count() < settings_.budget)
            return false;
        report_["left_out"].push_back(name);
        return true;
    }

    struct Shape {
        int64_t rows, C, H, V, parameters;
    };
    void ops_of(const Shape& s) {
        const int64_t C = s.C;
        linear(s.rows, C, 3 * C);
        linear(s.rows, C, C);
        linear(s.rows, C, 4 * C);
        linear(s.rows, 4 * C, C);
        cross_entropy(s.rows, C, s.V);
        embedding(s.rows, C, s.V);
        layernorm(s.rows, C);
        mlp(s.rows, C, 4 * C);
        swiglu(s.rows, 4 * C);
        rope(s.rows, s.H, C / s.H);
        clamp(s.rows, 3 * C);
        head_gate(s.rows, s.H, C / s.H);
        optimiser(s.parameters);
    }

    void linear(int64_t N, int64_t I, int64_t O) {
        Tensors t(context_);
        const Tensor x = t.make(x_, {N, I}), w = t.make(x_, {O, I}), bias = t.make(x_, {O}), out = t.make(x_, {N, O}),
                     d_x = t.zeros(x_, {N, I}), d_w = t.zeros(acc_, {O, I}), d_bias = t.zeros(acc_, {O});
        const double flops = 2.0 * static_cast<double>(N) * static_cast<double>(I) * static_cast<double>(O);
        const auto bytes = static_cast<double>(x.bytes() + w.bytes() + out.bytes());
        const std::string shape = fmt::format("{} x {} -> {}", N, I, O);
        op("linear_forward", shape, {bytes, flops}, [&] { ops::linear_forward(context_, out, x, {w, bias}); });
        const double backward = static_cast<double>(out.bytes() + 2 * x.bytes() + w.bytes() + 2 * d_w.bytes());
        op("linear_backward", shape, {backward, 2 * flops},
           [&] { ops::linear_backward(context_, d_x, d_w, d_bias, out, x, w); });
    }

    void cross_entropy(int64_t N, int64_t C, int64_t V) {
        Tensors t(context_);
        const Tensor x = t.make(x_, {N, C}), w = t.make(x_, {V, C}), targets = t.indices({N}, static_cast<int32_t>(V)),
                     losses = t.zeros(acc_, {N}), d_x = t.zeros(x_, {N, C}), d_w = t.zeros(acc_, {V, C});
        const double flops = 2.0 * static_cast<double>(N) * static_cast<double>(C) * static_cast<double>(V);
        op("linear_cross_entropy", fmt::format("{} x {} -> {}", N, C, V), {0, 3 * flops},
           [&] { ops::linear_cross_entropy(context_, losses, d_x, d_w, x, {w, {}}, targets, 1.0 / static_cast<double>(N)); });
    }

    void embedding(int64_t N, int64_t C, int64_t V) {
        Tensors t(context_);
        const Tensor w = t.make(x_, {V, C}), ids = t.indices({N}, static_cast<int32_t>(V)), out = t.make(x_, {N, C}),
                     d_w = t.zeros(acc_, {V, C});
        const auto bytes = static_cast<double>(out.bytes());
        const std::string shape = fmt::format("{} of {} x {}", N, V, C);
        op("embedding_forward", shape, {2 * bytes, 0}, [&] { ops::embedding_forward(context_, out, w, ids); });
        op("embedding_backward", shape,
           {bytes + 2 * static_cast<double>(N * C) * static_cast<double>(size_of(acc_)), 0},
           [&] { ops::embedding_backward(context_, d_w, out, ids); });
    }

    void layernorm(int64_t N, int64_t C) {
        Tensors t(context_);
        const Tensor a = t.make(x_, {N, C}), b = t.make(x_, {N, C}), c = t.make(x_, {N, C}), y = t.zeros(x_, {N, C}),
                     w = t.make(x_, {C}), bias = t.make(x_, {C}), out = t.make(x_, {N, C}), out2 = t.make(x_, {N, C}),
                     mean = t.zeros(acc_, {N}), rstd = t.zeros(acc_, {N}), d_y = t.make(x_, {N, C}),
                     d_w = t.zeros(acc_, {C}), d_b = t.zeros(acc_, {C});
        const std::vector<ops::NormOutput> outputs{{out, w, bias}, {out2, w, bias}};
        const std::vector<ops::NormGradient> gradients{{out, w, d_w, d_b}, {out2, w, d_w, d_b}};
        const auto bytes = static_cast<double>(a.bytes());
        const std::string shape = fmt::format("{} x {}", N, C);
        for (const size_t norms : {1, 2}) {
            const auto of = fmt::format(", {} norm{}", norms, norms == 1 ? "" : "s");
            const auto extra = static_cast<double>(norms);
            const auto to = std::span(outputs).first(norms);
            const auto from = std::span(gradients).first(norms);
            op("layernorm_forward" + of, shape, {(1 + extra) * bytes, 0},
               [&] { ops::residual_norm_forward(context_, {}, to, mean, rstd, a, {}, {}, 1e-5); });
            op("residual_layernorm_forward" + of, shape, {(4 + extra) * bytes, 0},
               [&] { ops::residual_norm_forward(context_, y, to, mean, rstd, a, b, c, 1e-5); });
            op("layernorm_backward" + of, shape, {(3 + extra) * bytes, 0},
               [&] { ops::norm_backward(context_, d_y, from, a, mean, rstd); });
        }
        const std::vector<ops::NormOutput> rms_to{{out, w, {}}};
        const std::vector<ops::NormGradient> rms_from{{out, w, d_w, {}}};
        op("rmsnorm_forward", shape, {2 * bytes, 0},
           [&] { ops::residual_norm_forward(context_, {}, rms_to, {}, rstd, a, {}, {}, 1e-5); });
        op("rmsnorm_backward", shape, {4 * bytes, 0},
           [&] { ops::norm_backward(context_, d_y, rms_from, a, {}, rstd); });
        op("add of three", shape, {4 * bytes, 0}, [&] { ops::add(context_, y, a, b, c); });
    }

    /// On CUDA the tanh kind is an epilogue of the products and the erf kind a pass of its own: the difference is what
    /// the epilogues are worth.
    void mlp(int64_t N, int64_t C, int64_t F) {
        Tensors t(context_);
        const Tensor x = t.make(x_, {N, C}), up = t.make(x_, {F, C}), b = t.make(x_, {F}), pre = t.zeros(x_, {N, F}),
                     hidden = t.zeros(x_, {N, F}), d_out = t.make(x_, {N, C}), down = t.make(x_, {C, F}),
                     d_pre = t.zeros(x_, {N, F}), d_down = t.zeros(acc_, {C, F}), d_bias = t.zeros(acc_, {C});
        const double flops = 2.0 * static_cast<double>(N) * static_cast<double>(C) * static_cast<double>(F);
        const auto bytes = static_cast<double>(x.bytes() + up.bytes() + 2 * pre.bytes());
        const double backward =
            static_cast<double>(2 * d_out.bytes() + down.bytes() + 3 * pre.bytes() + 2 * d_down.bytes());
        for (auto [kind, name] : {std::pair{ops::Gelu::tanh, "tanh"}, std::pair{ops::Gelu::erf, "erf"}}) {
            const std::string shape = fmt::format("{}, {} x {} x {}", name, N, C, F);
            op("linear_gelu_forward", shape, {bytes, flops},
               [&] { ops::linear_gelu_forward(context_, hidden, pre, x, {up, b}, kind); });
            op("gelu_linear_backward", shape, {backward, 2 * flops},
               [&] { ops::gelu_linear_backward(context_, d_pre, d_down, d_bias, d_out, hidden, pre, down, kind); });
        }
    }

    void swiglu(int64_t N, int64_t F) {
        Tensors t(context_);
        const Tensor gate_up = t.make(x_, {N, 2 * F}, 4.0), out = t.make(x_, {N, F}),
                     d_gate_up = t.zeros(x_, {N, 2 * F});
        const auto bytes = static_cast<double>(out.bytes());
        const std::string shape = fmt::format("{} x {}", N, F);
        op("swiglu_forward", shape, {3 * bytes, 0}, [&] { ops::swiglu_forward(context_, out, gate_up); });
        op("swiglu_backward", shape, {5 * bytes, 0}, [&] { ops::swiglu_backward(context_, d_gate_up, out, gate_up); });
    }

    void rope(int64_t N, int64_t H, int64_t D) {
        Tensors t(context_);
        const int64_t R = std::max<int64_t>(2, D / 4);
        const Tensor qkv = t.make(x_, {1, N, 3 * H * D}), table = t.make(acc_, {N, R});
        const auto empty = [&] { return t.zeros(x_, {1, N, H, D}); };
        const Tensor q = empty(), k = empty(), v = empty();
        const std::string shape = fmt::format("{} x 3 x {} x {}", N, H, D);
        const Work work{2 * static_cast<double>(qkv.bytes()), 0};
        op("qkv_split_rope_forward", shape, work,
           [&] { ops::qkv_split_rope_forward(context_, q, k, v, qkv, table, {}); });
        op("qkv_split_rope_backward", shape, work,
           [&] { ops::qkv_split_rope_backward(context_, qkv, q, k, v, table, {}); });
    }

    void clamp(int64_t N, int64_t M) {
        Tensors t(context_);
        const Tensor x = t.make(x_, {N, M}), out = t.zeros(x_, {N, M}), d_out = t.make(x_, {N, M});
        const auto bytes = static_cast<double>(x.bytes());
        const std::string shape = fmt::format("{} x {}", N, M);
        op("clamp_forward", shape, {2 * bytes, 0}, [&] { ops::clamp_forward(context_, out, x, 1.0); });
        op("clamp_backward", shape, {3 * bytes, 0}, [&] { ops::clamp_backward(context_, out, d_out, x, 1.0); });
    }

    void head_gate(int64_t N, int64_t H, int64_t D) {
        Tensors t(context_);
        const Tensor x = t.make(x_, {1, N, H, D}), out = t.zeros(x_, {1, N, H, D}), d_out = t.make(x_, {1, N, H, D}),
                     gate = t.make(x_, {1, N, H}), d_gate = t.zeros(x_, {1, N, H});
        const auto bytes = static_cast<double>(x.bytes());
        const std::string shape = fmt::format("{} x {} x {}", N, H, D);
        op("head_gate_forward", shape, {2 * bytes, 0}, [&] { ops::head_gate_forward(context_, out, x, gate); });
        op("head_gate_backward", shape, {3 * bytes, 0},
           [&] { ops::head_gate_backward(context_, out, d_gate, d_out, x, gate); });
    }

    void optimiser(int64_t P) {
        Tensors t(context_);
        const Tensor master = t.make(acc_, {P}), compute = x_ == acc_ ? Tensor() : t.zeros(x_, {P}),
                     m = t.zeros(acc_, {P}), v = t.zeros(acc_, {P}), g = t.make(acc_, {P}),
                     loss = t.zeros(Dtype::f64, {1}), sums = t.zeros(Dtype::f64, {1}),
                     step = t.zeros(Dtype::u8, {static_cast<int64_t>(sizeof(ops::StepScalars))});
        const ops::StepScalars scalars{.learning_rate = 1e-4, .step = 1};
        context_.copy_from_host(step, &scalars);
        const ops::ParameterSet spans(context_, {{0, P, true}});
        const auto bytes = static_cast<double>(g.bytes());
        const std::string shape = fmt::format("{} parameters", P);
        op("sums_of_squares, global_norm", shape, {bytes, 0}, [&] {
            ops::sums_of_squares(context_, sums, g, spans);
            ops::global_norm(context_, step, sums, loss, 1.0);
        });
        op("adamw", shape, {7 * bytes + static_cast<double>(compute.empty() ? 0 : compute.bytes()), 0},
           [&] { ops::adamw(context_, master, compute, m, v, g, spans, step, {}); });
    }

    void decode(int64_t S, int64_t H, int64_t D) {
        Tensors t(context_);
        const Tensor q = t.make(x_, {1, 1, H, D}), k = t.make(x_, {1, S, H, D}), v = t.make(x_, {1, S, H, D}),
                     out = t.zeros(x_, {1, 1, H, D}), lse = t.zeros(acc_, {1, H, 1});
        ops::AttentionParams params;
        params.scale = 0.125;
        params.mask.query_start = S - 1;
        op("attention, one query", fmt::format("S {} H {} D {}", S, H, D),
           {static_cast<double>(k.bytes() + v.bytes()), 0}, [&] {
               ops::attention_forward(context_, out, lse, {q, k, v, {}}, params);
           });
    }

    struct CachedShape {
        const char* model;
        int64_t H, G, D;
    };
    /// One query of one sequence, all of a bf16 cache visible. A run goes over the caches of so many layers that a
    /// CPU's own cache cannot hold them, as decoding does.
    void cached_attention(const CachedShape& s, int64_t length) {
        constexpr int64_t kTooMuchForCaches = int64_t{1} << 27;
        const int64_t width = (length + ops::kCacheBlockRows - 1) / ops::kCacheBlockRows;
        const int64_t bytes = 2 * s.G * length * s.D * static_cast<int64_t>(size_of(Dtype::bf16));
        const int64_t layers = settings_.smoke || on_gpu() ? 1 : (kTooMuchForCaches + bytes - 1) / bytes;
        const int64_t blocks = layers * s.G * width;
        Tensors t(context_);
        const auto block_rows = [&] { return t.make(Dtype::bf16, {blocks, ops::kCacheBlockRows, s.D}, 2.0); };
        const auto numbers = [&](std::initializer_list<int64_t> shape, const std::vector<int32_t>& values) {
            const Tensor x = t.zeros(Dtype::i32, shape);
            context_.copy_from_host(x, values.data());
            return x;
        };
        std::vector<int32_t> places(static_cast<size_t>(blocks * ops::kCacheBlockRows)),
            order(static_cast<size_t>(blocks));
        for (size_t i = 0; i < places.size(); ++i)
            places[i] = static_cast<int32_t>(i % static_cast<size_t>(width * ops::kCacheBlockRows));
        std::iota(order.begin(), order.end(), 0);
        const std::vector<int32_t> lengths(static_cast<size_t>(s.G), static_cast<int32_t>(length));
        const auto plan = ops::plan_cached_attention(lengths, s.G);
        const Tensor q = t.make(x_, {1, s.H, s.D}), out = t.zeros(x_, {1, s.H, s.D});
        const ops::PagedCache cache{block_rows(), block_rows(), numbers({blocks, ops::kCacheBlockRows}, places)};
        const Tensor table = numbers({layers, s.G, width}, order), length_BG = numbers({1, s.G}, lengths);
        const ops::CachedAttentionWork work{numbers({static_cast<int64_t>(plan.items_N3.size() / 3), 3}, plan.items_N3),
                                            numbers({s.G + 1}, plan.first_BG1)};
        const Tensor position = numbers({1}, {static_cast<int32_t>(length - 1)});
        ops::AttentionParams params;
        params.scale = 1 / std::sqrt(static_cast<double>(s.D));
        op("cached attention, bf16 cache",
           fmt::format("{}: {} x S {} H {} G {} D {}", s.model, layers, length, s.H, s.G, s.D),
           {static_cast<double>(layers * bytes), 0}, [&] {
               for (int64_t layer = 0; layer < layers; ++layer)
                   ops::cached_attention_forward(context_, out, q, {}, cache,
                                                 {table.slice(0, layer, layer + 1), length_BG}, position, work, params);
           });
    }

    void attention(const AttentionShape& s, Normaliser normaliser) {
        const std::string shape = fmt::format("{}: B {} T {} H {} D {}", s.model, s.B, s.T, s.H, s.D);
        const std::string sink(kNormaliserNames[static_cast<size_t>(normaliser)]);
        if (out_of_time("attention " + shape + ", " + sink)) return;
        const AttentionTensors x(context_, s, x_, normaliser);
        const auto add = [&](const char* direction, double flops, const auto& run) {
            report_["attention"].push_back(
                record(std::string("attention_") + direction + ", " + sink, shape, {0, flops}, timer_(run)));
            auto& line = report_["attention"].back();
            line.update({{"model", s.model},
                         {"B", s.B},
                         {"T", s.T},
                         {"H", s.H},
                         {"D", s.D},
                         {"direction", direction},
                         {"normaliser", sink}});
            save();
            if (context_.device() == Device::cpu) return;
            context_.set_attention_kernels(AttentionKernels::mma);
            line["mma_seconds"] = timer_(run).median;
            context_.set_attention_kernels(AttentionKernels::automatic);
            save();
        };
        add("forward", s.forward_flops(), [&] { x.forward(context_); });
        add("backward", s.backward_flops(), [&] { x.backward(context_); });
    }

    Settings settings_;
    Context context_;
    Dtype x_, acc_;
    Timer timer_;
    MemoryLimit memory_limit_;
    double gemm_flops_per_second_ = 0;
    nlohmann::ordered_json report_;
    std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

int main(int argc, char** argv) {
    Settings s;
    CLI::App app("Times every op beside the limits measured in the same run", "bench_ops");
    app.add_option("--backend", s.backend, "cpu, cuda, simt or auto")->check(CLI::IsMember(kBackendNames));
    app.add_option("--dtype", s.dtype, "f32 or bf16")->check(CLI::IsMember({"f32", "bf16"}));
    app.add_option("--threads", s.threads, "0: all");
    app.add_option("--only", s.only, "ops, attention or, a part of that, cached")
        ->check(CLI::IsMember({"ops", "attention", "cached"}));
    app.add_option("--seconds", s.seconds, "for each measurement");
    app.add_option("--budget", s.budget, "seconds in all; what does not fit is named in left_out");
    app.add_option("--json", s.json, "write the figures there");
    app.add_flag("--smoke", s.smoke, "tiny shapes, one run each: shows that everything works, measures nothing");
    return bench::run_benchmark(app, argc, argv, [&] {
        if (!s.json.empty()) require_writable(s.json);
        Bench(s).run();
        return exit_code::kDone;
    });
}
