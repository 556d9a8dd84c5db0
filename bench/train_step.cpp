// Times a training step of `ballast train` on random tokens: tokens per second, memory compared with the plan, and the
// share of the rate of matrix products on this machine. On a CPU that is the rate of the model's own products, each
// with the fastest available library; on a GPU that of a large square product, and MFU.
//
//   bench_train_step --shape pythia-160m --dtype bf16 --batch 1 --seq 1024 --threads 2 --json OUT.json
//   bench_train_step --shape pythia-160m --dtype bf16 --batch 8 --seq 2048 --backend cuda --json OUT.json
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/measure.h"
#include "bench/model_products.h"
#include "bench/program.h"
#include "kernels/backend.h"
#include "model/transformer.h"
#include "train/memory_plan.h"
#include "train/train_step.h"

namespace {

using namespace ballast;

struct Settings : bench::ModelSettings {
    int64_t batch = 8, length = 2048;
    int steps = 10;
    double seconds = 20;
    bool smoke = false;
};

train::RunConfig config_of(const Settings& s) {
    auto config = bench::config_of(s);
    if (s.smoke) {
        config.model.num_layers = 2;
        config.model.hidden_size = 32;
        config.model.num_heads = 2;
        config.model.vocab_size = 128;
    }
    config.data.validation = "";  // only the step is measured, and its plan
    config.sample.every = 0;
    config.train.dtype = bench::dtype_of_option(s.dtype);
    config.train.sequence_length = s.length;
    config.model.max_position_embeddings = std::max(config.model.max_position_embeddings, s.length);
    config.train.global_batch = config.train.micro_batch = s.batch;
    return config;
}

/// A model and its update, over the same random tokens every time.
class Step {
  public:
    Step(Context& context, const train::RunConfig& config)
        : context_(context),
          model_(context, config.model, config.train.dtype),
          optimizer_((model_.weights().initialise(context, 1234), context), model_.weights(), {}, 1.0),
          step_(context, model_, optimizer_, config) {
        std::vector<int32_t> windows(
            static_cast<size_t>(config.train.global_batch * (config.train.sequence_length + 1)));
        uint64_t state = 1;
        for (int32_t& id : windows) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            id = static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(config.model.vocab_size));
        }
        step_.load(windows, {});
        losses_ = Tensor(loss_.data(), Dtype::f64, {1});
        context.synchronise();
    }

    void queue() {
        optimizer_.set_scalars(++updates_, 1e-4);
        step_.run();
    }
    /// The update alone: norm and AdamW.
    void queue_update() {
        optimizer_.queue_update(model_.weights(), losses_);
        context_.synchronise();
    }
    /// Ends with the host knowing the step's outcome.
    void finish() {
        context_.synchronise();
        if (!optimizer_.result(model_.weights()).applied()) throw RunError("the step is not finite");
    }
    double loss() const { return step_.loss(); }

  private:
    Context& context_;
    model::Transformer model_;
    train::Optimizer optimizer_;
    train::TrainStep step_;
    DeviceBuffer loss_ = context_.allocate(sizeof(double));
    Tensor losses_;  // a loss of 0 for an update without a pass
    int64_t updates_ = 0;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// The median of at most `runs` times of `run`, none begun after `seconds`.
double median_seconds(int runs, double seconds, const std::function<void()>& run) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    do {
        const auto begin = Clock::now();
        run();
        times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    } while (static_cast<int>(times.size()) < runs && Clock::now() < end);
    return median(times);
}

/// The share of a step in which the GPU waits for the host: between its launches, for the graph's own, for the host to
/// read the outcome. The work alone is timed behind so much other work that all of it is queued before it begins.
double launch_gaps(Context& context, Step& step, double step_seconds) {
    const DeviceBuffer load = context.allocate(size_t{512} << 20);
    const auto stopwatch = cuda::make_stopwatch();
    cuda::synchronise();
    for (int i = 0; i < 160; ++i) cuda::zero(load.data(), load.bytes(), context.stream());
    stopwatch->start(context.stream());
    step.queue();
    const double busy = stopwatch->stop(context.stream());
    step.finish();
    return std::max(0.0, 1 - busy / step_seconds);
}

/// Bytes of a parameter's weights, gradient and moments in all the copies that are kept.
double bytes_per_parameter(const train::MemoryPlan& plan, int64_t parameters) {
    return static_cast<double>(plan.master_weights + plan.compute_weights + plan.gradients + plan.moments) /
           static_cast<double>(parameters);
}

