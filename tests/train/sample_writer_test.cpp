// The sample texts of a run.
#include "train/sample_writer.h"
#include "infer/decoder.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::test;

namespace {

std::vector<int32_t> ids_of(const infer::Answer& answer) {
    std::vector<int32_t> ids;
    for (const infer::SampledToken& token : answer.tokens) ids.push_back(token.id);
    return ids;
}

/// A model that was trained on 32 positions, with 2 sink tokens.
struct Written {
    Context context{test_device(), 1};
    model::Transformer model;

    Written() : model(context, config(), Dtype::f32) { randomise(context, model.weights(), 9, 0.4); }
    static model::ModelConfig config() {
        auto config = tiny_config();
        config.max_position_embeddings = 32;
        config.num_sink_tokens = 2;
        config.sink_token_id = 21;
        return config;
    }
};

}  // namespace

TEST_CASE("samples: a text does not depend on those before it, and takes no memory but what was planned") {
    Written w;
    train::SampleWriter used(w.context, w.model, 20), fresh(w.context, w.model, 20);
    const size_t scratch = w.context.scratch().capacity();
    CHECK(scratch <= train::SampleWriter::scratch_bytes(w.context, w.config(), Dtype::f32));
    const std::vector<int32_t> first = random_ids(3, 70, 21), second{3, 4};  // one longer than the context
    const train::SampleConfig sample{.tokens = 80, .temperature = 1.0};
    int told = 0;
    const auto write = [&](train::SampleWriter& writer, const std::vector<int32_t>& prompt, uint64_t seed) {
        return ids_of(writer.write(prompt, sample, seed, [&] { ++told; }));
    };
    write(used, first, 1);
    const auto text = write(used, second, 1);
    CHECK(text == write(fresh, second, 1));
    CHECK(text != write(fresh, second, 2));
    CHECK(text.size() == 80);  // far past the context
    CHECK(told == 4 * 80);
    for (const int32_t id : text) CHECK((id >= 0 && id < 20));
    CHECK(w.context.scratch().capacity() == scratch);
}

TEST_CASE("samples: sink tokens stand before the prompt") {
    Written w;
    train::SampleWriter writer(w.context, w.model, 21);
    infer::Decoder decoder(w.context, w.model, infer::CachePolicy::dense(), 8);
    for (int32_t last = 0; last < 8; ++last) {
        const std::vector<int32_t> prompt{3, last}, fed{21, 22, 3, last};
        decoder.reset();
        decoder.feed(fed);
        const std::vector<float> after = decoder.logits();
        const int32_t likeliest = infer::sample(std::span(after).first(21), 0, 0);
        CHECK(ids_of(writer.write(prompt, {.tokens = 1, .temperature = 0}, 1, [] {})) == std::vector{likeliest});
    }
}
