#include "eval/logits.h"

#include <algorithm>

#include "base/safetensors.h"
#include "eval/stop.h"
#include "model/sink_tokens.h"

namespace ballast::eval {
namespace {

struct Input {
    int64_t batch = 0, length = 0;      // without sinks
    std::vector<int32_t> ids, targets;  // with sinks, [B, n + T]
};

Input with_targets(const InputIds& raw, const model::ModelConfig& config) {
    Input in{raw.batch, raw.length, {}, {}};
    for (int64_t b = 0; b < in.batch; ++b) {
        for (int64_t i = 0; i < config.num_sink_tokens; ++i) {
            in.ids.push_back(static_cast<int32_t>(config.sink_token_id + i));
            in.targets.push_back(model::kNoTarget);
        }
        for (int64_t t = 0; t < in.length; ++t) {
            const size_t at = static_cast<size_t>(b * in.length + t);
            in.ids.push_back(raw.ids[at]);
            in.targets.push_back(t + 1 < in.length ? raw.ids[at + 1] : model::kNoTarget);
        }
    }
    return in;
}

}  // namespace

MeasurementMemory logits_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                const InputIds& ids, bool gradients) {
    const auto kind = gradients ? model::PassKind::forward_backward : model::PassKind::forward;
    const int64_t length = config.num_sink_tokens + ids.length;
    const size_t row = static_cast<size_t>(config.vocab_size) * sizeof(float);
    const size_t logits = static_cast<size_t>(ids.batch * length) * row;
    MeasurementMemory memory{
        {{"activations", model::Pass::activation_bytes(config, dtype, kind, ids.batch, length)},
         {"kernel scratch", model::Pass::scratch_bytes(context, config, dtype, kind, ids.batch, length)},
         {"logits", logits}},
        {{"a copy of these", logits}}};
    if (!gradients) return memory;
    const size_t of_parameters = static_cast<size_t>(model::ParameterTable(config).flat_size()) * sizeof(float);
    memory.device.emplace_back("gradients", of_parameters);
    memory.host.emplace_back("a copy of the gradients", of_parameters);
    return memory;
}

double write_logits(Context& context, model::Transformer& model, const InputIds& ids, const std::string& out_path,
                    bool gradients) {
    require(accumulation_dtype(model.dtype()) == Dtype::f32, "logits are written in f32");
    const model::ModelConfig& config = model.config();
    const Input in = with_targets(ids, config);
    const int64_t n = config.num_sink_tokens, B = in.batch, T = in.length, V = config.vocab_size;
    const auto kind = gradients ? model::PassKind::forward_backward : model::PassKind::forward;
    model::Pass pass(context, model, kind, B, n + T);
    pass.set_tokens(in.ids, in.targets);

    const DeviceBuffer buffer = context.allocate(static_cast<size_t>(B * (n + T) * V) * sizeof(float));
    const Tensor all(buffer.data(), Dtype::f32, {B * (n + T), V});
    stop_if_interrupted();
    pass.forward_logits(all);
    stop_if_interrupted();
    std::vector<float> logits;
    for (int64_t b = 0; b < B; ++b) {
        const auto rows = context.read_floats(all.slice(0, b * (n + T) + n, (b + 1) * (n + T)));
        logits.insert(logits.end(), rows.begin(), rows.end());
    }

    const double predictions = static_cast<double>(B * (T - 1));
    model::FlatArray d;
    if (gradients) {
        d = model::FlatArray(context, model.weights().table(), Dtype::f32);
        pass.forward_backward(d, 1.0 / predictions);
    } else {
        pass.forward();
    }
    double loss = 0;
    for (float x : context.read_floats(pass.losses())) loss += static_cast<double>(x) / predictions;

    stop_if_interrupted();
    SafetensorsWriter writer(out_path);
    const float loss_f32 = static_cast<float>(loss);
    writer.add("logits", Dtype::f32, std::array<int64_t, 3>{B, T, V}, logits.data());
    writer.add("loss", Dtype::f32, {}, &loss_f32);
    std::vector<std::vector<float>> held;
    if (gradients)
        for (const auto& row : model.weights().table().rows()) {
            held.push_back(context.read_floats(d.of(row)));
            writer.add("grad." + row.name, Dtype::f32, row.shape, held.back().data());
        }
    writer.commit();
    return loss;
}

}  // namespace ballast::eval
