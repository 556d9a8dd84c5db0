// Finite differences through the whole model in double.
#pragma once

#include "model/sink_tokens.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

namespace ballast::test {

struct GradientSetup {
    Context context{test_device(), 1, Gemm::reference};
    model::Transformer model;
    model::Pass pass;
    double scale;

    GradientSetup(const model::ModelConfig& config, int64_t batch, int64_t length)
        : model(context, config, Dtype::f64),
          pass(context, model, model::PassKind::forward_backward, batch, length),
          scale(1.0 / static_cast<double>(batch * model::targets_per_sample(config, length))) {
        randomise(context, model.weights(), 7);
        std::vector<int32_t> ids, targets;
        for (int64_t b = 0; b < batch; ++b) {
            const auto window = random_ids(static_cast<uint32_t>(100 + b), static_cast<size_t>(length + 1),
                                           config.num_sink_tokens ? config.sink_token_id : config.vocab_size);
            std::vector<int32_t> in(static_cast<size_t>(length)), out(static_cast<size_t>(length));
            model::fill_sample(window, config, in, out);
            ids.insert(ids.end(), in.begin(), in.end());
            targets.insert(targets.end(), out.begin(), out.end());
        }
        pass.set_tokens(ids, targets);
    }

    double loss() {
        pass.forward();
        double total = 0;
        for (double x : to_host(context, pass.losses())) total += x;
        return total * scale;
    }
};

/// Central differences at up to `probes` places of each parameter (those with the largest gradients and some others).
inline void check_all_parameters(const model::ModelConfig& config) {
    GradientSetup s(config, 2, 9);
    const model::FlatArray gradients(s.context, s.model.weights().table(), Dtype::f64);
    s.pass.forward_backward(gradients, s.scale);
    constexpr double kStep = 1e-5;
    for (const auto& row : s.model.weights().table().rows()) {
        const auto d = to_host(s.context, gradients.of(row));
        double* weight = s.model.weights().master(row).ptr<double>();
        double difference = 0, norm = 0;
        const int64_t stride = std::max<int64_t>(1, row.count / 40);
        for (int64_t i = 0; i < row.count; i += stride) {
            const double saved = weight[i];
            weight[i] = saved + kStep;
            const double above = s.loss();
            weight[i] = saved - kStep;
            const double below = s.loss();
            weight[i] = saved;
            const double numeric = (above - below) / (2 * kStep), analytic = d[static_cast<size_t>(i)];
            difference += (numeric - analytic) * (numeric - analytic);
            norm += numeric * numeric;
        }
        INFO(row.name << " (gradient norm of the probes " << std::sqrt(norm) << ")");
        CHECK(std::sqrt(norm) > 1e-7);  // a gradient that is nowhere tested is no test
        CHECK(std::sqrt(difference) <= 1e-6 * std::sqrt(norm) + 1e-10);
    }
}

}  // namespace ballast::test
