#include "train/train_step.h"

#include <numeric>

#include "base/arena.h"
#include "kernels/collectives.h"
#include "kernels/phase.h"
#include "model/sink_tokens.h"

namespace ballast::train {
namespace {

/// Numbers that a position of a sample has: id, target, and where documents are masked its first key.
int64_t numbers_of_position(const RunConfig& config) { return config.data.document_mask ? 3 : 2; }

struct StepMemory {
    Tensor tokens, losses;

    StepMemory(Arena& arena, const RunConfig& config, int64_t own_passes) {
        losses = arena.tensor(Dtype::f64, {config.train.global_batch / config.samples_per_pass()});
        tokens = arena.tensor(Dtype::i32, {numbers_of_position(config), own_passes,
                                           config.samples_per_pass() * config.train.sequence_length});
    }
};

/// All passes of a step, or those of the rank where there are several.
Range step_passes(const RunConfig& config, const Distribution& distribution) {
    if (distribution.is_trivial()) return {0, config.train.global_batch / config.samples_per_pass()};
    return distribution.own_passes();
}

}  // namespace

size_t TrainStep::bytes(const RunConfig& config, const Distribution& distribution) {
    Arena plan;
    StepMemory(plan, config, step_passes(config, distribution).size());
    return plan.peak_bytes();
}

TrainStep::TrainStep(Context& context, model::Transformer& model, Optimizer& optimizer, const RunConfig& config)
    : context_(context),
      model_(model),
      optimizer_(optimizer),
      document_mask_(config.data.document_mask),
      length_(config.train.sequence_length),
      passes_(step_passes(config, optimizer.distribution())),
      samples_{passes_.begin * config.samples_per_pass(), passes_.end * config.samples_per_pass()},
      num_targets_(static_cast<double>(config.train.global_batch * model::targets_per_sample(config.model, length_))),
      pass_(context, model, model::PassKind::forward_backward, config.samples_per_pass(), length_,
            config.train.recompute),
      buffer_(context.allocate(bytes(config, optimizer.distribution()))),
      host_tokens_(context.device(),
                   static_cast<size_t>(numbers_of_position(config) * samples_.size() * length_) * sizeof(int32_t)),
      host_losses_(context.device(),
                   static_cast<size_t>(config.train.global_batch / config.samples_per_pass()) * sizeof(double)),
      recording_(
          context, [this] { queue_work(); }, config.train.cuda_graph) {
    Arena arena(buffer_.data(), buffer_.bytes());
    const StepMemory memory(arena, config, passes_.size());
    tokens_ = memory.tokens;
    losses_ = memory.losses;
}

void TrainStep::load(std::span<const int32_t> windows, std::span<const int32_t> document_starts) {
    const auto T = static_cast<size_t>(length_), count = static_cast<size_t>(samples_.size());
    require(windows.size() == count * (T + 1), "a batch of another shape");
    require(document_starts.size() == (document_mask_ ? windows.size() : 0), "document starts of another batch");
    const std::span<int32_t> host = host_tokens_.as<int32_t>();
    for (size_t s = 0; s < count; ++s) {
        const auto sample_values = [&](size_t which) { return host.subspan((which * count + s) * T, T); };
        const size_t first = s * (T + 1);
        model::fill_sample(windows.subspan(first, T + 1), model_.config(), sample_values(0), sample_values(1));
        if (document_mask_)
            model::fill_first_keys(document_starts.subspan(first, T + 1), model_.config(), sample_values(2));
    }
    context_.queue_copy_from_host(tokens_, host);
}

void TrainStep::run() { recording_.run(); }

void TrainStep::set_timeline(Timeline* timeline) {
    timeline_ = timeline;
    optimizer_.set_timeline(timeline);
}

void TrainStep::enter(Place place) { timeline_->places().enter(Track::compute, place); }

void TrainStep::observe(bool is_last) {
    if (!timeline_ && !is_last) return pass_.observe_gradients({});
    pass_.observe_gradients([this, is_last](int64_t part) {
        if (timeline_) note_finished(part);
        if (is_last) optimizer_.part_finished(part);
    });
    if (!timeline_) return;
    part_begin_ = timeline_->now();
    enter({Activity::forward, 0});
    pass_.observe_layers([this](int64_t layer, const model::LayerActivations&) {
        const bool last = layer + 1 == model_.config().num_layers;
        enter(last ? Place{Activity::head} : Place{Activity::forward, static_cast<int32_t>(layer + 1)});
    });
}

void TrainStep::note_finished(int64_t part) {
    const auto going_back = [&](int64_t p) {
        return p == model_.config().num_layers ? Place{Activity::head}
               : p < 0                         ? Place{Activity::embedding}
                                               : Place{Activity::backward, static_cast<int32_t>(p)};
    };
    if (part >= 0) enter(going_back(part - 1));
    if (!timeline_->keeps_events()) return;
    const double now = timeline_->now();
    timeline_->add(Track::compute, going_back(part), part_begin_, now);
    part_begin_ = now;
}

void TrainStep::queue_pass(int64_t pass, int64_t lane) {
    const Span span(timeline_, Track::compute, {Activity::pass, static_cast<int32_t>(pass)});
    observe(pass + 1 == passes_.end);
    const int64_t own = pass - passes_.begin;
    const auto pass_values = [&](int64_t which) {
        return tokens_.slice(0, which, which + 1).slice(1, own, own + 1).view({tokens_.dim(2)});
    };
    pass_.use_tokens(pass_values(0), pass_values(1), document_mask_ ? pass_values(2) : Tensor{});
    pass_.forward_backward(optimizer_.gradients(lane), 1.0 / num_targets_, optimizer_.scalars());
    ops::sum(context_, losses_.slice(0, pass, pass + 1), pass_.losses());
}

void TrainStep::queue_work() {
    const Distribution& distribution = optimizer_.distribution();
    if (timeline_) timeline_->begin_update();
    optimizer_.queue_begin();
    if (distribution.is_trivial()) {
        for (int64_t pass = passes_.begin; pass < passes_.end; ++pass) queue_pass(pass, 0);
    } else {
        const Range lanes = distribution.own_lanes();
        for (int64_t lane = lanes.begin; lane < lanes.end; ++lane) {
            const Range passes = distribution.lane_passes(lane);
            for (int64_t pass = passes.begin; pass < passes.end; ++pass) queue_pass(pass, lane - lanes.begin);
        }
    }
    const Phase phase(context_, "optimiser");
    optimizer_.queue_reduction();
    if (!distribution.is_trivial()) {
        const Span span(timeline_, Track::compute, {Activity::gather_losses});
        all_gather(context_, distribution.ranks(), losses_, distribution.pass_bounds());
    }
    optimizer_.queue_update(model_.weights(), losses_);
    context_.queue_copy_to_host(host_losses_.as<double>(), losses_);
}

double TrainStep::loss() const {
    const auto losses = host_losses_.as<double>();
    return std::accumulate(losses.begin(), losses.end(), 0.0) / num_targets_;
}

}  // namespace ballast::train
