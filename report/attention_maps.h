// Attention maps made small enough to stand in a page.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::report {

struct AttentionMaps {
    int64_t layers = 0, heads = 0, length = 0;
    std::vector<float> weights;   // [layers, heads, length, length]
    std::vector<float> logits{};  // the same before the softmax; empty in files of older versions
    bool causal = true;           // no query gives a later key anything; of an encoder it is false
};

/// What `ballast eval sinks --maps` wrote. UserError for any other file.
AttentionMaps read_attention_maps(const std::string& path);

/// Side of the maps such that `maps` of them fit `bytes`, whole ones taken for two: at most 64, at least 8.
int64_t map_side(int64_t maps, int64_t bytes);

/// All maps, layer after layer, row after row, of causal ones the lower triangles, in 8 bits: round(255 sqrt(weight)),
/// which keeps small weights apart. Where `side` is less than the length, a cell is the attention of the mean query of
/// its rows on all keys of its columns together, so rows still sum to what they did and a single sink stays visible.
std::vector<uint8_t> pack_maps(const AttentionMaps& maps, int64_t side);

/// Maps of logits in 8 bits: 0 is a map's `low`, 255 its `high`, equal steps between. Where `side` is less than the
/// length, a cell is the mean over the pairs in it whose query sees the key.
struct PackedLogits {
    std::vector<uint8_t> cells;     // as of pack_maps()
    std::vector<double> low, high;  // [layers * heads]; not finite where a map has such a logit, whose cells are then 0
};
PackedLogits pack_logits(const AttentionMaps& maps, int64_t side);

std::string base64(const std::vector<uint8_t>& bytes);

}  // namespace ballast::report
