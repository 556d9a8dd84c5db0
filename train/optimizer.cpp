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

/// The elements that a rank keeps moments of.
Range updated_elements(const Shards& shards, const Distribution& distribution) {
    if (distribution.shards_optimizer()) return shards.elements_of(distribution.ranks().rank());
    return {0, shards.element_bounds().back()};
}

Range updated_blocks(const Shards& shards, const Distribution& distribution) {
    if (distribution.shards_optimizer()) return shards.blocks_of(distribution.ranks().rank());
    return {0, shards.block_bounds().back()};
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

}  // namespace

Optimizer::Optimizer(Context& context, const model::Weights& weights, const ops::AdamW& options, double clip_norm,
                     const Distribution& distribution)
    : context_(context),
      options_(options),
      clip_norm_(clip_norm),
      distribution_(distribution),
      shards_(weights.table(), distribution),
      gradients_(context, weights.table(), weights.master_dtype(), distribution, shards_),
      own_blocks_(context,
                  blocks_from(shards_.blocks(), shards_.blocks_of(distribution.ranks().rank()), own_elements().begin)),
      updated_blocks_(context, blocks_from(shards_.blocks(), updated_blocks(shards_, distribution), updated().begin)),
      moment_buffer_(context.allocate(moment_bytes(weights.table(), weights.compute_dtype(), distribution))),
      host_scalars_(context.device(), sizeof(ops::StepScalars)),
      scalars_buffer_(context.allocate(sizeof(ops::StepScalars))),
      norms_buffer_(context.allocate(shards_.blocks().size() * sizeof(double))),
      scalars_(scalars_buffer_.data(), Dtype::u8, {static_cast<int64_t>(sizeof(ops::StepScalars))}),
      sum_of_squares_(norms_buffer_.data(), Dtype::f64, {static_cast<int64_t>(shards_.blocks().size())}) {
    const Tensor both(moment_buffer_.data(), weights.master_dtype(), {2 * updated().size()});
    m_ = both.slice(0, 0, updated().size());
    v_ = both.slice(0, updated().size(), 2 * updated().size());
}

size_t Optimizer::moment_bytes(const model::ParameterTable& table, Dtype compute_dtype,
                               const Distribution& distribution) {
    const Shards shards(table, distribution);
    return 2 * static_cast<size_t>(updated_elements(shards, distribution).size()) *
           size_of(accumulation_dtype(compute_dtype));
}

Range Optimizer::updated() const { return updated_elements(shards_, distribution_); }

void Optimizer::set_scalars(int64_t update, double learning_rate, double loss_scale) {
    host_scalars_.as<ops::StepScalars>()[0] = {
        .learning_rate = learning_rate, .step = update, .loss_scale = loss_scale};
}

void Optimizer::queue_begin() {
    context_.queue_copy_from_host(scalars_, host_scalars_.as<ops::StepScalars>());
    gradients_.queue_clear();
}

void Optimizer::queue_update(model::Weights& weights, const Tensor& losses) {
    Communicator& ranks = distribution_.ranks();
    gradients_.queue_sum();
    const Tensor gradients = gradients_.of_lane(0).flat();
    const Range blocks = shards_.blocks_of(ranks.rank());
    ops::sums_of_squares(context_, part(sum_of_squares_, blocks), part(gradients, own_elements()), own_blocks_);
    all_gather(context_, ranks, sum_of_squares_, shards_.block_bounds());
    ops::global_norm(context_, scalars_, sum_of_squares_, losses, clip_norm_);

    if (!distribution_.shards_optimizer()) all_gather(context_, ranks, gradients, shards_.element_bounds());
    ops::adamw(context_, part(weights.master_flat(), updated()), part(weights.compute_flat(), updated()), m_, v_,
               part(gradients, updated()), updated_blocks_, scalars_, options_);
    if (distribution_.shards_optimizer())  // of a 16-bit model the master stays where it was updated
        all_gather(context_, ranks, weights.compute_flat().empty() ? weights.master_flat() : weights.compute_flat(),
                   shards_.element_bounds());
    context_.queue_copy_to_host(host_scalars_.as<ops::StepScalars>(), scalars_);
}

StepResult Optimizer::result(const model::Weights& weights) const {
    const ops::StepScalars& scalars = host_scalars_.as<ops::StepScalars>()[0];
    StepResult result{scalars.grad_norm, scalars.non_finite == 0, ""};
    if (!result.applied) result.non_finite_parameter = first_non_finite(weights.table());
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

void Optimizer::gather(State state, const model::ParameterRow& row, const model::Weights& weights,
                       std::span<char> values) const {
    Communicator& ranks = distribution_.ranks();
    const Tensor flat = state == State::weights ? weights.master_flat() : moment(state);
    const int64_t first = state == State::weights ? 0 : updated().begin;  // element of the flat arrays
    const size_t size = size_of(flat.dtype);
    const Range wanted{row.offset, row.offset + row.count};
    if (ranks.is_first())
        require(values.size() == static_cast<size_t>(row.count) * size, "a parameter's values of another size");
    const auto read = [&](Range elements, char* out) {
        copy_out(context_, out, flat.slice(0, elements.begin - first, elements.end - first));
    };
    if (!is_sharded(state, weights)) {
        if (ranks.is_first()) read(wanted, values.data());
        return;
    }
    std::vector<char> mine;
    std::vector<OutgoingBytes> out;
    std::vector<IncomingBytes> in;
    for (int r = 0; r < ranks.size(); ++r) {
        const Range held = common(wanted, shards_.elements_of(r));
        if (held.size() <= 0) continue;
        char* place = values.data() + static_cast<size_t>(held.begin - row.offset) * size;
        const size_t bytes = static_cast<size_t>(held.size()) * size;
        if (r == ranks.rank() && r == 0) {
            read(held, place);
        } else if (r == ranks.rank()) {
            mine.resize(bytes);
            read(held, mine.data());
            out.push_back({0, std::as_bytes(std::span(mine))});
        } else if (ranks.is_first()) {
            in.push_back({r, std::as_writable_bytes(std::span(place, bytes))});
        }
    }
    ranks.exchange(out, in);
}

void Optimizer::load(State state, const model::ParameterRow& row, const std::vector<char>& values) {
    const Range held = common({row.offset, row.offset + row.count}, updated());
    if (held.size() <= 0) return;
    const Tensor& flat = moment(state);
    context_.copy_from_host(flat.slice(0, held.begin - updated().begin, held.end - updated().begin),
                            values.data() + static_cast<size_t>(held.begin - row.offset) * size_of(flat.dtype));
}

}  // namespace ballast::train
