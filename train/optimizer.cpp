#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/collectives.h"

namespace ballast::train {
namespace {

/// The blocks [range), with offsets from `first_element`.
std::vector<ops::ParameterSpan> blocks_from(std::span<const ops::ParameterSpan> blocks, Range range,
                                            int64_t first_element) {
    std::vector<ops::ParameterSpan> out(blocks.begin() + range.begin, blocks.begin() + range.end);
    for (ops::ParameterSpan& block : out) block.offset -= first_element;
    return out;
}

Range updated_elements(const Bucket& bucket, const Distribution& distribution) {
    return distribution.shards_optimizer() ? bucket.rank_elements(distribution.ranks().rank()) : bucket.elements();
}

Range updated_blocks(const Bucket& bucket, const Distribution& distribution) {
    return distribution.shards_optimizer() ? bucket.blocks_of(distribution.ranks().rank()) : bucket.blocks();
}

int64_t num_updated(const Shards& shards, const Distribution& distribution) {
    int64_t elements = 0;
    for (const Bucket& bucket : shards.buckets()) elements += updated_elements(bucket, distribution).size();
    return elements;
}

Tensor part(const Tensor& flat, Range range) { return flat.empty() ? flat : flat.slice(0, range.begin, range.end); }

/// On the CPU with all threads: one core alone does not move bytes as fast as memory gives them.
void copy_out(Context& context, char* out, const Tensor& tensor) {
    constexpr size_t kPiece = size_t{1} << 20;
    if (context.device() != Device::cpu) return context.copy_to_host(out, tensor);
    const char* from = static_cast<const char*>(tensor.data);
    context.pool().parallel_for(static_cast<int64_t>((tensor.bytes() + kPiece - 1) / kPiece), [&](int64_t i) {
        const size_t at = static_cast<size_t>(i) * kPiece;
        std::memcpy(out + at, from + at, std::min(kPiece, tensor.bytes() - at));
    });
}

Range common(Range a, Range b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

/// Each rank's share of a bucket goes from it to all others; `bounds` of the bucket in x.
void gather_shares(Context& context, Communicator& ranks, const Tensor& x, const std::vector<int64_t>& bounds) {
    std::vector<int64_t> from_first = bounds;
    for (int64_t& bound : from_first) bound -= bounds.front();
    all_gather(context, ranks, part(x, {bounds.front(), bounds.back()}), from_first);
}

}  // namespace

Optimizer::Optimizer(Context& context, const model::Weights& weights, const ops::AdamW& options, double clip_norm,
                     const Distribution& distribution)
    : context_(context),
      options_(options),
      clip_norm_(clip_norm),
      distribution_(distribution),
      shards_(weights.table(), distribution),
      gradients_(context, weights.table(), weights.master_dtype(), distribution, shards_),
      moment_buffer_(context.allocate(moment_bytes(weights.table(), weights.compute_dtype(), distribution))),
      host_scalars_(context.device(), sizeof(ops::StepScalars)),
      scalars_buffer_(context.allocate(sizeof(ops::StepScalars))),
      norms_buffer_(context.allocate(shards_.blocks().size() * sizeof(double))),
      scalars_(scalars_buffer_.data(), Dtype::u8, {static_cast<int64_t>(sizeof(ops::StepScalars))}),
      sum_of_squares_(norms_buffer_.data(), Dtype::f64, {static_cast<int64_t>(shards_.blocks().size())}) {
    const int64_t kept = num_updated(shards_, distribution);
    const Tensor both(moment_buffer_.data(), weights.master_dtype(), {2 * kept});
    m_ = both.slice(0, 0, kept);
    v_ = both.slice(0, kept, 2 * kept);
    int64_t moment = 0;
    for (const Bucket& bucket : shards_.buckets()) {
        const int rank = distribution.ranks().rank();
        const Range own = bucket.rank_elements(rank), updated = updated_elements(bucket, distribution);
        buckets_.push_back(
            {own,
             updated,
             moment,
             {context, blocks_from(shards_.blocks(), bucket.blocks_of(rank), own.begin)},
             {context, blocks_from(shards_.blocks(), updated_blocks(bucket, distribution), updated.begin)}});
        moment += updated.size();
    }
    if (!distribution.overlaps()) return;
    communication_context_ = context.second_queue();
    if (context.device() == Device::cpu) communication_thread_ = std::make_unique<TaskThread>();
}

size_t Optimizer::moment_bytes(const model::ParameterTable& table, Dtype compute_dtype,
                               const Distribution& distribution) {
    const Shards shards(table, distribution);
    return 2 * static_cast<size_t>(num_updated(shards, distribution)) * size_of(accumulation_dtype(compute_dtype));
}

void Optimizer::set_scalars(int64_t update, double learning_rate, double loss_scale, const UpdateLimits& limits) {
    host_scalars_.as<ops::StepScalars>()[0] = {.learning_rate = learning_rate,
                                               .step = update,
                                               .loss_scale = loss_scale,
                                               .loss_limit = limits.loss,
                                               .norm_limit = limits.norm};
}

void Optimizer::queue_begin() {
    context_.queue_copy_from_host(scalars_, host_scalars_.as<ops::StepScalars>());
    gradients_.queue_clear();
    buckets_given_ = 0;
}

void Optimizer::run_or_post(std::function<void(Context&)> work) {
    if (!communication_context_) {
        const Span span(timeline_, Track::compute, {Activity::wait_for_reduction});
        return work(context_);
    }
    if (communication_thread_)
        return communication_thread_->post([this, work = std::move(work)] { work(*communication_context_); });
    communication_context_->queue_wait_for(context_);
    work(*communication_context_);
}

void Optimizer::wait_for_communication() {
    if (!communication_context_) return;
    const Span span(timeline_, Track::compute, {Activity::wait_for_reduction});
    if (communication_thread_) return communication_thread_->wait();
    context_.queue_wait_for(*communication_context_);
}

void Optimizer::post_buckets_until(int64_t part) {
    for (; buckets_given_ < buckets_.size() && shards_.buckets()[buckets_given_].last_part >= part; ++buckets_given_)
        run_or_post([this, bucket = buckets_given_](Context& context) { reduce(context, bucket); });
}

void Optimizer::part_finished(int64_t part) {
    if (communication_context_) post_buckets_until(part);
}

void Optimizer::queue_reduction() {
    post_buckets_until(-1);
    wait_for_communication();
}

void Optimizer::reduce(Context& context, size_t b) {
    const Bucket& bucket = shards_.buckets()[b];
    Timeline* const timeline = distribution_.is_trivial() ? nullptr : timeline_;
    const auto number = static_cast<int32_t>(b);
    const Span span(timeline, Track::communication, {Activity::reduce_bucket, number});
    gradients_.queue_sum(context, bucket, number, timeline);
    Communicator& ranks = distribution_.ranks();
    const Tensor gradients = gradients_.lane_gradients(0).flat();
    ops::sums_of_squares(context, part(sum_of_squares_, bucket.blocks_of(ranks.rank())),
                         part(gradients, buckets_[b].own), buckets_[b].own_blocks);
    {
        const Span gathering(timeline, Track::communication, {Activity::gather_norms, number});
        gather_shares(context, ranks, sum_of_squares_, bucket.block_bounds);
    }
    if (distribution_.shards_optimizer()) return;
    const Span gathering(timeline, Track::communication, {Activity::gather_gradients, number});
    gradients_.queue_gather(context, bucket);
}

void Optimizer::gather_weights(Context& context, const model::Weights& weights, size_t b) {
    const Span span(timeline_, Track::communication, {Activity::gather_weights, static_cast<int32_t>(b)});
    // Of a 16-bit model the master stays where it was updated.
    gather_shares(context, distribution_.ranks(),
                  weights.compute_flat().empty() ? weights.master_flat() : weights.compute_flat(),
                  shards_.buckets()[b].element_bounds);
}

void Optimizer::queue_update(model::Weights& weights, const Tensor& losses) {
    queue_reduction();
    ops::global_norm(context_, scalars_, sum_of_squares_, losses, clip_norm_);
    const Tensor gradients = gradients_.lane_gradients(0).flat();
    for (size_t b = 0; b < buckets_.size(); ++b) {
        const Span span(timeline_, Track::compute, {Activity::update, static_cast<int32_t>(b)});
        const BucketState& bucket = buckets_[b];
        const Range kept{bucket.moment_begin, bucket.moment_begin + bucket.updated.size()};
        ops::adamw(context_, part(weights.master_flat(), bucket.updated), part(weights.compute_flat(), bucket.updated),
                   part(m_, kept), part(v_, kept), part(gradients, bucket.updated), bucket.updated_blocks, scalars_,
                   options_);
        if (distribution_.shards_optimizer())
            run_or_post([this, &weights, b](Context& context) { gather_weights(context, weights, b); });
    }
    if (distribution_.shards_optimizer()) wait_for_communication();
    context_.queue_copy_to_host(host_scalars_.as<ops::StepScalars>(), scalars_);
}

StepResult Optimizer::result(const model::Weights& weights) const {
    const ops::StepScalars& scalars = host_scalars_.as<ops::StepScalars>()[0];
    StepResult result{scalars.grad_norm, scalars.non_finite == 0, scalars.spike != 0, ""};
    if (!result.finite) result.non_finite_parameter = first_non_finite(weights.table());
    return result;
}

void Optimizer::begin(int64_t update, double learning_rate, double loss_scale) {
    set_scalars(update, learning_rate, loss_scale);
    queue_begin();
}

StepResult Optimizer::step(model::Weights& weights, const Tensor& losses) {
    queue_update(weights, losses);
    context_.synchronise();
    return result(weights);
}

std::string Optimizer::first_non_finite(const model::ParameterTable& table) const {
    std::vector<double> sums(shards_.blocks().size());
    context_.copy_to_host(sums.data(), sum_of_squares_);
    for (size_t i = 0; i < sums.size(); ++i)
        if (!std::isfinite(sums[i])) return table.rows()[shards_.row_of_block(i)].name;
    return "";
}

bool Optimizer::is_sharded(State state, const model::Weights& weights) const {
    if (!distribution_.shards_optimizer() || distribution_.ranks().size() == 1) return false;
    return state != State::weights || !weights.compute_flat().empty();
}

Tensor Optimizer::kept(State state, const model::Weights& weights, size_t b, Range elements) const {
    if (state == State::weights) return part(weights.master_flat(), elements);
    const int64_t first = buckets_[b].moment_begin - buckets_[b].updated.begin;
    return part(moment(state), {elements.begin + first, elements.end + first});
}

void Optimizer::gather(State state, const model::ParameterRow& row, const model::Weights& weights,
                       std::span<char> values) const {
    Communicator& ranks = distribution_.ranks();
    if (timeline_) timeline_->places().move();
    const Span span(ranks.size() > 1 ? timeline_ : nullptr, Track::compute, {Activity::gather_state});
    const size_t size = size_of(weights.master_dtype()), bucket = shards_.bucket_index(row);
    const Range wanted{row.offset, row.offset + row.count};
    if (ranks.is_first())
        require(values.size() == static_cast<size_t>(row.count) * size, "a parameter's values of another size");
    const auto read = [&](Range elements, char* out) {
        copy_out(context_, out, kept(state, weights, bucket, elements));
    };
    if (!is_sharded(state, weights)) {
        if (ranks.is_first()) read(wanted, values.data());
        return;
    }
    std::vector<char> mine;
    std::vector<OutgoingBytes> out;
    std::vector<IncomingBytes> in;
    for (int r = 0; r < ranks.size(); ++r) {
        const Range held = common(wanted, shards_.buckets()[bucket].rank_elements(r));
        if (held.size() <= 0) continue;
        const size_t begin = static_cast<size_t>(held.begin - row.offset) * size;
        const size_t bytes = static_cast<size_t>(held.size()) * size;
        if (r == ranks.rank() && r == 0) {
            read(held, values.subspan(begin, bytes).data());
        } else if (r == ranks.rank()) {
            mine.resize(bytes);
            read(held, mine.data());
            out.push_back({0, std::as_bytes(std::span(mine))});
        } else if (ranks.is_first()) {
            in.push_back({r, std::as_writable_bytes(values.subspan(begin, bytes))});
        }
    }
    ranks.exchange(out, in);
}

void Optimizer::load(State state, const model::ParameterRow& row, const std::vector<char>& values) {
    if (timeline_) timeline_->places().move();
    const size_t bucket = shards_.bucket_index(row);
    const Range held = common({row.offset, row.offset + row.count}, buckets_[bucket].updated);
    if (held.size() <= 0) return;
    const Tensor& flat = moment(state);
    const int64_t first = buckets_[bucket].moment_begin - buckets_[bucket].updated.begin;
    context_.copy_from_host(part(flat, {held.begin + first, held.end + first}),
                            values.data() + static_cast<size_t>(held.begin - row.offset) * size_of(flat.dtype));
}

}  // namespace ballast::train
