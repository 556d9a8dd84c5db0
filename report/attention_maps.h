// Attention maps, reduced so that they fit in a page.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::report {

struct AttentionMaps {
    int64_t layers = 0, heads = 0, length = 0;
    std::vector<float> weights;   // [layers, heads, length, length]
    std::vector<float> logits{};  // the logits of the same maps; empty in files of older versions
    bool causal = true;           // queries see no later keys; false for an encoder
};

/// Reads the file of `ballast eval sinks --maps`. UserError for any other file.
AttentionMaps read_attention_maps(const std::string& path);

/// The side length at which `maps` maps fit into `bytes`; a full map counts as two. At most 64, at least 8.
int64_t map_side(int64_t maps, int64_t bytes);

/// All maps, layer after layer and row after row (of causal maps the lower triangles), in 8 bits: round(255
/// sqrt(weight)), which keeps small weights distinct. Where `side` is less than the length, a cell is the attention of
/// the mean query of its rows to the sum of all keys of its columns. So row sums are unchanged and a single sink stays
/// visible.
std::vector<uint8_t> pack_maps(const AttentionMaps& maps, int64_t side);

/// Maps of logits in 8 bits: 0 is a map's `low`, 255 its `high`, with equal steps between. Where `side` is less than
/// the length, a cell is the mean over its (query, key) pairs in which the query sees the key.
struct PackedLogits {
    std::vector<uint8_t> cells;     // as of pack_maps()
    std::vector<double> low, high;  // [layers * heads]; not finite where a map's logits are not; its cells are then 0
};
PackedLogits pack_logits(const AttentionMaps& maps, int64_t side);

std::string base64(const std::vector<uint8_t>& bytes);

}  // namespace ballast::report
