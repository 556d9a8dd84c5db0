// The fixed order of additions (train/lanes.h), and how parameters are cut for ranks.
#include <map>
#include <string>

#include "tests/catch.h"
#include "train/distribution.h"
#include "train/planned_ranks.h"

using namespace ballast;
using namespace ballast::train;

namespace {

/// How the tree adds lanes, written out with brackets, when `ranks` of them add up whole nodes first.
std::string written(int64_t lanes, int64_t ranks) {
    std::vector<Range> nodes;
    std::vector<std::string> sums;
    for (int64_t r = 0; r < ranks; ++r) {
        const Range own = partition_range(lanes, ranks, r);
        std::vector<Range> singles;
        std::vector<std::string> texts;
        for (int64_t lane = own.begin; lane < own.end; ++lane) {
            singles.push_back({lane, lane + 1});
            texts.push_back(std::to_string(lane));
        }
        const auto add = [](std::vector<std::string>& all) {
            return [&all](size_t into, size_t from) { all[into] = "(" + all[into] + "+" + all[from] + ")"; };
        };
        for (const Range& node : whole_nodes({0, lanes}, own)) {
            sums.push_back(texts[add_tree(node, singles, add(texts))]);
            nodes.push_back(node);
        }
    }
    return sums[add_tree({0, lanes}, nodes,
                         [&](size_t into, size_t from) { sums[into] = "(" + sums[into] + "+" + sums[from] + ")"; })];
}

}  // namespace

TEST_CASE("lanes: one tree for any number of ranks") {
    CHECK(written(1, 1) == "0");
    CHECK(written(4, 1) == "((0+1)+(2+3))");
    CHECK(written(7, 1) == "(((0+1)+(2+3))+((4+5)+6))");
    for (int64_t lanes = 1; lanes <= 21; ++lanes)
        for (int64_t ranks = 2; ranks <= lanes; ++ranks) {
            CAPTURE(lanes, ranks);
            CHECK(written(lanes, ranks) == written(lanes, 1));
        }
}

TEST_CASE("shards: whole blocks, each on one rank, in buckets as a backward pass finishes them") {
    RunConfig config;
    config.model.vocab_size = 1000;
    config.model.hidden_size = 96;
    config.model.num_layers = 3;
    config.model.num_heads = 4;
    config.train.global_batch = 8;
    config.train.micro_batch = 1;
    for (const bool tied : {false, true})
        for (const int64_t bucket_size : {1, 150'000, 100'000'000})
            for (int size = 2; size <= 5; ++size) {
                config.model.tie_word_embeddings = tied;
                config.train.reduce_bucket_size = bucket_size;
                CAPTURE(tied, bucket_size, size);
                const model::ParameterTable table(config.model);
                PlannedRank rank(0, size);
                const Shards shards(table, Distribution(config, rank));
                // Head (with a matrix of its own unless tied), layers, embedding; a layer has 111,936 elements.
                // Fewer blocks than ranks are joined with the next part: of the head, three, or two of a tied one.
                const int64_t head_blocks = tied ? 2 : 4;
                if (bucket_size == 1) CHECK(shards.buckets().size() == (head_blocks < size ? 4u : 5u));
                if (bucket_size == 100'000'000) CHECK(shards.buckets().size() == 1);
                Range blocks{static_cast<int64_t>(shards.blocks().size()), 0}, elements{table.flat_size(), 0};
                std::map<size_t, int64_t> of_row;
                int64_t part = config.model.num_layers + 1;
                for (const Bucket& bucket : shards.buckets()) {
                    REQUIRE(bucket.blocks().end == blocks.begin);
                    REQUIRE(bucket.elements().end == elements.begin);
                    REQUIRE(bucket.last_part < part);
                    blocks = bucket.blocks();
                    elements = bucket.elements();
                    part = bucket.last_part;
                    if (&bucket != &shards.buckets().back()) CHECK(elements.size() >= bucket_size);
                    for (int r = 0; r < size; ++r) {
                        const Range own = bucket.rank_elements(r), own_blocks = bucket.blocks_of(r);
                        REQUIRE(own.size() <= bucket.most_elements());
                        CHECK(std::abs(own.size() - elements.size() / size) <= 2 * Shards::kElements);
                        for (int64_t b = own_blocks.begin; b < own_blocks.end; ++b) {
                            const auto& block = shards.blocks()[static_cast<size_t>(b)];
                            const size_t row = shards.row_of_block(static_cast<size_t>(b));
                            REQUIRE(block.offset >= own.begin);
                            REQUIRE(block.offset + block.count <= own.end);
                            REQUIRE(block.offset == table.rows()[row].offset + of_row[row]);
                            REQUIRE(block.decay == table.rows()[row].decay);
                            REQUIRE(model::backward_part(table.rows()[row], 3) >= bucket.last_part);
                            REQUIRE(&shards.buckets()[shards.bucket_index(table.rows()[row])] == &bucket);
                            of_row[row] += block.count;
                        }
                    }
                }
                CHECK(blocks.begin == 0);
                CHECK(elements.begin == 0);
                CHECK(part == -1);
                for (size_t i = 0; i < table.rows().size(); ++i) CHECK(of_row[i] == table.rows()[i].count);
            }
}
