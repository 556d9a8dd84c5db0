// Which rows of keys and values every head of a model keeps, and in which slot each row stands: the arithmetic that the
// paged cache is written and read by.
//
// Rows are never moved. A head with sinks s and span r has s + r + 1 slots: position p stands in slot p when p < s, and
// in slot s + (p - s) mod (r + 1) otherwise. So a row takes the slot of the one row that its own query, and every later
// one, no longer sees. A head that keeps everything is such a ring that never wraps. A head that chooses by score has a
// slot for each heavy position besides; once all are full, the device says which row goes (ops::lightest_slots). A head
// with a memory of blocks has the ring of its span first, then a slot for every position (ops::BlockMemory).
#pragma once

#include <cstdint>
#include <vector>

#include "infer/cache_plan.h"
#include "model/config.h"

namespace ballast::infer {

/// Slots of a bounded head.
inline int64_t ring_slots(const HeadCache& head) { return head.capacity() + 1; }
/// The slot of a position's row, in a head that does not choose by score.
int64_t slot_of(const HeadCache& head, int64_t position);
/// Slots in use when the rows of positions 0, …, positions - 1 have been written: [0, slots_in_use).
int64_t slots_in_use(const HeadCache& head, int64_t positions);
/// Whether the row of `position` is still there when those of 0, …, positions - 1 have been written; not by score.
bool keeps(const HeadCache& head, int64_t position, int64_t positions);

/// One layer: what its queries see, and what its key-value heads keep for them.
struct LayerRows {
    int64_t sinks = 0;             // positions that every query sees; 1 where what is remembered says it stands at 0
    std::vector<int32_t> spans;    // [H] earlier positions that a query head sees besides; < 0: all
    std::vector<HeadCache> rings;  // [G] the widest of a group's query heads

    /// Whether a query head sees less than everything.
    bool limited() const;
    /// The first position besides the sinks that some key-value head still keeps, when `positions` rows were written.
    int64_t first_kept(int64_t positions) const;
    /// Of all key-value heads; HeadCache::kAll when one keeps everything, as all do by score while a prompt is read.
    int64_t longest_span() const;
};

/// The plan in every layer of a model. Where the model has windows of its own (attention_span), the narrower of the two
/// holds; what a bounded plan pins stays visible through them, and under a plan that pins nothing and keeps everything
/// the model's sink tokens do, as under one that chooses by score: there a window only hides what is kept. UserError
/// when the plan is for another number of layers or heads.
std::vector<LayerRows> kept_rows(const CachePlan& plan, const model::ModelConfig& config);

}  // namespace ballast::infer
