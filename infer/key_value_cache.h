// The literal streaming cache: keys are stored before rotation and rotated at their position inside the cache at every
// step; rows are moved when a row is evicted. It is an oracle for faster caches.
#pragma once

#include <vector>

#include "base/arena.h"
#include "infer/cache_policy.h"
#include "kernels/context.h"
#include "model/config.h"

namespace ballast::infer {

/// Keys and values of every layer for one sequence. Rows are [G*D] in the compute dtype.
class KeyValueCache {
  public:
    /// Room for `max_rows` rows (C + 1 for a bounded policy; the longest sequence for dense).
    KeyValueCache(Context& context, const model::ModelConfig& config, Dtype dtype, const CachePolicy& policy,
                  int64_t max_rows);

    /// The device memory of such a cache, known before it is made.
    static size_t bytes(const model::ModelConfig& config, Dtype dtype, int64_t max_rows);

    const CachePolicy& policy() const { return policy_; }
    int64_t size() const { return size_; }
    int64_t max_rows() const { return max_rows_; }
    size_t bytes() const { return buffer_.bytes(); }

    /// Rows [size, size + rows) of a layer, [1,rows,G,D], for the caller to write. commit(rows) adds them to the cache.
    Tensor key_slots(int64_t layer, int64_t rows) const { return slots(key(layer), rows); }
    Tensor value_slots(int64_t layer, int64_t rows) const { return slots(value(layer), rows); }
    /// The first `rows` rows of a layer, [1,rows,G,D].
    Tensor keys(int64_t layer, int64_t rows) const { return key(layer).slice(1, 0, rows); }
    Tensor values(int64_t layer, int64_t rows) const { return value(layer).slice(1, 0, rows); }

    void commit(int64_t rows);
    /// Removes every row.
    void clear() { size_ = 0; }
    /// Evicts rows as the policy says for the end of a forward step.
    void evict_after_forward(Context& context);

  private:
    /// All its memory; each tensor is [1,max_rows,G,D].
    struct Layout {
        std::vector<Tensor> keys, values;  // one a layer
        Tensor moving;                     // a buffer for rows that are being moved

        Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t max_rows);
    };

    Tensor key(int64_t layer) const { return layout_.keys[static_cast<size_t>(layer)]; }
    Tensor value(int64_t layer) const { return layout_.values[static_cast<size_t>(layer)]; }
    Tensor slots(const Tensor& all, int64_t rows) const;
    void keep(Context& context, const KeptRows& kept);

    CachePolicy policy_;
    int64_t max_rows_;
    int64_t size_ = 0;
    DeviceBuffer buffer_;
    Layout layout_;
};

}  // namespace ballast::infer
