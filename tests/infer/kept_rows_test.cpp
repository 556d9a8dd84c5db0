// The paged cache's arithmetic against a cache that is a plain list of positions.
#include "infer/block_list.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/model/family_configs.h"

#include <algorithm>
#include <map>
#include <set>

using namespace ballast;
using namespace ballast::infer;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kDense = HeadCache::kAll;

/// What a head must still hold for queries at `positions` - 1 and later, by the mask's own words.
std::set<int64_t> must_hold(const HeadCache& head, int64_t positions) {
    std::set<int64_t> out;
    for (int64_t j = 0; j < positions; ++j)
        if (!head.bounded() || j < head.sinks || positions - 1 - j <= head.span) out.insert(j);
    return out;
}

}  // namespace

TEST_CASE("kept rows: a ring holds what its queries see, over three wraps") {
    for (const HeadCache& head : {HeadCache{0, 0}, HeadCache{0, 6}, HeadCache{4, 1}, HeadCache{4, 13}, HeadCache{3, 0},
                                  HeadCache{0, kDense}, HeadCache{5, 63}}) {
        std::map<int64_t, int64_t> slots;  // slot -> position
        const int64_t end = head.bounded() ? 3 * ring_slots(head) + 2 : 100;
        for (int64_t i = 0; i < end; ++i) {
            INFO("sinks " << head.sinks << " span " << head.span << " position " << i);
            slots[slot_of(head, i)] = i;
            const auto needed = must_hold(head, i + 1);
            std::set<int64_t> held;
            for (const auto& [slot, position] : slots) held.insert(position);
            REQUIRE(held == needed);
            REQUIRE(slots_in_use(head, i + 1) == static_cast<int64_t>(slots.size()));
            REQUIRE(slots.rbegin()->first == slots_in_use(head, i + 1) - 1);  // no gap
            for (int64_t j = 0; j <= i + 1; ++j) REQUIRE(keeps(head, j, i + 1) == needed.contains(j));
        }
    }
}

TEST_CASE("kept rows: a group keeps its widest query head, a window narrows, sinks stay") {
    auto config = tiny_llama();  // 2 layers, 4 query heads in 2 groups
    config.attention_span = {0, 6};
    const CachePlan plan(2, 4, {{2, 5}, {2, 9}, {2, 1}, {0, kDense}, {2, 5}, {2, 9}, {2, 1}, {0, kDense}},
                         PositionRule::absolute);
    const auto rows = kept_rows(plan, config);
    CHECK(rows[0].rings == std::vector<HeadCache>{{2, 9}, {0, kDense}});
    CHECK(rows[0].spans == std::vector<int32_t>{5, 9, 1, -1});
    CHECK(rows[1].rings == std::vector<HeadCache>{{2, 6}, {2, 6}});
    CHECK(rows[1].spans == std::vector<int32_t>{5, 6, 1, 6});
    CHECK(rows[0].longest_span() == kDense);
    CHECK(rows[0].first_kept(50) == 2);
    CHECK(rows[1].first_kept(50) == 43);
    CHECK(rows[1].first_kept(4) == 2);

    config.num_sink_tokens = 3;
    config.sink_token_id = 20;
    const auto dense = kept_rows(CachePlan::uniform(CachePolicy::dense(), 2, 4), config);
    CHECK_FALSE(dense[0].limited());
    CHECK(dense[0].sinks == 0);
    CHECK(dense[1].sinks == 3);
    CHECK(dense[1].rings == std::vector<HeadCache>{{3, 6}, {3, 6}});
    const auto window = kept_rows(CachePlan::uniform(CachePolicy::sink(0, 8), 2, 4), config);
    CHECK(window[1].sinks == 0);  // a bounded policy pins what it says
    CHECK_THAT(message_of([&] { kept_rows(CachePlan::uniform(CachePolicy::dense(), 2, 2), config); }),
               ContainsSubstring("2 layers of 2 heads, the model has 2 of 4"));
}

TEST_CASE("block lists: heads of all lengths share one pool, and leave nothing behind") {
    const CachePlan plan(2, 4, {{2, 5}, {2, 90}, {2, 1}, {2, 62}, {0, kDense}, {2, 1}, {2, 200}, {2, 61}},
                         PositionRule::absolute);
    auto config = tiny_llama();
    config.num_key_value_heads = 4;
    const auto rows = kept_rows(plan, config);
    const BlockShape shape(rows, 64);
    CHECK(shape.blocks(0, 0, 1000) == 1);
    CHECK(shape.blocks(0, 1, 1000) == 2);
    CHECK(shape.blocks(0, 3, 1000) == 2);  // 65 slots
    CHECK(shape.blocks(1, 3, 1000) == 1);  // 64 slots
    CHECK(shape.blocks(1, 0, 129) == 3);
    CHECK(shape.blocks(129) == 1 + 2 + 1 + 2 + 3 + 1 + 3 + 1);
    CHECK(shape.width(129) == 3);
    CHECK(shape.rows(129) == 8 + 93 + 4 + 65 + 129 + 4 + 129 + 64);

    FreeBlocks free(30);
    {
        BlockList a(free, shape, 129), b(free, shape, 70);
        CHECK(free.free() == 30 - shape.blocks(129) - shape.blocks(70));
        std::set<int32_t> rows_of_both;
        for (const BlockList* list : {&a, &b})
            for (int64_t l = 0; l < 2; ++l)
                for (int64_t g = 0; g < 4; ++g)
                    for (int64_t slot = 0; slot < std::ssize(list->of(l, g)) * 64; ++slot)
                        CHECK(rows_of_both.insert(list->row(l, g, slot, 64)).second);
        CHECK(std::ssize(rows_of_both) == 64 * (shape.blocks(129) + shape.blocks(70)));
        CHECK_THROWS_AS(a.row(0, 0, 64, 64), InternalError);
        CHECK_THROWS_AS(BlockList(free, shape, 129), InternalError);
        BlockList moved = std::move(a);
        CHECK(a.positions() == 0);
        CHECK(moved.of(1, 0).size() == 3);
    }
    CHECK(free.free() == 30);
}

TEST_CASE("block lists: a shared block is free when its last holder gives it back") {
    FreeBlocks free(3);
    const int32_t block = free.take();
    free.share(block);
    free.give_back(block);
    CHECK(free.holders(block) == 1);
    CHECK(free.free() == 2);
    free.give_back(block);
    CHECK(free.free() == 3);
    CHECK(free.take() == block);
    CHECK_THROWS_AS(free.give_back(2), InternalError);
}
