#include "sweep/cells.h"

#include "tests/sweep/sweep_fixture.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using Names = std::vector<std::string>;

TEST_CASE("cells: a grid is every combination, the last field fastest, seeds slowest") {
    const SweepFixture sweep;
    CHECK(sweep.names("[grid]\ntrain.seed = [1, 2]\nmodel.num_sink_tokens = [0, 2]\n"
                      "model.normaliser = [\"softmax\", \"off_by_one\"]\n") ==
          Names{"num_sink_tokens=0,normaliser=softmax,seed=1", "num_sink_tokens=0,normaliser=off_by_one,seed=1",
                "num_sink_tokens=2,normaliser=softmax,seed=1", "num_sink_tokens=2,normaliser=off_by_one,seed=1",
                "num_sink_tokens=0,normaliser=softmax,seed=2", "num_sink_tokens=0,normaliser=off_by_one,seed=2",
                "num_sink_tokens=2,normaliser=softmax,seed=2", "num_sink_tokens=2,normaliser=off_by_one,seed=2"});
}

TEST_CASE("cells: variants have fields and grids of their own, times the common grid") {
    const SweepFixture sweep;
    const auto cells = sweep.expand(
        "[set]\ntrain.steps = 7\nmodel.normaliser = \"sink_logit\"\n[grid]\ntrain.seed = [1, 2]\n"
        "[[variant]]\nname = \"soft\"\nset.model.normaliser = \"softmax\"\ngrid.model.num_sink_tokens = [0, 4]\n"
        "[[variant]]\nname = \"logit\"\n",
        {"train.steps=9", "optimizer.weight_decay=0.5"});
    Names names, variants;
    for (const auto& cell : cells) names.push_back(cell.name), variants.push_back(cell.variant);
    CHECK(names == Names{"soft,num_sink_tokens=0,seed=1", "soft,num_sink_tokens=4,seed=1", "logit,seed=1",
                         "soft,num_sink_tokens=0,seed=2", "soft,num_sink_tokens=4,seed=2", "logit,seed=2"});
    CHECK(variants == Names{"soft,num_sink_tokens=0", "soft,num_sink_tokens=4", "logit", "soft,num_sink_tokens=0",
                            "soft,num_sink_tokens=4", "logit"});
    CHECK(cells[1].config.model.num_sink_tokens == 4);
    CHECK(cells[1].config.model.normaliser == Normaliser::softmax);     // the variant's, over [set]
    CHECK(cells[5].config.model.normaliser == Normaliser::sink_logit);  // [set]
    CHECK(cells[5].config.train.seed == 2);
    CHECK(cells[5].config.train.steps == 9);  // --set, over [set]
    CHECK(cells[5].config.optimizer.weight_decay == 0.5);
    CHECK(cells[5].config.train.global_batch == 4);  // the base
    CHECK(cells[1].varied ==
          std::vector<std::pair<std::string, std::string>>{{"train.seed", "1"}, {"model.num_sink_tokens", "4"}});
    size_t steps = 0;
    for (const auto& override : cells[1].overrides) steps += override.key() == "train.steps";
    CHECK(steps == 1);  // a printed command names each field once
}

TEST_CASE("cells: names are fit for folders, and whole fields where they end alike") {
    const SweepFixture sweep;
    CHECK(sweep.names("[grid]\nvalidation.every = [5, 10]\nsample.every = [0]\nsample.prompt = [\"A /b\"]\n"
                      "optimizer.learning_rate = [4e-3]\n") ==
          Names{"validation.every=5,sample.every=0,prompt=A--b,learning_rate=0.004",
                "validation.every=10,sample.every=0,prompt=A--b,learning_rate=0.004"});
}

TEST_CASE("cells: what is wrong is said with its line, before anything runs") {
    const SweepFixture sweep;
    const auto says = [&](const std::string& text, const std::string& part, const Names& settings = {}) {
        CAPTURE(text);
        CHECK_THAT(sweep.complaint(text, settings), ContainsSubstring(part));
    };
    says("", "neither [grid] nor [[variant]]");
    says("[grid]\nmodel.num_sink_token = [1]\n",
         "sweep.toml:3: unknown key model.num_sink_token; did you mean model.num_sink_tokens?");
    says("[grid]\nmodel.num_sink_tokens = [0, \"two\"]\n", "sweep.toml:3: model.num_sink_tokens = ");
    says("[grid]\nmodel.num_sink_tokens = [0, -1]\n", "model.num_sink_tokens = -1 must be from 0");
    says("[grid]\nmodel.num_sink_tokens = 3\n", "sweep.toml:3: grid.model.num_sink_tokens must be a list");
    says("[grid]\nmodel.num_sink_tokens = []\n", "must be a list of values");
    says("[grid]\ntrain.seed = [1, 1]\n", "sweep.toml:3: two cells are called seed=1");
    says("[grid]\ntrain.sequence_length = [16, 64]\n", "cell sequence_length=64: train.sequence_length = 64 is longer");
    says("[set]\ntrain.seed = 1\n[grid]\ntrain.seed = [1, 2]\n",
         "sweep.toml:3: train.seed is set here and in the grid at");
    says("[set]\ntrain.stepz = 1\n[grid]\ntrain.seed = [1, 2]\n", "sweep.toml:3: unknown key train.stepz");
    says("[grid]\ntrain.seed = [1]\n[[variant]]\nname = \"a\"\ngrid.train.seed = [2]\n", "is set here and at");
    says("[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\n", "the cells a and b are the same run");
    says("[[variant]]\nname = \"a\"\n[[variant]]\nname = \"a\"\n", "sweep.toml:5: a second variant is called a");
    says("[[variant]]\nset.train.steps = 2\n", "sweep.toml:2: a [[variant]] needs a name");
    says("[[variant]]\nname = \"../up\"\n", "letters, digits");
    says("[[variant]]\nname = \"a\"\nsett.train.steps = 1\n", "unknown key variant.sett; did you mean set?");
    says("[grids]\ntrain.seed = [1]\n", "sweep.toml:2: unknown key grids; did you mean grid?");
    says("[grid]\ntrain.seed = [{a = 1}]\n", "are a [[variant]]");
    says("[grid]\ntrain.seed = [1, 2]\n[evaluate]\ncach = 3\n", "sweep.toml:5: unknown key evaluate.cach");
    says("[grid]\ntrain.seed = [1, 2\n", "not valid TOML");
    says("[grid]\ntrain.seed = [1, 2]\n", "--set train.seed=3: the sweep varies train.seed", {"train.seed=3"});
    says("[grid]\ntrain.seed = [1, 2]\n", "--set train.stepz=3: unknown key train.stepz", {"train.stepz=3"});
    write_file(sweep.folder / "sweep.toml", "base = \"none.toml\"\n");
    CHECK_THROWS_WITH(sweep::load_sweep_file(sweep.folder / "sweep.toml"),
                      ContainsSubstring("sweep.toml:1: base: no file"));
}
