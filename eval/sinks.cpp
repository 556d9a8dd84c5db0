#include "eval/sinks.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "eval/unsigned_nan.h"
#include "model/sink_tokens.h"

namespace ballast::eval {
namespace {

/// Collects the weights of one sequence at a time.
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
        weights_ = Tensor(buffer_.data(), acc, {1, H, T, T});
        host_.resize(static_cast<size_t>(H * T * T));
        result_.length = T;
        result_.positions = std::min(options.positions, T);
        result_.layers = config.num_layers;
        result_.heads = H;
        result_.epsilon = options.epsilon;
        result_.sink_rate.assign(static_cast<size_t>(result_.positions), 0);
        result_.alpha.assign(static_cast<size_t>(result_.layers * H * result_.positions), 0);
        if (options.maps) result_.maps.assign(static_cast<size_t>(result_.layers * H * T * T), 0);
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
        for (double& x : result_.alpha) x = unsigned_nan(x / n);
        for (double& x : result_.sink_rate)
            x = unsigned_nan(x / (n * static_cast<double>(result_.layers * result_.heads)));
        for (float& x : result_.maps) x /= static_cast<float>(n);
        shares();
        return std::move(result_);
    }

  private:
    void observe(int64_t layer, const model::LayerActivations& a) {
        ops::attention_weights(context_, weights_, a.lse, {a.q, a.k, a.v, Tensor{}}, model_.attention(layer));
        context_.copy_to_host(host_.data(), weights_);
        const int64_t T = result_.length, P = result_.positions;
        for (int64_t h = 0; h < result_.heads; ++h) {
            const float* map = host_.data() + h * T * T;
            const std::vector<double> alpha = column_means(map, T, P);
            double* sums = result_.alpha.data() + (layer * result_.heads + h) * P;
            for (size_t k = 0; k < alpha.size(); ++k) {
                sums[k] += alpha[k];
                result_.sink_rate[k] += std::isnan(alpha[k]) ? alpha[k] : alpha[k] > options_.epsilon;  // NaN is no 0
            }
        }
        if (result_.maps.empty()) return;
        float* maps = result_.maps.data() + layer * static_cast<int64_t>(host_.size());
        for (size_t i = 0; i < host_.size(); ++i) maps[i] += host_[i];
    }

    void shares() {
        const int64_t H = result_.heads, P = result_.positions;
        for (int64_t l = 0; l < result_.layers; ++l)
            for (int64_t k = 0; k < P; ++k) {
                const auto alpha = [&](int64_t h) { return result_.alpha[static_cast<size_t>((l * H + h) * P + k)]; };
                double mean = 0, variance = 0;
                for (int64_t h = 0; h < H; ++h) mean += alpha(h) / static_cast<double>(H);
                for (int64_t h = 0; h < H; ++h)
                    variance += (alpha(h) - mean) * (alpha(h) - mean) / static_cast<double>(H);
                result_.share.push_back(mean);
                result_.share_std.push_back(std::sqrt(variance));
            }
    }

    Context& context_;
    model::Transformer& model_;
    SinkOptions options_;
    model::Pass pass_;
    DeviceBuffer buffer_;
    Tensor weights_;
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

void check_sinks(const model::ModelConfig& config, int64_t num_tokens, const SinkOptions& options) {
    const int64_t n = config.num_sink_tokens, words = options.length - n;
    if (words < 1)
        throw UserError(
            fmt::format("sequences of {} tokens leave no room for text beside {} sink tokens", options.length, n));
    if (num_tokens < words)
        throw UserError(fmt::format("the text has {} tokens, fewer than one sequence of {}", num_tokens, words));
}

SinkResult evaluate_sinks(Context& context, model::Transformer& model, const std::vector<uint32_t>& text,
                          const SinkOptions& options) {
    const auto size = static_cast<int64_t>(text.size());
    check_sinks(model.config(), size, options);
    const int64_t words = options.length - model.config().num_sink_tokens;
    const int64_t sequences = std::clamp<int64_t>(options.sequences, 1, size / words);

    Collector collector(context, model, options);
    for (int64_t s = 0; s < sequences; ++s) {
        const int64_t begin = sequences == 1 ? 0 : (size - words) / (sequences - 1) * s;
        const std::vector<uint32_t> piece(text.begin() + begin, text.begin() + begin + words);
        const TextStream stream = make_text_stream(piece, model.config(), 0);
        collector.run(stream.tokens);
    }
    return collector.finish();
}

}  // namespace ballast::eval
