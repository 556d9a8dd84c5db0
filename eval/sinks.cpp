#include "eval/sinks.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include "eval/spread.h"
#include "eval/stop.h"
#include "eval/unsigned_nan.h"
#include "model/sink_tokens.h"

namespace ballast::eval {
namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();

/// Collects the weights and logits of one sequence at a time.
class Collector {
  public:
    Collector(Context& context, model::Transformer& model, const SinkOptions& options)
        : context_(context),
          model_(model),
          options_(options),
          pass_(context, model, model::PassKind::forward, 1, options.length) {
        const auto& config = model.config();
        const int64_t H = config.num_heads, T = options.length;
        const Dtype acc = accumulation_dtype(model.dtype());
        require(acc == Dtype::f32, "sink metrics are computed in f32");
        buffer_ = context.allocate(static_cast<size_t>(H * T * T) * size_of(acc));
        map_ = Tensor(buffer_.data(), acc, {1, H, T, T});
        host_.resize(static_cast<size_t>(H * T * T));
        result_.length = T;
        result_.positions = std::min(options.positions, T);
        result_.layers = config.num_layers;
        result_.heads = H;
        result_.epsilon = options.epsilon;
        result_.sink_rate.assign(static_cast<size_t>(result_.positions), 0);
        result_.alpha.assign(static_cast<size_t>(result_.layers * H * result_.positions), 0);
        if (T > 1)
            for (auto* means : {&result_.logit_first, &result_.logit_rest})
                means->assign(static_cast<size_t>(result_.layers * H), 0);
        if (options.maps)
            for (auto* maps : {&result_.maps, &result_.logit_maps})
                maps->assign(static_cast<size_t>(result_.layers * H * T * T), 0);
        pass_.observe_layers([this](int64_t layer, const model::LayerActivations& a) { observe(layer, a); });
    }

    void run(const std::vector<int32_t>& ids) {
        const std::vector<int32_t> no_targets(ids.size(), model::kNoTarget);
        pass_.set_tokens(ids, no_targets);
        pass_.forward();
        ++result_.sequences;
    }

    SinkResult finish() {
        const auto n = static_cast<double>(result_.sequences);
        for (auto* means : {&result_.alpha, &result_.logit_first, &result_.logit_rest})
            for (double& x : *means) x = unsigned_nan(x / n);
        for (double& x : result_.sink_rate)
            x = unsigned_nan(x / (n * static_cast<double>(result_.layers * result_.heads)));
        for (auto* maps : {&result_.maps, &result_.logit_maps})
            for (float& x : *maps) x /= static_cast<float>(n);
        shares();
        return std::move(result_);
    }

  private:
    void observe(int64_t layer, const model::LayerActivations& a) {
        const ops::AttentionInputs inputs{a.q, a.k, a.v, Tensor{}};
        const ops::AttentionParams params = model_.attention(layer);
        ops::attention_weights(context_, map_, a.lse, inputs, params);
        context_.copy_to_host(host_.data(), map_);
        add_weights(layer);
        add_map(result_.maps, layer);
        ops::attention_logits(context_, map_, inputs, params);
        context_.copy_to_host(host_.data(), map_);
        add_logits(layer);
        add_map(result_.logit_maps, layer);
    }

    void add_weights(int64_t layer) {
        const int64_t T = result_.length, P = result_.positions;
        for (int64_t h = 0; h < result_.heads; ++h) {
            const std::vector<double> alpha = column_means(host_.data() + h * T * T, T, P);
            double* sums = result_.alpha.data() + (layer * result_.heads + h) * P;
            for (size_t k = 0; k < alpha.size(); ++k) {
                sums[k] += alpha[k];
                result_.sink_rate[k] += std::isnan(alpha[k]) ? alpha[k] : alpha[k] > options_.epsilon;  // NaN is no 0
            }
        }
    }

    void add_logits(int64_t layer) {
        const int64_t T = result_.length;
        if (T == 1) return;
        for (int64_t h = 0; h < result_.heads; ++h) {
            const LogitMeans means = logit_means(host_.data() + h * T * T, T);
            const auto at = static_cast<size_t>(layer * result_.heads + h);
            result_.logit_first[at] += means.first;
            result_.logit_rest[at] += means.rest;
        }
    }

