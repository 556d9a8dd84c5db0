// Attention of one query per sequence over a paged cache. A task is a split of a key-value head's slots. For every
// query head of the group it computes the running maximum m, the sum l and the weighted values o of the visible slots.
// All query heads of a group read a block while it is in the L1 cache, so memory is read once. A second loop merges the
// splits of a head:
//   m = max over splits, z;  out = sum o_s exp(m_s - m) / (sum l_s exp(m_s - m) + exp(z - m))
// When token scores are wanted, a third loop computes them from the kept logits and the row's LSE'. The sequences of
// one text share blocks there; the task of the first of them goes through all, in their order.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cached_attention.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/cache_control.h>

#include "kernels/cpu/cached_attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

inline constexpr int64_t kSplitBlocks = kCacheSplitSlots / kCacheBlockRows;
/// Bytes that memory delivers at once.
inline constexpr int64_t kLine = 64;
/// Rows that are multiplied between two requests to memory: some 2 KiB.
inline constexpr int64_t kStripRows = 16;

/// Everything a call reads, and the partial results it goes through.
template <class A>
struct CachedCall {
    const Tensor &q, &sink_query;
    const PagedCache& cache;
    const CacheRows& rows;
    const int32_t* query_position;
    const CachedAttentionWork& work;
    const AttentionParams& params;
    const SlotMass& mass;
    CachedAttentionPartials<A> partials;
    int64_t heads, groups, heads_per_group;

    /// Place of the partial result of (b, g) that split `split` leaves for head r of the group.
    int64_t place(int64_t bg, int64_t split, int64_t r) const {
        const int32_t* first = work.first_BG1.ptr<int32_t>() + bg;
        const int64_t partial = first[0] + split;
        require(partial < first[1] && partial < work.items_N3.dim(0), "cached attention's work has too few splits");
        return partial * heads_per_group + r;
    }
    int64_t splits(int64_t bg) const { return ops::cached_attention_splits(rows.length_BG.ptr<int32_t>()[bg]); }
    /// True when mass of this split's slots is wanted.
    bool has_mass(int64_t split) const { return partials.logits != nullptr && split * kSplitBlocks < mass.blocks; }
};

/// A split of (b, g)'s slots for the query heads of the group.
template <class T, class C>
class CachedSplit {
  public:
    using A = Accumulator<T>;

    CachedSplit(const CachedCall<A>& call, int64_t b, int64_t g, int64_t split)
        : call_(call),
          b_(b),
          bg_(b * call.groups + g),
          first_head_(g * call.heads_per_group),
          heads_(call.heads_per_group),
          split_(split),
          dims_(call.q.dim(2)),
          stride_(round_up(dims_, kCacheChunk<A>)),
          position_(call.query_position[b]),
          sinks_(static_cast<int32_t>(std::min<int64_t>(call.params.mask.num_sink_positions, INT32_MAX))),
          memory_(bytes(heads_, stride_)),
          q_(memory_.template take<A>(heads_ * stride_)),
          sink_q_(memory_.template take<A>(heads_ * stride_)),
          o_(memory_.template take<A>(heads_ * stride_)),
          p_(memory_.template take<A>(heads_ * kCacheBlockRows)),
          sink_p_(memory_.template take<A>(heads_ * kCacheBlockRows)),
          maximum_(memory_.template take<A>(heads_)),
          sum_(memory_.template take<A>(heads_)),
          span_(memory_.template take<int32_t>(heads_)) {
        take_query(q_, call.q);
        if (!call.sink_query.empty()) take_query(sink_q_, call.sink_query);
        std::fill_n(o_, heads_ * stride_, A(0));
        std::fill_n(maximum_, heads_, -std::numeric_limits<A>::infinity());
        std::fill_n(sum_, heads_, A(0));
        const Tensor& spans = call.params.mask.span_H;
        for (int64_t r = 0; r < heads_; ++r) {
            const int32_t span = spans.empty() ? -1 : spans.ptr<int32_t>()[first_head_ + r];
            span_[r] = span < 0 ? INT32_MAX : span;
            widest_ = std::max(widest_, span_[r]);
        }
    }

