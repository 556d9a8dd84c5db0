#include "eval/outliers.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "eval/stop.h"
#include "eval/text_stream.h"
#include "eval/unsigned_nan.h"
#include "model/sink_tokens.h"

namespace ballast::eval {
namespace {

using model::LinearInput;

LayerTensor tensor_of(LinearInput input) {
    switch (input) {
        case LinearInput::qkv: return LayerTensor::qkv;
        case LinearInput::out: return LayerTensor::out;
        case LinearInput::up: return LayerTensor::up;
        default: return LayerTensor::down;
    }
}

/// A tensor of any dtype as floats on the host, by way of an f32 copy on the device.
class WidenedTensor {
  public:
    WidenedTensor(Context& context, const Tensor& x)
        : context_(context),
          x_(x),
          buffer_(context.allocate(static_cast<size_t>(x.numel()) * sizeof(float))),
          wide_(buffer_.data(), Dtype::f32, {x.numel()}) {}

    std::vector<float> read() const {
        ops::cast(context_, wide_, x_);
        return context_.read_floats(wide_);
    }
    void write(const std::vector<float>& values) const {
        context_.copy_from_host(wide_, values.data());
        ops::cast(context_, x_, wide_);
    }

  private:
    Context& context_;
    Tensor x_;
    DeviceBuffer buffer_;
    Tensor wide_;
};

/// Sums of the losses over one sequence after another.
class Losses {
  public:
    Losses(Context& context, model::Transformer& model, int64_t length)
        : context_(context), pass_(context, model, model::PassKind::forward, 1, length) {}

    model::Pass& pass() { return pass_; }

    void run(const TextStream& stream) {
        std::vector<int32_t> targets;
        for (size_t i = 0; i < stream.tokens.size(); ++i) targets.push_back(stream.target(i));
        pass_.set_tokens(stream.tokens, targets);
        pass_.forward();
        for (const float loss : context_.read_floats(pass_.losses())) total_ += static_cast<double>(loss);
        tokens_ += stream.num_targets();
    }

    int64_t tokens() const { return tokens_; }
    double mean() const { return unsigned_nan(total_ / static_cast<double>(tokens_)); }

  private:
    Context& context_;
    model::Pass pass_;
    double total_ = 0;
    int64_t tokens_ = 0;
};

/// What passes leave behind, collected through their hooks.
class Statistics {
  public:
    Statistics(Context& context, model::Pass& pass, int64_t layers)
        : context_(context), pass_(pass), layers_(static_cast<size_t>(layers)) {
        pass.observe_linear_inputs([this](LinearInput input, const Tensor& x) { before_linear(input, x); });
        pass.observe_layers([this](int64_t layer, const model::LayerActivations& a) { after_layer(layer, a); });
    }

    void write_to(OutlierResult& result) const {
        result.embedding = embedding_.figures();
        result.head = head_.figures();
        for (const Layer& layer : layers_) {
            OutlierLayer& out = result.layers.emplace_back();
            for (size_t i = 0; i < layer.tensors.size(); ++i) out.tensors[i] = layer.tensors[i].figures();
            out.value_first = layer.value_first / static_cast<double>(layer.first_values);
            out.value_rest = layer.value_rest / static_cast<double>(layer.other_values);
        }
    }

  private:
    struct Layer {
        std::array<Moments, kLayerTensors.size()> tensors;
        double value_first = 0, value_rest = 0;  // sums of norms
        int64_t first_values = 0, other_values = 0;

        Moments& of(LayerTensor tensor) { return tensors[static_cast<size_t>(tensor)]; }
    };

    std::vector<float> floats(const Tensor& x) { return WidenedTensor(context_, x).read(); }

    void before_linear(LinearInput input, const Tensor& x) {
        if (input == LinearInput::head) {
            head_.add(floats(x));
            layer_ = 0;
            return;
        }
        if (layer_ == 0 && input == LinearInput::qkv) embedding_.add(floats(pass_.activations().residual_stream(0)));
        layers_[layer_].of(tensor_of(input)).add(floats(x));
    }

    void after_layer(int64_t layer, const model::LayerActivations& a) {
        Layer& to = layers_[static_cast<size_t>(layer)];
        to.of(LayerTensor::residual).add(floats(pass_.activations().residual_stream(layer + 1)));
        add_values(to, floats(a.v), a.v.dim(2), a.v.dim(3));
        layer_ = static_cast<size_t>(layer) + 1;
    }

