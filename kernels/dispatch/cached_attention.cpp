#include <algorithm>

#include "kernels/cached_attention_scratch.h"
#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {
namespace {

/// The cache holds rows of what the model computes in, or narrower ones of an f32 model.
void check_cache(const PagedCache& cache, Dtype x, int64_t head_dim) {
    expect_compute(x);
    require(cache.keys_PRD.rank == 3, "a cache is [P,64,D]");
    const Dtype stored = cache.keys_PRD.dtype;
    require(stored == x || (x == Dtype::f32 && is_narrow(stored)), "a cache is of x, or narrow under f32");
    const int64_t blocks = cache.keys_PRD.dim(0);
    require(blocks < INT32_MAX / kCacheBlockRows, "a cache has fewer than 2^25 blocks");
    expect_dense(cache.keys_PRD, "cached keys", stored, {blocks, kCacheBlockRows, head_dim});
    expect_dense(cache.values_PRD, "cached values", stored, {blocks, kCacheBlockRows, head_dim});
    expect_dense(cache.positions_PR, "cached positions", Dtype::i32, {blocks, kCacheBlockRows});
}

void check_rows(const CacheRows& rows, int64_t sequences, int64_t kv_heads) {
    require(rows.table_BGW.rank == 3, "a cache's table is [B,G,W]");
    expect_dense(rows.table_BGW, "table", Dtype::i32, {sequences, kv_heads, rows.table_BGW.dim(2)});
    expect_dense(rows.length_BG, "length", Dtype::i32, {sequences, kv_heads});
}

}  // namespace

void cache_write(Context& context, const PagedCache& cache, const Tensor& k, const Tensor& v, const Tensor& slots,
                 const Tensor& positions) {
    require(k.rank == 3, "rows to be cached are [N,G,D]");
    const int64_t N = k.dim(0), G = k.dim(1), D = k.dim(2);
    check_cache(cache, k.dtype, D);
    expect_rows(k, "k", k.dtype, {N, G, D});
    expect_rows(v, "v", k.dtype, {N, G, D});
    expect_dense(slots, "slots", Dtype::i32, {N, G});
    expect_dense(positions, "positions", Dtype::i32, {N});
    run<cpu::cache_write, cuda::cache_write>(context, cache, k, v, slots, positions);
}

void cache_read(Context& context, const Tensor& k, const Tensor& v, const PagedCache& cache, const CacheRows& rows,
                int64_t num_sink_positions, int64_t key_start) {
    require(k.rank == 3, "rows read from a cache are [S,G,D]");
    const int64_t S = k.dim(0), G = k.dim(1), D = k.dim(2);
    check_cache(cache, k.dtype, D);
    check_rows(rows, 1, G);
    expect_rows(k, "k", k.dtype, {S, G, D});
    expect_rows(v, "v", k.dtype, {S, G, D});
    require(0 <= num_sink_positions && num_sink_positions <= key_start,
            "key_start must not be below num_sink_positions");
    run<cpu::cache_read, cuda::cache_read>(context, k, v, cache, rows, num_sink_positions, key_start);
}

void lightest_slots(Context& context, const Tensor& slots, const Tensor& mass, const Tensor& positions,
                    const Tensor& table, const Tensor& position, int64_t capacity, int64_t recent) {
    require(table.rank == 3 && mass.rank == 2, "a cache's table is [B,G,W], the mass of its rows [P,64]");
    const int64_t B = table.dim(0), G = table.dim(1), W = table.dim(2), P = mass.dim(0);
    require(mass.dtype == accumulation_dtype(mass.dtype), "the mass is kept as it is added up");
    require(P < INT32_MAX / kCacheBlockRows, "a cache has fewer than 2^25 blocks");
    expect_dense(slots, "slots", Dtype::i32, {B, G});
    expect_dense(mass, "mass", mass.dtype, {P, kCacheBlockRows});
    expect_dense(positions, "cached positions", Dtype::i32, {P, kCacheBlockRows});
    expect_dense(table, "table", Dtype::i32, {B, G, W});
    expect_dense(position, "position", Dtype::i32, {B});
    require(0 <= recent && recent < capacity && capacity <= W * kCacheBlockRows,
            "a head has room for its recent rows and another, and blocks for all of them");
    run<cpu::lightest_slots, cuda::lightest_slots>(context, slots, mass, positions, table, position, capacity, recent);
}

