#include "infer/key_value_cache.h"

#include "base/arena.h"
#include "kernels/ops.h"

namespace ballast::infer {

KeyValueCache::KeyValueCache(Context& context, const model::ModelConfig& config, Dtype dtype, const CachePolicy& policy,
                             int64_t max_rows)
    : policy_(policy), max_rows_(max_rows) {
    const auto layout = [&](Arena& arena) {
        keys_.clear();
        values_.clear();
        const auto rows = [&] { return arena.tensor(dtype, {1, max_rows, config.num_heads, config.head_dim()}); };
        for (int64_t l = 0; l < config.num_layers; ++l) {
            keys_.push_back(rows());
            values_.push_back(rows());
        }
        moving_ = rows();
    };
    Arena plan;
    layout(plan);
    buffer_ = context.allocate(plan.peak_bytes());
    Arena arena(buffer_.data(), buffer_.bytes());
    layout(arena);
}

Tensor KeyValueCache::slots(const Tensor& all, int64_t rows) const {
    require(size_ + rows <= max_rows_, "the cache has no room for these rows");
    return all.slice(1, size_, size_ + rows);
}

void KeyValueCache::commit(int64_t rows) {
    require(size_ + rows <= max_rows_, "the cache has no room for these rows");
    size_ += rows;
}

void KeyValueCache::keep(Context& context, const KeptRows& kept) {
    if (kept.size() == size_) return;
    for (size_t l = 0; l < keys_.size(); ++l)
        for (const Tensor& rows :
             {keys_[l], values_[l]}) {  // sinks stay; the rest moves down, by way of another buffer
            const Tensor moving = moving_.slice(1, 0, kept.recent.size());
            ops::copy(context, moving, rows.slice(1, kept.recent.begin, kept.recent.end));
            ops::copy(context, rows.slice(1, kept.sinks.end, kept.size()), moving);
        }
    size_ = kept.size();
}

void KeyValueCache::evict_after_forward(Context& context) { keep(context, keep_after_forward(size_, policy_)); }
void KeyValueCache::evict_for_space(Context& context, int64_t rows) {
    keep(context, keep_for_space(size_, rows, policy_));
}
void KeyValueCache::evict_range(Context& context, RowRange dropped) { keep(context, keep_outside(size_, dropped)); }

}  // namespace ballast::infer