    /// values [T,G,D]
    static void add_values(Layer& to, const std::vector<float>& values, int64_t G, int64_t D) {
        for (size_t row = 0; row * static_cast<size_t>(D) < values.size(); ++row) {
            double squares = 0;
            for (size_t i = row * static_cast<size_t>(D); i < (row + 1) * static_cast<size_t>(D); ++i)
                squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
            const bool first = static_cast<int64_t>(row) < G;
            (first ? to.value_first : to.value_rest) += std::sqrt(squares);
            ++(first ? to.first_values : to.other_values);
        }
    }

    Context& context_;
    model::Pass& pass_;
    std::vector<Layer> layers_;
    Moments embedding_, head_;
    size_t layer_ = 0;  // that runs now
};

void round_tensor(Context& context, const Tensor& x, int64_t bits) {
    const WidenedTensor wide(context, x);
    std::vector<float> values = wide.read();
    round_symmetric(values, bits);
    wide.write(values);
}

}  // namespace

void round_symmetric(std::span<float> x, int64_t bits) {
    float largest = 0;
    for (const float value : x) {
        if (!std::isfinite(value)) return;
        largest = std::max(largest, std::fabs(value));
    }
    if (largest == 0) return;
    const double scale = static_cast<double>(largest) / static_cast<double>((int64_t{1} << (bits - 1)) - 1);
    for (float& value : x) value = static_cast<float>(std::nearbyint(static_cast<double>(value) / scale) * scale);
}

void Moments::add(std::span<const float> x) {
    for (const float value : x) {
        const auto v = static_cast<double>(value);
        const double square = v * v;
        powers_[0] += v;
        powers_[1] += square;
        powers_[2] += square * v;
        powers_[3] += square * square;
        if (!(std::fabs(v) <= largest_)) largest_ = std::isnan(largest_) ? largest_ : std::fabs(v);
    }
    count_ += static_cast<double>(x.size());
}

ActivationFigures Moments::figures() const {
    const double mean = powers_[0] / count_, second = powers_[1] / count_, third = powers_[2] / count_,
                 fourth = powers_[3] / count_;
    const double variance = second - mean * mean;
    const double central = fourth - 4 * mean * third + 6 * mean * mean * second - 3 * mean * mean * mean * mean;
    return {unsigned_nan(central / (variance * variance)), unsigned_nan(largest_)};
}

void check_outliers(const model::ModelConfig& config, int64_t num_tokens, const OutlierOptions& options) {
    const int64_t n = config.num_sink_tokens, words = options.length - n;
    if (words < 2)
        throw UserError(fmt::format("sequences of {} tokens leave no room for two of the text beside {} sink tokens",
                                    options.length, n));
    if (num_tokens < words)
        throw UserError(fmt::format("the text has {} tokens, fewer than one sequence of {}", num_tokens, words));
}

MeasurementMemory outliers_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                  const OutlierOptions& options) {
    const MeasurementMemory pass = pass_memory(context, config, dtype, 1, options.length);
    const int64_t widest = std::max({config.hidden_size, config.attention_dim(), config.feed_forward_dim()});
    const size_t widened = static_cast<size_t>(options.length * widest) * sizeof(float);
    return {{{"activations of two passes", 2 * pass.device[0].second}, pass.device[1], {"a widened tensor", widened}},
            {{"a copy of it", widened}}};
}

OutlierResult evaluate_outliers(Context& context, model::Transformer& model, const std::vector<uint32_t>& text,
                                const OutlierOptions& options, const std::function<void(int64_t)>& progress) {
    const model::ModelConfig& config = model.config();
    check_outliers(config, static_cast<int64_t>(text.size()), options);
    Losses plain(context, model, options.length), rounded(context, model, options.length);
    Statistics statistics(context, plain.pass(), config.num_layers);
    rounded.pass().observe_linear_inputs([&](LinearInput, const Tensor& x) { round_tensor(context, x, options.bits); });
    OutlierResult result;
    for (const auto& piece :
         spread_pieces(text, options.length - config.num_sink_tokens, options.sequences, options.first_id)) {
        stop_if_interrupted();
        const TextStream stream = make_text_stream(piece, config, 0);
        plain.run(stream);
        rounded.run(stream);
        progress(++result.sequences);
    }
    result.length = options.length;
    result.bits = options.bits;
    result.tokens = plain.tokens();
    result.loss = plain.mean();
    result.rounded_loss = rounded.mean();
    statistics.write_to(result);
    return result;
}

}  // namespace ballast::eval