CachedAttentionPlan plan_cached_attention(std::span<const int32_t> lengths, int64_t num_kv_heads, int64_t capacity) {
    struct Item {
        int64_t row, split, slots;
    };
    std::vector<Item> items;
    CachedAttentionPlan plan;
    plan.first_BG1.push_back(0);
    for (size_t row = 0; row < lengths.size(); ++row) {
        const int64_t length = lengths[row], splits = cached_attention_splits(length);
        require(length >= 0, "a negative length of cached rows");
        for (int64_t split = 0; split < splits; ++split)
            items.push_back(
                {static_cast<int64_t>(row), split, std::min(kCacheSplitSlots, length - split * kCacheSplitSlots)});
        plan.first_BG1.push_back(static_cast<int32_t>(items.size()));
    }
    require(capacity == 0 || capacity >= static_cast<int64_t>(items.size()),
            "cached attention has more items than there is room for");
    std::ranges::stable_sort(items, std::ranges::greater{}, &Item::slots);
    for (const Item& item : items)
        for (const int64_t number : {item.row / num_kv_heads, item.row % num_kv_heads, item.split})
            plan.items_N3.push_back(static_cast<int32_t>(number));
    plan.items_N3.resize(std::max(plan.items_N3.size(), 3 * static_cast<size_t>(capacity)), -1);
    return plan;
}

size_t cached_attention_scratch_bytes(Dtype x, const CachedAttentionShape& shape) {
    return accumulation_dtype(x) == Dtype::f64 ? CachedAttentionPartials<double>::bytes(shape)
                                               : CachedAttentionPartials<float>::bytes(shape);
}

void cached_attention_forward(Context& context, const Tensor& out, const Tensor& q, const Tensor& sink_query,
                              const PagedCache& cache, const CacheRows& rows, const Tensor& query_position,
                              const CachedAttentionWork& work, const AttentionParams& params, const SlotMass& mass) {
    require(q.rank == 3 && rows.table_BGW.rank == 3, "cached attention works on [B,H,D] and tables [B,G,W]");
    const Dtype x = q.dtype, acc = accumulation_dtype(x);
    const int64_t B = q.dim(0), H = q.dim(1), D = q.dim(2), G = rows.table_BGW.dim(1);
    require(D >= 1 && D <= kMaxHeadDim, "the head dim must be in [1, 256]");
    require(G >= 1 && H % G == 0, "heads must be a multiple of key-value heads");
    check_cache(cache, x, D);
    check_rows(rows, B, G);
    expect_rows(q, "q", x, {B, H, D});
    expect_rows(out, "out", x, {B, H, D});
    if (!sink_query.empty()) expect_rows(sink_query, "sink_query", x, {B, H, D});
    expect_dense(query_position, "query_position", Dtype::i32, {B});
    require(work.items_N3.rank == 2, "work is a list [N,3]");
    expect_dense(work.items_N3, "work items", Dtype::i32, {work.items_N3.dim(0), 3});
    expect_dense(work.first_BG1, "work's first items", Dtype::i32, {B * G + 1});
    check_heads(params, acc, H);
    require(params.mask.num_sink_positions >= 0, "negative position");
    require(!params.mask.is_by_row(), "cached attention takes its queries' positions on their own");
    if (!mass.mass_PR.empty()) expect_dense(mass.mass_PR, "mass", acc, {cache.positions_PR.dim(0), kCacheBlockRows});
    run<cpu::cached_attention_forward, cuda::cached_attention_forward>(context, out, q, sink_query, cache, rows,
                                                                       query_position, work, params, mass);
}

}  // namespace ballast::ops
