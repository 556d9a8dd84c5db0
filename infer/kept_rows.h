// The rows of keys and values that every head of a model keeps, and the slot of each row. The paged cache is written
// and read by this arithmetic.
//
// Rows are never moved. A head with sinks s and span r has s + r + 1 slots. Position p has slot p when p < s, and slot
// s + (p - s) mod (r + 1) otherwise. So a row replaces the one row that its own query, and every later query, no longer
// sees. A head that keeps everything is such a ring that never wraps. A head that chooses by score also has a slot for
// each heavy position; once all slots are full, the device chooses the row to replace (ops::lightest_slots). A head
// with a block memory has the ring of its span first, then a slot for every position (ops::BlockMemory).
#pragma once

#include <cstdint>
#include <vector>

#include "infer/cache_plan.h"
#include "kernels/ops.h"
#include "model/config.h"

namespace ballast::infer {

/// The number of slots of a bounded head.
inline int64_t ring_slots(const HeadCache& head) { return head.capacity() + 1; }
/// The slot of a position's row, in a head that does not choose by score.
int64_t slot_of(const HeadCache& head, int64_t position);
/// The block memory of a head that has one.
ops::BlockMemory block_memory_of(const HeadCache& head);
/// The slots in use, [0, slots_in_use), after the rows of positions 0, …, positions - 1 were written.
int64_t slots_in_use(const HeadCache& head, int64_t positions);
/// True when the row of `position` is still kept after those of 0, …, positions - 1 were written. Not for heads that
/// choose by score.
bool keeps(const HeadCache& head, int64_t position, int64_t positions);

/// One layer: the visible range of its query heads, and the rows that its key-value heads keep for them.
struct LayerRows {
    int64_t sinks = 0;             // positions that every query sees; 1 with a block memory, whose far rows are at 0
    std::vector<int32_t> spans;    // [H] earlier positions that a query head sees besides its own; < 0: all
    std::vector<HeadCache> rings;  // [G] the widest of a group's query heads

    /// True when a query head does not see every earlier position.
    bool limited() const;
    /// The first position besides the sinks that some key-value head still keeps after `positions` rows were written.
    int64_t first_kept(int64_t positions) const;
    /// The longest span of all key-value heads; kAll when one keeps everything. Heads that choose by score do so while
    /// they read a prompt.
    int64_t longest_span() const;
};

/// The plan applied to every layer of a model. Where the model has its own windows (attention_span), the narrower range
/// applies. The positions that a bounded plan pins stay visible through the windows. Under a plan that pins nothing and
/// keeps everything, and under one that chooses by score, the model's sink tokens stay visible; there a window only
/// hides rows that are kept. UserError when the plan is for another number of layers or heads.
std::vector<LayerRows> kept_rows(const CachePlan& plan, const model::ModelConfig& config);

}  // namespace ballast::infer