    /// What queries see of the maps in host_; a logit of -inf marks a key that a window hides.
    void add_map(std::vector<float>& to, int64_t layer) const {
        if (to.empty()) return;
        const int64_t T = result_.length, rows = result_.heads * T;
        float* maps = to.data() + layer * rows * T;
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t j = 0; j <= row % T; ++j)
                if (const float x = host_[static_cast<size_t>(row * T + j)]; x != kHidden) maps[row * T + j] += x;
    }

    void shares() {
        const int64_t H = result_.heads, P = result_.positions;
        std::vector<double> heads(static_cast<size_t>(H));
        for (int64_t l = 0; l < result_.layers; ++l)
            for (int64_t k = 0; k < P; ++k) {
                for (int64_t h = 0; h < H; ++h)
                    heads[static_cast<size_t>(h)] = result_.alpha[static_cast<size_t>((l * H + h) * P + k)];
                const Spread share = spread_of(heads);
                result_.share.push_back(share.mean);
                result_.share_std.push_back(share.deviation);
            }
    }

    Context& context_;
    model::Transformer& model_;
    SinkOptions options_;
    model::Pass pass_;
    DeviceBuffer buffer_;
    Tensor map_;  // acc [1,H,T,T]
    std::vector<float> host_;
    SinkResult result_;
};

}  // namespace

std::vector<double> column_means(const float* weights, int64_t length, int64_t positions) {
    std::vector<double> alpha(static_cast<size_t>(positions), 0);
    for (int64_t k = 0; k < positions; ++k) {
        double sum = 0;
        for (int64_t i = k; i < length; ++i) sum += static_cast<double>(weights[i * length + k]);
        alpha[static_cast<size_t>(k)] = sum / static_cast<double>(length - k);
    }
    return alpha;
}

LogitMeans logit_means(const float* logits, int64_t length) {
    struct Mean {
        double sum = 0;
        int64_t count = 0;
        void add(float x) {
            if (x == kHidden) return;
            sum += static_cast<double>(x);
            ++count;
        }
        double value() const { return sum / static_cast<double>(count); }
    } first, rest;
    for (int64_t i = 1; i < length; ++i) {
        first.add(logits[i * length]);
        for (int64_t j = 1; j <= i; ++j) rest.add(logits[i * length + j]);
    }
    return {first.value(), rest.value()};
}

void check_sinks(const model::ModelConfig& config, int64_t num_tokens, const SinkOptions& options) {
    const int64_t n = config.num_sink_tokens, words = options.length - n;
    if (words < 1)
        throw UserError(
            fmt::format("sequences of {} tokens leave no room for text beside {} sink tokens", options.length, n));
    if (num_tokens < words)
        throw UserError(fmt::format("the text has {} tokens, fewer than one sequence of {}", num_tokens, words));
}

MeasurementMemory sinks_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                               const SinkOptions& options) {
    MeasurementMemory memory = pass_memory(context, config, dtype, 1, options.length);
    memory.device.emplace_back("maps of a layer", map_bytes(config.num_heads, options.length));
    memory.host.emplace_back("a copy of these", map_bytes(config.num_heads, options.length));
    if (options.maps)
        memory.host.emplace_back("mean maps of all layers",
                                 map_bytes(2 * config.num_layers * config.num_heads, options.length));
    return memory;
}

std::vector<std::vector<uint32_t>> sink_sequences(const model::ModelConfig& config, const std::vector<uint32_t>& text,
                                                  const SinkOptions& options) {
    check_sinks(config, static_cast<int64_t>(text.size()), options);
    return spread_pieces(text, options.length - config.num_sink_tokens, options.sequences, options.first_id);
}

SinkResult evaluate_sinks(Context& context, model::Transformer& model, const std::vector<uint32_t>& text,
                          const SinkOptions& options) {
    return evaluate_sinks(context, model, sink_sequences(model.config(), text, options), options);
}

SinkResult evaluate_sinks(Context& context, model::Transformer& model, std::span<const std::vector<uint32_t>> sequences,
                          const SinkOptions& options) {
    Collector collector(context, model, options);
    for (const std::vector<uint32_t>& sequence : sequences) {
        stop_if_interrupted();
        collector.run(with_sink_tokens(sequence, model.config()));
    }
    return collector.finish();
}

}  // namespace ballast::eval
