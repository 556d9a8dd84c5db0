#include "eval/last_query.h"

#include "base/arena.h"
#include "eval/sinks.h"
#include "eval/stop.h"
#include "eval/text_stream.h"
#include "eval/unsigned_nan.h"
#include "model/sink_tokens.h"

namespace ballast::eval {
namespace {

/// Attention of one query over T keys: its own output and LSE, then its weights.
struct OneQuery {
    Tensor out, lse, weights;  // x [1,1,H,D], acc [1,H,1], acc [1,H,1,T]

    OneQuery() = default;
    OneQuery(Arena& arena, const Tensor& q_BTHD, Dtype acc) {
        const int64_t T = q_BTHD.dim(1), H = q_BTHD.dim(2);
        out = arena.tensor(q_BTHD.dtype, {1, 1, H, q_BTHD.dim(3)});
        lse = arena.tensor(acc, {1, H, 1});
        weights = arena.tensor(acc, {1, H, 1, T});
    }
};

class LastQueries {
  public:
    LastQueries(Context& context, model::Transformer& model, int64_t length)
        : context_(context), model_(model), pass_(context, model, model::PassKind::forward, 1, length) {
        const Dtype acc = accumulation_dtype(model.dtype());
        require(acc == Dtype::f32, "attention weights are measured in f32");
        const Tensor& q = pass_.activations().layer(0).q;
        Arena plan;
        OneQuery(plan, q, acc);
        buffer_ = context.allocate(plan.peak_bytes());
        Arena arena(buffer_.data(), buffer_.bytes());
        query_ = OneQuery(arena, q, acc);
        result_.length = length;
        result_.layers = model.config().num_layers;
        result_.heads = q.dim(2);
        result_.weight.assign(static_cast<size_t>(result_.layers * result_.heads), 0);
        pass_.observe_layers([this](int64_t layer, const model::LayerActivations& a) { observe(layer, a); });
    }

    void run(const std::vector<int32_t>& ids) {
        pass_.set_tokens(ids, std::vector<int32_t>(ids.size(), model::kNoTarget));
        pass_.forward();
        ++result_.sequences;
    }

    LastQueryResult finish() {
        for (double& x : result_.weight) x = unsigned_nan(x / static_cast<double>(result_.sequences));
        return std::move(result_);
    }

  private:
    void observe(int64_t layer, const model::LayerActivations& a) {
        const int64_t T = result_.length;
        const ops::AttentionInputs inputs{a.q.slice(1, T - 1, T), a.k, a.v, Tensor{}};
        ops::AttentionParams params = model_.attention(layer);
        params.mask.query_start = T - 1;
        ops::attention_forward(context_, query_.out, query_.lse, inputs, params);
        ops::attention_weights(context_, query_.weights, query_.lse, inputs, params);
        const std::vector<float> weights = context_.read_floats(query_.weights);
        for (int64_t h = 0; h < result_.heads; ++h)
            result_.weight[static_cast<size_t>(layer * result_.heads + h)] +=
                static_cast<double>(weights[static_cast<size_t>(h * T)]);
    }

    Context& context_;
    model::Transformer& model_;
    model::Pass pass_;
    DeviceBuffer buffer_;
    OneQuery query_;
    LastQueryResult result_;
};

}  // namespace

void check_last_query(const model::ModelConfig& config, int64_t num_tokens, int64_t length) {
    check_sinks(config, num_tokens, {.length = length});
}

MeasurementMemory last_query_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                    int64_t length) {
    return pass_memory(context, config, dtype, 1, length);  // one query's row is little beside it
}

LastQueryResult evaluate_last_query(Context& context, model::Transformer& model, const std::vector<uint32_t>& text,
                                    int64_t length, int64_t sequences, int64_t first_id,
                                    const std::function<void(int64_t)>& progress) {
    check_last_query(model.config(), static_cast<int64_t>(text.size()), length);
    LastQueries queries(context, model, length);
    int64_t done = 0;
    for (const auto& piece : spread_pieces(text, length - model.config().num_sink_tokens, sequences, first_id)) {
        stop_if_interrupted();
        queries.run(with_sink_tokens(piece, model.config()));
        progress(++done);
    }
    return queries.finish();
}

}  // namespace ballast::eval