    void run() {
        if (call_.has_mass(split_))
            std::fill_n(call_.partials.logits + call_.place(bg_, split_, 0) * kCacheSplitSlots,
                        heads_ * kCacheSplitSlots, -std::numeric_limits<A>::infinity());
        CacheBlock block(call_.cache, call_.rows, bg_, split_ * kSplitBlocks);
        ask_for_later(call_.cache.keys_PRD, block, {0, kCacheBlockRows});
        for (int64_t w = 0; block.rows > 0; ++w) {
            const CacheBlock next = w + 1 < kSplitBlocks
                                        ? CacheBlock(call_.cache, call_.rows, bg_, split_ * kSplitBlocks + w + 1)
                                        : CacheBlock();
            find_seen(block);
            ask_for_positions(next);
            if (keys_ > 0)
                add_block(block, next, w);
            else
                ask_for_later(call_.cache.keys_PRD, next, {0, kCacheBlockRows});
            block = next;
        }
        for (int64_t r = 0; r < heads_; ++r) {
            const int64_t place = call_.place(bg_, split_, r);
            call_.partials.maximum[place] = maximum_[r];
            call_.partials.sum[place] = sum_[r];
            unpack<C>(call_.partials.values + place * dims_, o_ + r * stride_, dims_);
        }
    }

  private:
    static size_t bytes(int64_t heads, int64_t stride) {
        const size_t index_bytes = TileMemory::padded(static_cast<size_t>(heads) * sizeof(int64_t));
        return 3 * index_bytes + 2 * TileMemory::padded(static_cast<size_t>(heads * kCacheBlockRows) * sizeof(A)) +
               3 * TileMemory::padded(static_cast<size_t>(heads * stride) * sizeof(A));
    }

    /// The group's queries times the scale, in the order of packed_index().
    void take_query(A* to, const Tensor& q) {
        for (int64_t r = 0; r < heads_; ++r)
            pack<C>(to + r * stride_, matrix_row<const T>(q, b_, first_head_ + r), dims_,
                    static_cast<A>(call_.params.scale));
    }

    /// Lists the rows of a block that some head of the group sees; others may hold anything and are not read.
    void find_seen(const CacheBlock& block) {
        const hn::ScalableTag<int32_t> d;
        const auto query = hn::Set(d, position_), sinks = hn::Set(d, sinks_), span = hn::Set(d, widest_);
        const auto rows = hn::Set(d, static_cast<int32_t>(block.rows));
        keys_ = 0;
        for (int64_t r = 0; r < block.rows; r += static_cast<int64_t>(hn::Lanes(d))) {
            const auto row = hn::Iota(d, static_cast<int32_t>(r)), j = hn::LoadU(d, block.positions + r);
            const auto there = hn::And(hn::Lt(row, rows), hn::Gt(j, hn::Set(d, -1)));
            const auto far = hn::AndNot(hn::Lt(j, sinks), hn::Gt(hn::Sub(query, j), span));
            const auto seen = hn::AndNot(hn::Or(hn::Gt(j, query), far), there);
            if (HWY_LIKELY(hn::AllTrue(d, seen))) {
                hn::StoreU(row, d, row_ + keys_);
                keys_ += static_cast<int64_t>(hn::Lanes(d));
                continue;
            }
            hn::StoreU(hn::Compress(row, seen), d, row_ + keys_);  // CompressStore is slow on Zen 4
            keys_ += static_cast<int64_t>(hn::CountTrue(d, seen));
        }
        for (int64_t n = keys_; keys_ > 0 && n % kFoldedKeys<A> != 0; ++n) row_[n] = row_[n - 1];
    }
    /// Asks memory for the positions of a block's rows.
    static void ask_for_positions(const CacheBlock& block) {
        for (int64_t row = 0; row < block.rows; row += kLine / static_cast<int64_t>(sizeof(int32_t)))
            hwy::Prefetch(block.positions + row);
    }
    /// Asks memory for rows of a block while others are multiplied: the processor looks ahead by itself only inside of
    /// a row of blocks, and blocks lie anywhere. A core waits when it asks for more lines than it can track, so a block
    /// is asked for in strips.
    void ask_for_later(const Tensor& x_PRD, const CacheBlock& block, Range rows) const {
        rows.end = std::min(rows.end, block.rows);
        if (rows.begin >= rows.end) return;
        const auto row_bytes = dims_ * static_cast<int64_t>(sizeof(C));
        const char* const first = reinterpret_cast<const char*>(block.in<C>(x_PRD));
        for (int64_t at = rows.begin * row_bytes; at < rows.end * row_bytes; at += kLine) hwy::Prefetch(first + at);
    }
    /// Whether a head with this span sees a listed row that stands at j.
    bool sees(int32_t j, int32_t span) const { return j < sinks_ || position_ - j <= span; }

