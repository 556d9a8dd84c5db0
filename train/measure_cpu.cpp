// The rates of this CPU, at the shapes of a run.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "base/arena.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "model/block.h"
#include "train/machine.h"

namespace ballast::train {
namespace {

/// The median of runs that go on for about `limit` seconds, at least three; the first is left out.
double seconds_of(const std::function<void()>& run, double limit) {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point begin) {
        return std::chrono::duration<double>(Clock::now() - begin).count();
    };
    run();
    std::vector<double> times;
    for (const auto start = Clock::now(); times.size() < 3 || since(start) < limit;) {
        const auto begin = Clock::now();
        run();
        times.push_back(since(begin));
    }
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
}

/// FLOP/s of a layer's up projection, forward and both gradients, on the rows of a pass.
double product_rate(Context& context, const RunConfig& config) {
    const int64_t N = config.samples_per_pass() * config.train.sequence_length, C = config.model.hidden_size,
                  U = config.model.mlp_up_dim();
    const Dtype dtype = config.train.dtype, acc = accumulation_dtype(dtype);
    Tensor x, weight, out, d_x, d_weight;
    const auto layout = [&](Arena& arena) {
        x = arena.tensor(dtype, {N, C});
        weight = arena.tensor(dtype, {U, C});
        out = arena.tensor(dtype, {N, U});
        d_x = arena.tensor(dtype, {N, C});
        d_weight = arena.tensor(acc, {U, C});
    };
    Arena plan;
    layout(plan);
    const DeviceBuffer buffer = context.allocate(plan.peak_bytes());
    Arena arena(buffer.data(), buffer.bytes());
    layout(arena);
    const double seconds = seconds_of(
        [&] {
            ops::linear_forward(context, out, x, {weight, {}});
            ops::linear_backward(context, d_x, d_weight, Tensor{}, out, x, weight);
        },
        0.3);
    return 6.0 * static_cast<double>(N * C * U) / seconds;
}

/// FLOP/s of causal attention on one sample, forward and backward: 2 and 5 products of half a square.
double attention_rate(Context& context, const RunConfig& config) {
    const int64_t T = config.train.sequence_length, H = config.model.num_heads, D = config.model.head_dim();
    Arena plan;
    const auto layout = [&](Arena& arena) {
        return std::pair(model::LayerActivations(arena, config.model, config.train.dtype, 1, T),
                         model::BlockGradients(arena, config.model, config.train.dtype, 1, T));
    };
    layout(plan);
    const DeviceBuffer buffer = context.allocate(plan.peak_bytes());
    Arena arena(buffer.data(), buffer.bytes());
    const auto [a, g] = layout(arena);
    ops::AttentionParams params;
    params.scale = 1.0 / std::sqrt(static_cast<double>(D));
    const double seconds = seconds_of(
        [&] {
            ops::attention_forward(context, a.attention_out, a.lse, {a.q, a.k, a.v, Tensor{}}, params);
            ops::attention_backward(context, {g.d_q, g.d_k, g.d_v, Tensor{}, Tensor{}}, g.d_attention_out,
                                    a.attention_out, a.lse, {a.q, a.k, a.v, Tensor{}}, params);
        },
        0.3);
    return 7.0 * static_cast<double>(T * T * H * D) / seconds;
}

/// Bytes read plus bytes written a second by a copy that no cache holds.
double copy_rate(Context& context) {
    constexpr int64_t kFloats = int64_t{1} << 24;
    const DeviceBuffer buffer = context.allocate(2 * kFloats * sizeof(float));
    const Tensor both(buffer.data(), Dtype::f32, {2 * kFloats});
    const double seconds =
        seconds_of([&] { ops::copy(context, both.slice(0, 0, kFloats), both.slice(0, kFloats, 2 * kFloats)); }, 0.3);
    return 2.0 * kFloats * sizeof(float) / seconds;
}

}  // namespace

Machine measure_cpu(Context& context, const RunConfig& config) {
    require(context.device() == Device::cpu, "a GPU is not measured here");
    const double products = product_rate(context, config);
    return {.name = cpu_features().model,
            .flops = products,
            .bandwidth = copy_rate(context),
            .memory = static_cast<double>(memory_size().total),
            .product_share = 1,
            .attention_share = attention_rate(context, config) / products,
            .memory_share = 1,
            .source = "measured just now",
            .shares = "rates as attained"};
}

}  // namespace ballast::train
