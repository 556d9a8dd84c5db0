// Times decoding steps and prints their limit: the bytes that a step must read, at the rate at which all threads read
// memory in the same run. These bytes are the weights once, and the cached rows that the policy keeps of every text.
//
//   bench_decode --model MODEL --context 1024 --dtype bf16 --threads 2 --json OUT.json
//   bench_decode --model MODEL --context 4096 --policy moa --plan plan.json --rows 8
//   bench_decode --model MODEL --dtype f32 --weights int8           the products alone, by row of the weight
//   bench_decode --matrix 3072x768 --dtype f32 --weights same --rows 1
//
// Products alone are timed by row, as decoding computes them, and as the products of a prompt, which are chosen by the
// number of rows: the ratio is what it costs that a text's bits do not depend on its mates.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <deque>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/measure.h"
#include "bench/program.h"
#include "infer/cached_model.h"
#include "infer/policy_table.h"
#include "kernels/backend.h"

namespace {

using namespace ballast;

struct Settings : bench::ModelSettings {
    std::string weights = "same", cache_dtype, matrix;
    int64_t rows = 1, context = 0;
    infer::PolicyChoice cache;
    double seconds = 3;

    std::optional<Dtype> matrices() const {
        if (weights == "same") return std::nullopt;
        return weights == "int8" ? Dtype::i8 : bench::dtype_of_option(weights);
    }
};

/// Products of x [N,I] with weights that follow one another.
class Products {
  public:
    Products(Context& context, Dtype dtype, int64_t rows)
        : context_(context), tensors_(context), dtype_(dtype), rows_(rows) {}

    void add(const ops::LinearWeight& weight) {
        if (weight.weight.empty()) return;
        const int64_t outputs = weight.weight.dim(0), inputs = weight.weight.dim(1);
        steps_.push_back({weight, tensors_.make(dtype_, {rows_, inputs}), tensors_.zeros(dtype_, {rows_, outputs})});
        for (const Tensor* read : {&weight.weight, &weight.bias, &weight.scale})
            if (!read->empty()) bytes_ += read->bytes();
    }
    void run(ops::Products products) {
        for (const Step& step : steps_) ops::linear_forward(context_, step.out, step.x, step.weight, products);
    }
    size_t bytes() const { return bytes_; }

  private:
    struct Step {
        ops::LinearWeight weight;
        Tensor x, out;
    };
    Context& context_;
    bench::Tensors tensors_;
    Dtype dtype_;
    int64_t rows_;
    size_t bytes_ = 0;
    std::vector<Step> steps_;
};

/// Outputs and inputs of "3072x768".
std::pair<int64_t, int64_t> shape_of(const std::string& matrix) {
    int64_t outputs = 0, inputs = 0;
    const char* end = matrix.data() + matrix.size();
    const auto first = std::from_chars(matrix.data(), end, outputs);
    const bool cross = first.ec == std::errc() && first.ptr != end && *first.ptr == 'x';
    if (!cross || std::from_chars(first.ptr + 1, end, inputs).ptr != end || outputs < 1 || inputs < 1)
        throw UserError(fmt::format("--matrix {}: give outputs and inputs, such as 3072x768", matrix));
    return {outputs, inputs};
}

/// Copies of a matrix [O,I], half a GiB of them: more than any cache holds.
void add_copies(Products& products, bench::Tensors& tensors, int64_t outputs, int64_t inputs, Dtype dtype) {
    const bool bytes = dtype == Dtype::i8;
    const size_t each = static_cast<size_t>(outputs * inputs) * size_of(dtype);
    const size_t copies = std::max<size_t>(1, (size_t{512} << 20) / each);
    for (size_t i = 0; i < copies; ++i) {
        ops::LinearWeight weight{
            bytes ? tensors.zeros(dtype, {outputs, inputs}) : tensors.make(dtype, {outputs, inputs}), {}};
        if (bytes) weight.scale = tensors.make(Dtype::f32, {outputs});
        products.add(weight);
    }
}

void add_model(Products& products, const model::Transformer& model) {
    for (int64_t l = 0; l < model.config().num_layers; ++l) {
        const model::LayerParameters& p = model.layer(l);
        for (const auto* weight : {&p.query_key_value, &p.attention_dense, &p.attention_gate, &p.mlp_up, &p.mlp_down})
            products.add(*weight);
    }
    products.add(model.head());
}

/// A step of `rows` texts that hold `context` positions each, as the engine makes it, logits on the host included; the
/// same step again and again.
class Step {
  public:
    Step(Context& context, model::Transformer& model, const Settings& s)
        : context_(context),
          positions_(s.context),
          cache_(context, model, infer::make_plan(s.cache, model.config(), s.context + 1), cache_options(s)),
          tokens_(static_cast<size_t>(s.rows), 1) {
        const auto begin = std::chrono::steady_clock::now();
        for (int64_t row = 0; row < s.rows; ++row) {
            infer::CachedText& text = texts_.emplace_back(cache_.open(s.context + 1));
            while (text.position < s.context) {
                const auto chunk = static_cast<size_t>(cache_.next_chunk(text, s.context - text.position));
                cache_.prefill(text, bench::random_tokens(chunk, model.config().vocab_size));
            }
        }
        context.synchronise();
        prefill_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        for (infer::CachedText& text : texts_) pointers_.push_back(&text);
    }

