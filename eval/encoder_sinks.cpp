#include "eval/encoder_sinks.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "eval/stop.h"
#include "eval/unsigned_nan.h"

namespace ballast::eval {
namespace {

class EncoderCollector {
  public:
    EncoderCollector(Context& context, const model::Bert& model, int64_t length, bool maps)
        : context_(context), model_(model) {
        result_.length = length;
        result_.layers = model.config().num_layers;
        result_.heads = model.config().num_heads;
        const int64_t maps_of_model = result_.layers * result_.heads;
        for (auto& share : result_.share) share.assign(static_cast<size_t>(maps_of_model), 0);
        if (!maps) return;
        if (length == 0) throw UserError("mean maps need sequences of one length");
        for (auto* to : {&result_.maps, &result_.logit_maps})
            to->assign(static_cast<size_t>(maps_of_model * length * length), 0);
    }

    void run(const std::vector<int32_t>& ids) {
        const auto length = static_cast<int64_t>(ids.size());
        kinds_.clear();
        for (size_t i = 0; i < ids.size(); ++i)
            kinds_.push_back(i == 0                 ? EncoderToken::cls
                             : ids[i] == ids.back() ? EncoderToken::sep
                                                    : EncoderToken::rest);
        buffer_ = context_.allocate(static_cast<size_t>(result_.heads * length * length) * sizeof(float));
        const Tensor map(buffer_.data(), Dtype::f32, {1, result_.heads, length, length});
        model_.forward(context_, ids, length,
                       [&](int64_t layer, const Tensor& lse, const ops::AttentionInputs& inputs,
                           const ops::AttentionParams& params) {
                           ops::attention_weights(context_, map, lse, inputs, params);
                           const std::vector<float> weights = context_.read_floats(map);
                           add_shares(layer, weights);
                           add_map(result_.maps, layer, weights);
                           if (result_.logit_maps.empty()) return;
                           ops::attention_logits(context_, map, inputs, params);
                           add_map(result_.logit_maps, layer, context_.read_floats(map));
                       });
        ++result_.sequences;
    }

    EncoderSinkResult finish() {
        const auto n = static_cast<double>(result_.sequences);
        for (auto& share : result_.share)
            for (double& x : share) x = unsigned_nan(x / n);
        for (auto* maps : {&result_.maps, &result_.logit_maps})
            for (float& x : *maps) x /= static_cast<float>(n);
        return std::move(result_);
    }

  private:
    /// weights [H,T,T]
    void add_shares(int64_t layer, const std::vector<float>& weights) {
        const size_t T = kinds_.size();
        for (size_t i = 0; i < weights.size(); ++i) {
            const size_t head = static_cast<size_t>(layer * result_.heads) + i / (T * T);
            result_.share[static_cast<size_t>(kinds_[i % T])][head] +=
                static_cast<double>(weights[i]) / static_cast<double>(T);
        }
    }

    static void add_map(std::vector<float>& to, int64_t layer, const std::vector<float>& map) {
        if (to.empty()) return;
        float* maps = to.data() + layer * static_cast<int64_t>(map.size());
        for (size_t i = 0; i < map.size(); ++i) maps[i] += map[i];
    }

    Context& context_;
    const model::Bert& model_;
    std::vector<EncoderToken> kinds_;
    DeviceBuffer buffer_;
    EncoderSinkResult result_;
};

/// 0 when they differ.
int64_t common_length(const std::vector<std::vector<int32_t>>& sequences) {
    const size_t first = sequences.front().size();
    const bool same = std::all_of(sequences.begin(), sequences.end(), [&](const auto& s) { return s.size() == first; });
    return same ? static_cast<int64_t>(first) : 0;
}

}  // namespace

MeasurementMemory encoder_sinks_memory(const model::BertConfig& config, int64_t length, bool maps) {
    const size_t of_layer = map_bytes(config.num_heads, length);
    MeasurementMemory memory{
        {{"activations", model::Bert::activation_bytes(config, 1, length)}, {"maps of a layer", of_layer}},
        {{"a copy of these", of_layer}}};
    if (maps)
        memory.host.emplace_back("mean maps of all layers",
                                 map_bytes(2 * config.num_layers * config.num_heads, length));
    return memory;
}

EncoderSinkResult evaluate_encoder_sinks(Context& context, const model::Bert& model,
                                         const std::vector<std::vector<int32_t>>& sequences, bool maps,
                                         const std::function<void(int64_t)>& progress) {
    if (sequences.empty()) throw UserError("no sequence to look at");
    for (const auto& sequence : sequences)
        if (sequence.size() < 2) throw UserError("a sequence needs two tokens, [CLS] and [SEP], at least");
    EncoderCollector collector(context, model, common_length(sequences), maps);
    int64_t done = 0;
    for (const auto& sequence : sequences) {
        stop_if_interrupted();
        collector.run(sequence);
        progress(++done);
    }
    return collector.finish();
}

}  // namespace ballast::eval