    /// f(rows, n, strip) for the rows of a block that find_seen() listed: row_[n] is the first of these, and strips of
    /// another block cover it.
    template <class F>
    HWY_INLINE void for_strips(const Tensor& x_PRD, const CacheBlock& block, const F& f) {
        for (int64_t n = 0; n < keys_; n += kStripRows) {
            const int64_t end = n + kStripRows;
            const SeenRows<C> rows{block.in<C>(x_PRD), row_ + n, std::min(end, keys_) - n, dims_};
            f(rows, n, Range{n, end < keys_ ? end : kCacheBlockRows});
        }
    }

    /// Takes in the rows that find_seen() listed; `w` is the block's place in the split, `next` the one behind it.
    void add_block(const CacheBlock& block, const CacheBlock& next, int64_t w) {
        const Tensor &keys = call_.cache.keys_PRD, &values = call_.cache.values_PRD;
        for_strips(keys, block, [&](const SeenRows<C>& k, int64_t n, Range strip) HWY_ATTR {
            ask_for_later(values, block, strip);
            block_logits(p_ + n, q_, stride_, heads_, k);
        });
        if (!call_.sink_query.empty()) read_sinks_apart(block, {block.in<C>(keys), row_, keys_, dims_});
        for (int64_t r = 0; r < heads_; ++r) softmax_row(block, r, p_ + r * kCacheBlockRows, w);
        for_strips(values, block, [&](const SeenRows<C>& v, int64_t n, Range strip) HWY_ATTR {
            ask_for_later(keys, next, strip);
            block_values(o_, stride_, p_ + n, heads_, v);
        });
    }

    /// Logits of sinks, with the query that is for them.
    void read_sinks_apart(const CacheBlock& block, const SeenRows<C>& k) {
        for (int64_t n = 0; n < keys_; ++n) {
            if (block.positions[row_[n]] >= sinks_) continue;
            int32_t row[kFoldedKeys<A>];
            std::fill_n(row, kFoldedKeys<A>, row_[n]);
            block_logits(sink_p_, sink_q_, stride_, heads_, SeenRows<C>{k.first, row, 1, dims_});
            for (int64_t r = 0; r < heads_; ++r) p_[r * kCacheBlockRows + n] = sink_p_[r * kCacheBlockRows];
        }
    }

    /// Turns head r's logits into p and brings m, l and o up to date; p is 0 where the head sees nothing.
    void softmax_row(const CacheBlock& block, int64_t r, A* p, int64_t w) {
        constexpr A kHidden = -std::numeric_limits<A>::infinity();
        const HeadRules rules(call_.params, b_, first_head_ + r);
        int64_t seen = keys_;
        if (span_[r] != widest_)
            for (int64_t n = 0; n < keys_; ++n)
                if (!sees(block.positions[row_[n]], span_[r])) p[n] = kHidden, --seen;
        if (rules.has_alibi)
            for (int64_t n = 0; n < keys_; ++n) {
                const int64_t j = block.positions[row_[n]];
                const int64_t i = j < sinks_ ? std::min<int64_t>(position_, rules.sink_query_position) : position_;
                p[n] += static_cast<A>(rules.alibi_slope) * static_cast<A>(j - i);
            }
        if (call_.has_mass(split_)) keep_logits(r, p, w);
        if (seen == 0) return void(std::fill_n(p, keys_, A(0)));
        const Range whole = whole_runs<A>({0, keys_});
        std::fill(p + keys_, p + whole.end, kHidden);
        const A decay = online_softmax(p, p, whole, maximum_[r], sum_[r]);
        if (decay != 1) scale_row(o_ + r * stride_, stride_, decay);
    }

