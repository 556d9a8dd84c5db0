#include "infer/key_value_cache.h"

#include "kernels/ops.h"

namespace ballast::infer {

KeyValueCache::Layout::Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t max_rows) {
    const auto rows = [&] { return arena.tensor(dtype, {1, max_rows, config.key_value_heads(), config.head_dim()}); };
    for (int64_t l = 0; l < config.num_layers; ++l) {
        keys.push_back(rows());
        values.push_back(rows());
    }
    moving = rows();
}

size_t KeyValueCache::bytes(const model::ModelConfig& config, Dtype dtype, int64_t max_rows) {
    Arena plan;
    Layout(plan, config, dtype, max_rows);
    return plan.peak_bytes();
}

KeyValueCache::KeyValueCache(Context& context, const model::ModelConfig& config, Dtype dtype, const CachePolicy& policy,
                             int64_t max_rows)
    : policy_(policy), max_rows_(max_rows), buffer_(context.allocate(bytes(config, dtype, max_rows))), layout_([&] {
          Arena arena(buffer_.data(), buffer_.bytes());
          return Layout(arena, config, dtype, max_rows);
      }()) {}

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
    for (size_t l = 0; l < layout_.keys.size(); ++l)
        for (const Tensor& rows :
             {layout_.keys[l], layout_.values[l]}) {  // sinks stay; the rest moves down, by way of another buffer
            const Tensor moving = layout_.moving.slice(1, 0, kept.recent.size());
            ops::copy(context, moving, rows.slice(1, kept.recent.begin, kept.recent.end));
            ops::copy(context, rows.slice(1, kept.sinks.end, kept.size()), moving);
        }
    size_ = kept.size();
}

void KeyValueCache::evict_after_forward(Context& context) { keep(context, keep_after_forward(size_, policy_)); }

}  // namespace ballast::infer
