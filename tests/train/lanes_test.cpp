// The fixed order of additions (train/lanes.h), and how parameters are cut for ranks.
#include <map>
#include <string>

#include "tests/catch.h"
#include "tests/train/thread_ranks.h"
#include "train/distribution.h"

using namespace ballast;
using namespace ballast::train;

namespace {

/// How the tree adds lanes, written out with brackets, when `ranks` of them add up whole nodes first.
std::string written(int64_t lanes, int64_t ranks) {
    std::vector<Range> nodes;
    std::vector<std::string> sums;
    for (int64_t r = 0; r < ranks; ++r) {
        const Range own = share_of(lanes, ranks, r);
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

TEST_CASE("shards: whole blocks, each on one rank, in order, nearly equal") {
    RunConfig config;
    config.model.vocab_size = 1000;
    config.model.hidden_size = 96;
    config.model.num_layers = 3;
    config.model.num_heads = 4;
    config.train.global_batch = 8;
    config.train.micro_batch = 1;
    const model::ParameterTable table(config.model);
    for (int size = 1; size <= 5; ++size)
        test::on_ranks(size, [&](Communicator& ranks) {
            const Distribution distribution(config, ranks);
            const Shards shards(table, distribution);
            int64_t covered = 0, elements = 0;
            std::map<size_t, int64_t> of_row;
            for (int r = 0; r < size; ++r) {
                const Range blocks = shards.blocks_of(r), own = shards.elements_of(r);
                REQUIRE(blocks.begin == covered);
                REQUIRE(own.begin == elements);
                covered = blocks.end;
                elements = own.end;
                if (size > 1) CHECK(std::abs(own.size() - table.flat_size() / size) <= 2 * Shards::kElements);
                for (int64_t b = blocks.begin; b < blocks.end; ++b) {
                    const auto& block = shards.blocks()[static_cast<size_t>(b)];
                    const auto& row = table.rows()[shards.row_of_block(static_cast<size_t>(b))];
                    REQUIRE(block.offset >= own.begin);
                    REQUIRE(block.offset + block.count <= own.end);
                    REQUIRE(block.offset == row.offset + of_row[shards.row_of_block(static_cast<size_t>(b))]);
                    REQUIRE(block.decay == row.decay);
                    of_row[shards.row_of_block(static_cast<size_t>(b))] += block.count;
                }
            }
            CHECK(covered == static_cast<int64_t>(shards.blocks().size()));
            CHECK(elements == table.flat_size());
            for (size_t i = 0; i < table.rows().size(); ++i) CHECK(of_row[i] == table.rows()[i].count);
        });
}