nlohmann::ordered_json products_json(const std::vector<bench::MeasuredProduct>& measured) {
    auto json = nlohmann::ordered_json::array();
    constexpr const char* kKinds[] = {"forward", "d_x", "d_weight"};
    for (const auto& [product, library, seconds] : measured)
        json.push_back({{"layer", product.layer},
                        {"pass", kKinds[static_cast<size_t>(product.kind)]},
                        {"rows", product.rows},
                        {"outputs", product.outputs},
                        {"inputs", product.inputs},
                        {"count", product.count},
                        {"library", library},
                        {"gflops", product.flops() / seconds * 1e-9}});
    return json;
}

nlohmann::ordered_json measure(const Settings& s) {
    Context context(device_of_backend(s.backend), s.threads);
    const train::RunConfig config = config_of(s);
    const train::MemoryPlan plan = train::plan_memory(context, config, train::Distribution(config));
    train::require_fit(plan, context.device(), context.available_memory());
    const model::ParameterTable table(config.model);
    const model::FlopsPerToken flops = model::flops_per_token(config.model, table.num_parameters(), s.length);
    const bool gpu = context.device() != Device::cpu;

    const size_t baseline = gpu ? 0 : bench::peak_host_bytes();
    const size_t free_before = context.device() == Device::cuda ? cuda::device_memory().available : 0;
    auto step = std::make_unique<Step>(context, config);
    const auto whole = [&] {
        step->queue();
        step->finish();
    };
    for (int warm_up = 0; warm_up < (s.smoke ? 1 : 3); ++warm_up) whole();
    const double seconds = median_seconds(s.steps, s.seconds, whole);
    const double update = median_seconds(5, 2, [&] { step->queue_update(); });
    // Nothing is allocated within a step, so what is taken now is the most.
    const size_t peak =
        gpu ? free_before - (free_before ? cuda::device_memory().available : 0) : bench::peak_host_bytes();
    const double tokens = static_cast<double>(s.batch * s.length), loss = step->loss();
    const double gaps = context.device() == Device::cuda ? launch_gaps(context, *step, seconds) : 0;
    step.reset();  // the products need the memory

    std::vector<bench::MeasuredProduct> products;
    if (!gpu)
        products = bench::measure_products(context, model::products_of_pass(config.model, s.batch * s.length),
                                           config.train.dtype);
    const double gemm_rate =
        gpu ? bench::gemm_limit(context, config.train.dtype, s.smoke) : bench::weighted_rate(products);
    // A CPU's share counts the attention that a causal kernel computes; MFU, as everybody's, the whole square.
    const double model_rate = (gpu ? flops.palm : flops.causal) * tokens / seconds;
    nlohmann::ordered_json json{{"shape", s.name()},
                                {"backend", name_of(context.device())},
                                {"device", bench::device_description(context)},
                                {"threads", context.pool().num_threads()},
                                {"dtype", s.dtype},
                                {"batch", s.batch},
                                {"seq", s.length},
                                {"parameters", table.num_parameters()},
                                {"flops_per_token", gpu ? flops.palm : flops.causal},
                                {"step_seconds", seconds},
                                {"optimiser_seconds", update},
                                {"tokens_per_s", tokens / seconds},
                                {"tokens_per_s_without_optimiser", tokens / (seconds - update)},
                                {"model_gflops", model_rate * 1e-9},
                                {"gemm_gflops", gemm_rate * 1e-9},
                                {"share", model_rate / gemm_rate},
                                {"share_without_optimiser", model_rate / gemm_rate * seconds / (seconds - update)},
                                {"baseline_bytes", baseline},
                                {"peak_bytes", peak},
                                {"planned_bytes", plan.total(context.device())},
                                {"bytes_per_parameter", bytes_per_parameter(plan, table.num_parameters())},
                                {"loss", loss}};
    for (const auto& [name, bytes] : plan.parts()) json["plan"][name] = bytes;
    if (!gpu) json["products"] = products_json(products);
    if (context.device() == Device::cuda) {
        json["mfu"] = model_rate / bench::kHopperPeak;
        json["launch_gaps"] = gaps;
    }
    return json;
}

}  // namespace

int main(int argc, char** argv) {
    Settings s;
    CLI::App app("Times a training step on random tokens", "bench_train_step");
    s.add_to(app);
    app.add_option("--batch", s.batch, "sequences a step, in one pass");
    app.add_option("--seq", s.length, "tokens a sequence");
    app.add_option("--steps", s.steps, "at most so many are timed");
    app.add_option("--seconds", s.seconds, "no further step is begun after so long");
    app.add_flag("--smoke", s.smoke, "two layers of 32 channels instead: shows that it works, measures nothing");
    return bench::run_benchmark(app, argc, argv, [&] { return bench::report(s.json, [&] { return measure(s); }); });
}