    /// Keeps a block's logits for the token scores, by slot.
    void keep_logits(int64_t r, const A* p, int64_t w) {
        A* to = call_.partials.logits + call_.place(bg_, split_, r) * kCacheSplitSlots + w * kCacheBlockRows;
        for (int64_t n = 0; n < keys_; ++n) to[row_[n]] = p[n];
    }

    const CachedCall<A>& call_;
    const int64_t b_, bg_, first_head_, heads_, split_, dims_, stride_;
    const int32_t position_, sinks_;
    int32_t widest_ = 0;
    int64_t keys_ = 0;
    int32_t row_[2 * kCacheBlockRows];  // the list; it is written in whole vectors
    TileMemory memory_;
    A *q_, *sink_q_, *o_, *p_, *sink_p_, *maximum_, *sum_;
    int32_t* span_;
};

/// Head h of sequence b from its splits, in their order.
template <class T>
void merge_splits(const CachedCall<Accumulator<T>>& call, const Tensor& out, int64_t b, int64_t h) {
    using A = Accumulator<T>;
    const int64_t dims = call.q.dim(2), stride = tile_stride<A>(dims), bg = b * call.groups + h / call.heads_per_group;
    const int64_t r = h % call.heads_per_group, splits = call.splits(bg);
    alignas(64) A o[256];
    std::fill_n(o, stride, A(0));
    A maximum = -std::numeric_limits<A>::infinity(), sum = 0;
    for (int64_t s = 0; s < splits; ++s) maximum = std::max(maximum, call.partials.maximum[call.place(bg, s, r)]);
    const hn::ScalableTag<A> d;
    for (int64_t s = 0; s < splits; ++s) {
        const int64_t place = call.place(bg, s, r);
        if (call.partials.sum[place] == 0) continue;  // it saw nothing
        const A weight = exp_of(call.partials.maximum[place] - maximum);
        const A* values = call.partials.values + place * dims;
        sum += weight * call.partials.sum[place];
        for_vectors(d, dims, [&](int64_t i, auto lanes) HWY_ATTR {
            store(hn::MulAdd(hn::Set(d, weight), load(d, values + i, lanes), load(d, o + i, lanes)), d, o + i, lanes);
        });
    }
    A lse;
    finish_row(matrix_row<T>(out, b, h), lse, o, dims, maximum, sum, sink_logit_of<A>(call.params, h));
    if (call.partials.lse != nullptr) call.partials.lse[b * call.heads + h] = lse;
}

/// Adds what block w of the slots of (b, g) weighs, for all query heads of the group, to its rows' mass [64].
template <class A>
void add_block_mass(const CachedCall<A>& call, A* mass, int64_t b, int64_t g, int64_t w) {
    const A* logits = call.partials.logits + call.place(b * call.groups + g, w / kSplitBlocks, 0) * kCacheSplitSlots +
                      w % kSplitBlocks * kCacheBlockRows;
    const A* lse = call.partials.lse + b * call.heads + g * call.heads_per_group;
    const hn::CappedTag<A, kCacheBlockRows> d;
    const auto hidden = hn::Set(d, -std::numeric_limits<A>::infinity());
    for (int64_t row = 0; row < kCacheBlockRows; row += static_cast<int64_t>(hn::Lanes(d))) {
        auto sum = hn::Zero(d);
        for (int64_t r = 0; r < call.heads_per_group; ++r) {
            const auto logit = hn::LoadU(d, logits + r * kCacheSplitSlots + row);
            const auto weight = exp(d, hn::Sub(logit, hn::Set(d, lse[r])));  // NaN where a row sees nothing at all
            sum = hn::Add(sum, hn::IfThenZeroElse(hn::Eq(logit, hidden), weight));
        }
        hn::StoreU(hn::Add(hn::LoadU(d, mass + row), sum), d, mass + row);
    }
}

