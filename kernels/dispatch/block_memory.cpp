#include <algorithm>

#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {
namespace {

void check_memory(const BlockMemory& memory, const Tensor& table, const Tensor& position) {
    require(memory.local > 0 && memory.local % kCacheBlockRows == 0 && memory.initial >= 0 &&
                memory.initial % kCacheBlockRows == 0 && memory.chosen >= 0,
            "a memory of whole blocks");
    require(1 <= memory.representatives && memory.representatives <= kCacheBlockRows, "rows of a block stand for it");
    require(table.rank == 3 && table.dim(2) >= memory.ring_blocks(), "a memory's table [B,G,W] holds its ring");
    expect_dense(table, "table", Dtype::i32, {table.dim(0), table.dim(1), table.dim(2)});
    require(position.rank == 1 && (table.dim(0) == 1 || table.dim(0) == position.dim(0)),
            "a memory has a table for every position, or one for all");
    expect_dense(position, "position", Dtype::i32, {position.dim(0)});
}

}  // namespace

int64_t BlockMemory::slots(int64_t position) const {
    const int64_t left = position - local;
    if (left < 0) return position + 1;
    const int64_t whole = left / kCacheBlockRows, first = std::min(whole, initial_blocks());
    const int64_t others = std::min(whole - first, chosen);
    return (ring_blocks() + first + others) * kCacheBlockRows + left % kCacheBlockRows + 1;
}

void memory_store(Context& context, const Tensor& representatives, const Tensor& mass, const PagedCache& cache,
                  const Tensor& table, const Tensor& position, const BlockMemory& memory) {
    check_memory(memory, table, position);
    require(cache.keys_PRD.rank == 3, "a cache is [P,64,D]");
    const int64_t P = cache.keys_PRD.dim(0), D = cache.keys_PRD.dim(2);
    const Dtype stored = cache.keys_PRD.dtype, acc = accumulation_dtype(stored);
    require(P < INT32_MAX / kCacheBlockRows, "a cache has fewer than 2^25 blocks");
    expect_compute(stored);
    expect_dense(cache.keys_PRD, "cached keys", stored, {P, kCacheBlockRows, D});
    expect_dense(cache.positions_PR, "cached positions", Dtype::i32, {P, kCacheBlockRows});
    expect_dense(mass, "mass", acc, {P, kCacheBlockRows});
    expect_dense(representatives, "representatives", acc, {P, D});
    run<cpu::memory_store, cuda::memory_store>(context, representatives, mass, cache, table, position, memory);
}

void memory_lookup(Context& context, const Tensor& read, const Tensor& relevance, const Tensor& q,
                   const Tensor& representatives, const Tensor& table, const Tensor& position,
                   const BlockMemory& memory) {
    check_memory(memory, table, position);
    require(q.rank == 3 && read.rank == 3 && relevance.rank == 2 && representatives.rank == 2,
            "a memory is looked up by q [B,H,D]");
    const int64_t B = position.dim(0), G = table.dim(1), H = q.dim(1), D = q.dim(2);
    const Dtype acc = accumulation_dtype(q.dtype);
    expect_compute(q.dtype);
    require(G >= 1 && H % G == 0, "heads must be a multiple of key-value heads");
    require(relevance.dim(1) >= table.dim(2) - memory.ring_blocks() && read.dim(2) >= memory.read_blocks(),
            "a memory has more blocks than there is room for");
    expect_rows(q, "q", q.dtype, {B, H, D});
    expect_dense(read, "read", Dtype::i32, {B, G, read.dim(2)});
    expect_dense(relevance, "relevance", acc, {B, relevance.dim(1)});
    expect_dense(representatives, "representatives", acc, {representatives.dim(0), D});
    run<cpu::memory_lookup, cuda::memory_lookup>(context, read, relevance, q, representatives, table, position, memory);
}

}  // namespace ballast::ops