    void run() {
        for (infer::CachedText& text : texts_) text.position = positions_;
        cache_.decode(pointers_, tokens_);
        context_.read_floats(cache_.logits(std::ssize(texts_)));
    }
    /// Keys and values that a step reads, its own among them.
    size_t kv_bytes() const {
        const infer::CacheSizes& sizes = cache_.sizes();
        int64_t rows = 0;
        for (const infer::LayerRows& layer : sizes.layers)
            for (const infer::HeadCache& head : layer.rings) rows += infer::slots_in_use(head, positions_ + 1);
        return texts_.size() * static_cast<size_t>(2 * rows * sizes.head_dim) * size_of(sizes.dtype);
    }
    /// Of reading the texts, one after the other in chunks; once.
    double prefill_tokens_per_s() const {
        return static_cast<double>(positions_) * static_cast<double>(texts_.size()) / prefill_seconds_;
    }
    /// Of the blocks that the texts take.
    size_t cache_bytes() const { return texts_.size() * cache_.sizes().cache_bytes(positions_ + 1); }

  private:
    static infer::CacheOptions cache_options(const Settings& s) {
        infer::CacheOptions options{.max_batch = s.rows, .max_positions = s.context + 1};
        if (!s.cache_dtype.empty()) options.dtype = bench::dtype_of_option(s.cache_dtype);
        return options;
    }

    Context& context_;
    int64_t positions_;
    double prefill_seconds_ = 0;
    infer::CachedModel cache_;
    std::deque<infer::CachedText> texts_;
    std::vector<infer::CachedText*> pointers_;
    std::vector<int32_t> tokens_;
};

nlohmann::ordered_json measure(const Settings& s) {
    Context context(device_of_backend(s.backend), s.threads);
    const Dtype dtype = bench::dtype_of_option(s.dtype);
    Products products(context, dtype, s.rows);
    bench::Tensors tensors(context);
    std::unique_ptr<model::Transformer> model;
    std::optional<Step> step;
    if (!s.matrix.empty()) {
        const auto [outputs, inputs] = shape_of(s.matrix);
        add_copies(products, tensors, outputs, inputs, s.matrices().value_or(dtype));
    } else {
        model = bench::make_model(context, s, bench::config_of(s).model, s.matrices());
        add_model(products, *model);
        if (s.context > 0) step.emplace(context, *model, s);
    }
    const double before = bench::read_limit(context, false);
    bench::Timer timer(context, s.seconds);
    const bench::Timing time = timer([&] { step ? step->run() : products.run(ops::Products::by_row); });
    const double limit = std::max(before, bench::read_limit(context, false));
    const size_t kv_bytes = step ? step->kv_bytes() : 0;
    const auto bytes = static_cast<double>(products.bytes() + kv_bytes);
    const double rate = static_cast<double>(s.rows) / time.least, roof = static_cast<double>(s.rows) * limit / bytes;
    nlohmann::ordered_json out = {{"shape", s.matrix.empty() ? s.name() : s.matrix},
                                  {"dtype", s.dtype},
                                  {"weights", s.weights},
                                  {"cache_dtype", s.cache_dtype.empty() ? s.dtype : s.cache_dtype},
                                  {"rows", s.rows},
                                  {"context", s.context},
                                  {"policy", s.context > 0 ? s.cache.policy : "none"},
                                  {"device", bench::device_description(context)},
                                  {"threads", context.pool().num_threads()},
                                  {"weight_bytes", products.bytes()},
                                  {"kv_bytes", kv_bytes},  // read in a step; products alone read no cache
                                  {"cache_bytes", step ? step->cache_bytes() : 0},
                                  {"read_gb_per_s", limit * 1e-9},
                                  {"gb_per_s", bytes / time.least * 1e-9},
                                  {"median_seconds", time.median},
                                  {"tokens_per_s", rate},
                                  {"roof", roof},
                                  {"share", rate / roof}};
    if (!step) {  // what it costs that a row's bits do not depend on the others
        const bench::Timing gemm = timer([&] { products.run(ops::Products::gemm); });
        out["gemm_tokens_per_s"] = static_cast<double>(s.rows) / gemm.least;
        out["by_row_over_gemm"] = gemm.least / time.least;
    } else {
        out["prefill_tokens_per_s"] = step->prefill_tokens_per_s();
    }
    return out;
}

}  // namespace

int main(int argc, char** argv) {
    Settings s;
    CLI::App app("Times steps of decoding beside the speed of memory", "bench_decode");
    s.add_to(app);
    CLI::Option* context = app.add_option("--context", s.context,
                                          "whole steps, of texts that hold so many positions; without it the "
                                          "products alone")
                               ->check(CLI::PositiveNumber);
    app.add_option("--policy", s.cache.policy, "what the cache keeps")
        ->check(CLI::IsMember({"dense", "window", "sink", "moa"}))  // whose step can be taken again and again
        ->needs(context);
    app.add_option("--sinks", s.cache.sinks, "sink: positions kept at the start")->needs(context);
    app.add_option("--cache", s.cache.cache, "window, sink: positions in all")->needs(context);
    app.add_option("--plan", s.cache.plan, "moa: the plan")->needs(context);
    app.add_option("--weights", s.weights, "the matrices' dtype; same: --dtype")
        ->check(CLI::IsMember({"same", "f32", "bf16", "int8"}));
    app.add_option("--cache-dtype", s.cache_dtype, "of cached keys and values; default: --dtype")
        ->check(CLI::IsMember({"f32", "bf16"}))
        ->needs(context);
    app.add_option("--matrix", s.matrix, "copies of a matrix, outputs x inputs, instead of a model: 3072x768")
        ->excludes(context);
    app.add_option("--rows", s.rows, "sequences that decode together")->check(CLI::PositiveNumber);
    app.add_option("--seconds", s.seconds, "no further run is begun after so long")->check(CLI::PositiveNumber);
    return bench::run_benchmark(app, argc, argv, [&] { return bench::report(s.json, [&] { return measure(s); }); });
}
