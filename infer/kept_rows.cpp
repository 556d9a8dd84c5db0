#include "infer/kept_rows.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast::infer {

int64_t slot_of(const HeadCache& head, int64_t position) {
    require(!head.by_score(), "slots by score are chosen on the device");
    if (!head.bounded() || position < head.sinks) return position;
    return head.sinks + (position - head.sinks) % (head.span + 1);
}

ops::BlockMemory block_memory_of(const HeadCache& head) {
    return {.local = head.span + 1, .initial = head.sinks, .chosen = head.chosen_blocks.value()};
}

int64_t slots_in_use(const HeadCache& head, int64_t positions) {
    if (head.chosen_blocks) return block_memory_of(head).ring_slots() + positions;
    return head.bounded() ? std::min(positions, ring_slots(head)) : positions;
}

bool keeps(const HeadCache& head, int64_t position, int64_t positions) {
    require(!head.by_score(), "what is kept by score is known on the device");
    if (position >= positions) return false;
    return !head.bounded() || position < head.sinks || positions - position <= head.span + 1;
}

bool LayerRows::limited() const {
    return std::any_of(spans.begin(), spans.end(), [](int32_t span) { return span >= 0; });
}

int64_t LayerRows::longest_span() const {
    int64_t longest = 0;
    for (const HeadCache& ring : rings) {
        if (!ring.bounded() || ring.heavy) return HeadCache::kAll;
        longest = std::max(longest, ring.span);
    }
    return longest;
}

int64_t LayerRows::first_kept(int64_t positions) const {
    const int64_t span = longest_span();
    return span == HeadCache::kAll ? sinks : std::max(sinks, positions - (span + 1));
}

namespace {

/// The narrower of a head's span and its layer's window (0: none).
int64_t narrower(int64_t span, int64_t window) {
    if (window == 0) return span;
    return span == HeadCache::kAll ? window : std::min(span, window);
}

/// What a key-value head keeps for `count` query heads from `first` on.
HeadCache ring_of_group(const LayerRows& layer, int64_t first, int64_t count) {
    HeadCache ring{layer.sinks, 0};
    for (int64_t h = first; h < first + count; ++h) {
        const int64_t span = layer.spans[static_cast<size_t>(h)];
        if (span < 0) return {0, HeadCache::kAll};
        ring.span = std::max(ring.span, span);
    }
    return ring;
}

}  // namespace

std::vector<LayerRows> kept_rows(const CachePlan& plan, const model::ModelConfig& config) {
    const int64_t H = config.num_heads, G = config.key_value_heads();
    const bool remembers = plan.cache(0, 0).chosen_blocks.has_value();
    if (plan.layers() != config.num_layers || plan.heads() != H)
        throw UserError(
            fmt::format("the plan is for {} layers of {} heads, the model has {} of {}; use a plan made for "
                        "this model",
                        plan.layers(), plan.heads(), config.num_layers, H));
    std::vector<LayerRows> out;
    for (int64_t l = 0; l < plan.layers(); ++l) {
        LayerRows layer;
        const int64_t window = config.span_of_layer(l);
        const bool pins_nothing = plan.sinks() == 0 && (!plan.bounded() || plan.by_score());
        if (remembers && window > 0)
            throw UserError(fmt::format(
                "layer {} has a window of {} positions, behind which a memory of blocks means nothing; choose "
                "another policy for this model",
                l, window));
        layer.sinks = !pins_nothing ? plan.sinks() : remembers ? 1 : window > 0 ? config.num_sink_tokens : 0;
        for (int64_t h = 0; h < H; ++h)
            layer.spans.push_back(static_cast<int32_t>(
                narrower(plan.cache(l, h).heavy ? HeadCache::kAll : plan.cache(l, h).span, window)));
        for (int64_t g = 0; g < G; ++g)
            layer.rings.push_back(plan.by_score() ? plan.cache(l, g * (H / G))
                                                  : ring_of_group(layer, g * (H / G), H / G));
        out.push_back(std::move(layer));
    }
    return out;
}

}  // namespace ballast::infer
