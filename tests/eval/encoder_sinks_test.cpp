// Where an encoder's attention goes, against transformers' own maps where BALLAST_SHARED_DATA is there
// (tests/CMakeLists.txt).
#include "eval/encoder_sinks.h"

#include <filesystem>

#include "base/safetensors.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::eval;
using namespace ballast::test;

TEST_CASE("encoder sinks: shares and maps are those of transformers' attention") {
    const std::string folder = std::string(BALLAST_SHARED_DATA) + "/hf/bert";
    if (!std::filesystem::exists(folder)) {
        WARN(folder << " is not there: where an encoder's attention goes not checked");
        return;
    }
    const SafetensorsReader reference(folder + "/ref.safetensors");
    const int64_t T = reference.info("input_ids").shape[1];
    std::vector<int32_t> ids(static_cast<size_t>(2 * T));
    reference.read_as("input_ids", Dtype::i32, ids.data());
    const std::vector<std::vector<int32_t>> sequences{{ids.begin(), ids.begin() + T}, {ids.begin() + T, ids.end()}};

    Context context(test_device(), 2);
    const model::Bert bert(context, folder);
    int64_t done = 0;
    const auto r = evaluate_encoder_sinks(context, bert, sequences, true, [&](int64_t n) { done = n; });
    CHECK(done == 2);
    CHECK(r.length == T);
    CHECK(r.sequences == 2);
    for (int64_t layer = 0; layer < 3; ++layer) {
        std::vector<float> weights(static_cast<size_t>(2 * 4 * T * T));
        reference.read_f32("attentions." + std::to_string(layer), weights);
        for (int64_t head = 0; head < 4; ++head) {
            std::array<double, 3> expected{};
            for (int64_t b = 0; b < 2; ++b)
                for (int64_t i = 0; i < T; ++i)
                    for (int64_t j = 0; j < T; ++j) {
                        const auto& sequence = sequences[static_cast<size_t>(b)];
                        const size_t kind = j == 0 ? 0 : sequence[static_cast<size_t>(j)] == sequence.back() ? 1 : 2;
                        expected[kind] +=
                            static_cast<double>(weights[static_cast<size_t>(((b * 4 + head) * T + i) * T + j)]) /
                            static_cast<double>(2 * T);
                    }
            const auto at = static_cast<size_t>(layer * 4 + head);
            for (size_t kind = 0; kind < 3; ++kind) CHECK(r.share[kind][at] == Approx(expected[kind]).epsilon(1e-4));
            const auto map = static_cast<int64_t>(at) * T * T;
            for (const int64_t cell : {int64_t{1}, T - 1, 5 * T + 7, T * T - 1}) {
                const float mean = (weights[static_cast<size_t>(head * T * T + cell)] +
                                    weights[static_cast<size_t>((4 + head) * T * T + cell)]) /
                                   2;
                CHECK(r.maps[static_cast<size_t>(map + cell)] == Approx(mean).epsilon(1e-4));
            }
        }
    }
    // One sequence's weights are the softmax of its logits, over all keys.
    const auto one = evaluate_encoder_sinks(context, bert, {sequences[0]}, true, [](int64_t) {});
    for (size_t row = 0; row < static_cast<size_t>(3 * 4 * T); ++row) {
        const float *logits = one.logit_maps.data() + row * static_cast<size_t>(T),
                    *weights = one.maps.data() + row * static_cast<size_t>(T);
        double total = 0;
        for (int64_t j = 0; j < T; ++j) total += std::exp(static_cast<double>(logits[j]));
        CHECK(static_cast<double>(weights[3]) ==
              Approx(std::exp(static_cast<double>(logits[3])) / total).epsilon(1e-4));
    }

    // Of two lengths, each counts the same; there is no mean map.
    std::vector<int32_t> shorter(sequences[1].begin(), sequences[1].begin() + 9);
    const auto second = evaluate_encoder_sinks(context, bert, {shorter}, false, [](int64_t) {});
    const auto both = evaluate_encoder_sinks(context, bert, {sequences[0], shorter}, false, [](int64_t) {});
    CHECK(both.length == 0);
    CHECK(both.share[0][5] == Approx((one.share[0][5] + second.share[0][5]) / 2));
    CHECK(message_of([&] {
              evaluate_encoder_sinks(context, bert, {sequences[0], shorter}, true, [](int64_t) {});
          }).find("one length") != std::string::npos);
    CHECK_THROWS_AS(evaluate_encoder_sinks(context, bert, {{1}}, false, [](int64_t) {}), UserError);
    CHECK_THROWS_AS(evaluate_encoder_sinks(context, bert, {}, false, [](int64_t) {}), UserError);
}
