// A backward pass says when it has finished a part's gradients.
#include <map>
#include <string>

#include "tests/catch.h"
#include "tests/model/gradient_check.h"

using namespace ballast;
using namespace ballast::model;
using namespace ballast::test;

TEST_CASE("backward parts: head, layers, embedding, and what is finished does not change any more", "[not_cuda]") {
    for (const bool tied : {false, true}) {
        auto config = tiny_config();
        config.tie_word_embeddings = tied;
        CAPTURE(tied);
        GradientSetup s(config, 2, 9);
        const ParameterTable& table = s.model.weights().table();
        const FlatArray gradients(s.context, table, Dtype::f64);
        std::vector<int64_t> parts;
        std::map<std::string, std::vector<double>> finished;
        s.pass.observe_gradients([&](int64_t part) {
            parts.push_back(part);
            for (const ParameterRow& row : table.rows())
                if (backward_part(row, config.num_layers) == part)
                    finished[row.name] = to_host(s.context, gradients.of(row));
        });
        s.pass.forward_backward(gradients, s.scale);
        std::vector<int64_t> expected;
        for (int64_t part = config.num_layers; part >= -1; --part) expected.push_back(part);
        CHECK(parts == expected);
        for (const ParameterRow& row : table.rows()) {
            CAPTURE(row.name);
            REQUIRE(finished.contains(row.name));
            CHECK(finished.at(row.name) == to_host(s.context, gradients.of(row)));
        }
    }
}