/// Adds what the slots of a split weigh to their rows' mass; also for the following sequences, where they have the same
/// block at the same place.
template <class A>
void add_mass(const CachedCall<A>& call, int64_t b, int64_t g, int64_t split) {
    for (int64_t w = split * kSplitBlocks; w < std::min((split + 1) * kSplitBlocks, call.mass.blocks); ++w) {
        const auto block_of = [&](int64_t sequence) {
            return CacheBlock(call.cache, call.rows, sequence * call.groups + g, w).block;
        };
        const int64_t block = block_of(b);
        if (block < 0) return;
        if (b > 0 && block_of(b - 1) == block) continue;  // done with b - 1's
        for (int64_t mate = b; mate < call.q.dim(0) && block_of(mate) == block; ++mate)
            add_block_mass(call, call.mass.mass_PR.template ptr<A>() + block * kCacheBlockRows, mate, g, w);
    }
}

void cached_attention_forward(Context& context, const Tensor& out, const Tensor& q, const Tensor& sink_query,
                              const PagedCache& cache, const CacheRows& rows, const Tensor& query_position,
                              const CachedAttentionWork& work, const AttentionParams& params, const SlotMass& mass) {
    const auto shape = cached_attention_shape(q, rows, work, !mass.mass_PR.empty());
    with_cache_types(q.dtype, cache.keys_PRD.dtype, [&]<class T, class C>(T, C) {
        using A = Accumulator<T>;
        const Scratch::Block memory(context.scratch(), CachedAttentionPartials<A>::bytes(shape));
        const CachedCall<A> call{q,
                                 sink_query,
                                 cache,
                                 rows,
                                 query_position.ptr<int32_t>(),
                                 work,
                                 params,
                                 mass,
                                 {shape, memory.data()},
                                 shape.heads,
                                 shape.kv_heads,
                                 shape.heads / shape.kv_heads};
        const auto for_items = [&](const auto& visit) {
            context.pool().parallel_for(shape.items, [&](int64_t n) HWY_ATTR {
                const int32_t* item = work.items_N3.ptr<int32_t>() + 3 * n;
                if (item[0] < 0) return;
                require(item[0] < shape.sequences && 0 <= item[1] && item[1] < shape.kv_heads && item[2] >= 0,
                        "cached attention's work names no sequence and head of the call");
                if (item[2] < call.splits(item[0] * shape.kv_heads + item[1])) visit(item[0], item[1], item[2]);
            });
        };
        for_items([&](int64_t b, int64_t g, int64_t split) HWY_ATTR { CachedSplit<T, C>(call, b, g, split).run(); });
        context.pool().parallel_for(shape.sequences * shape.heads, [&](int64_t row) HWY_ATTR {
            merge_splits<T>(call, out, row / shape.heads, row % shape.heads);
        });
        if (shape.with_mass)
            for_items([&](int64_t b, int64_t g, int64_t split) HWY_ATTR {
                if (call.has_mass(split)) add_mass(call, b, g, split);
            });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(cached_attention_forward);

void cached_attention_forward(Context& context, const Tensor& out, const Tensor& q, const Tensor& sink_query,
                              const PagedCache& cache, const CacheRows& rows, const Tensor& query_position,
                              const CachedAttentionWork& work, const AttentionParams& params, const SlotMass& mass) {
    HWY_DYNAMIC_DISPATCH(cached_attention_forward)
    (context, out, q, sink_query, cache, rows, query_position, work, params, mass);
}

}  // namespace ballast::cpu
#endif
