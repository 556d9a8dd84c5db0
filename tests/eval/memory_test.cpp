// The memory of measurements is known before it is taken.
#include "eval/memory.h"

#include "eval/encoder_sinks.h"
#include "eval/sinks.h"
#include "eval/streaming.h"
#include "infer/masked_stream.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::test;

namespace {

size_t part(const infer::MemoryList& memory, const std::string& name) {
    for (const auto& [label, bytes] : memory)
        if (label == name) return bytes;
    FAIL("no part is called " << name);
    return 0;
}

size_t planned_stream(const Context& context, const infer::CachePlan& plan, int64_t positions) {
    const auto config = tiny_config();
    const auto memory =
        infer::MaskedStream::memory(context, config, Dtype::f32, Dtype::f32, plan, /*chunk=*/8, positions);
    return infer::total_bytes(memory) - part(memory, "kernel scratch");
}

}  // namespace

TEST_CASE("eval memory: attention maps grow with the square of the length, to any length") {
    const Context context(Device::cpu, 1);
    const auto config = tiny_config();
    const auto of = [&](int64_t length, bool maps) {
        return eval::sinks_memory(context, config, Dtype::f32, {.length = length, .maps = maps});
    };
    const auto square = [](int64_t length) { return static_cast<size_t>(length * length) * sizeof(float); };
    const auto heads = static_cast<size_t>(config.num_heads), layers = static_cast<size_t>(config.num_layers);
    for (const int64_t length : {7, 64, 1000}) {
        const auto memory = of(length, true);
        CHECK(part(memory.device, "maps of a layer") == heads * square(length));
        CHECK(part(memory.host, "a copy of these") == heads * square(length));
        CHECK(part(memory.host, "mean maps of all layers") == 2 * layers * heads * square(length));
        CHECK(of(length, false).total() == memory.total() - part(memory.host, "mean maps of all layers"));
    }
    size_t before = 0;
    for (int64_t length = 1; length <= infer::CacheSizes::kEndless; length *= 2) {
        CHECK(of(length, true).total() > before);  // also where the product has more than 64 bits
        before = of(length, true).total();
    }
    model::BertConfig bert;
    bert.hidden_size = 8, bert.num_layers = 2, bert.num_heads = 2, bert.intermediate_size = 12;
    CHECK(part(eval::encoder_sinks_memory(bert, 6, true).host, "mean maps of all layers") == 2 * 2 * 2 * square(6));
    CHECK(eval::encoder_sinks_memory(bert, 6, false).total() < eval::encoder_sinks_memory(bert, 6, true).total());
}

TEST_CASE("eval memory: a masked stream takes what was planned for it") {
    Context context(Device::cpu, 1);
    const auto config = tiny_config();
    model::Transformer model(context, config, Dtype::f32);
    const std::vector<int32_t> ids = random_ids(3, 90, 20), no_targets(90, -1);
    for (const bool bounded : {true, false}) {
        const auto policy = bounded ? infer::CachePolicy::sink(2, 10) : infer::CachePolicy::dense();
        const auto plan = infer::CachePlan::uniform(policy, config.num_layers, config.num_heads);
        infer::MaskedStream stream(context, model, plan, 8);
        std::vector<float> losses;
        stream.feed(ids, no_targets, losses);
        const size_t planned = planned_stream(context, plan, 90), taken = stream.memory_bytes();
        CAPTURE(bounded, planned, taken);
        CHECK(planned >= taken);
        CHECK((bounded ? planned == taken : planned < 2 * taken));  // a dense one holds two stores while it grows
    }
}

TEST_CASE("eval memory: what keeps the text grows with it, and the rest does not") {
    const Context context(Device::cpu, 1);
    const auto config = tiny_config();
    const auto of = [&](const eval::StreamingOptions& options, int64_t positions) {
        return eval::streaming_memory(context, config, Dtype::f32, Dtype::f32, options, positions).total();
    };
    for (const auto method : {eval::StreamingMethod::masked, eval::StreamingMethod::cache}) {
        const eval::StreamingOptions dense{.policy = infer::CachePolicy::dense(), .method = method},
            sink{.policy = infer::CachePolicy::sink(1, 7), .method = method};
        CHECK(of(dense, 1 << 20) > 100 * of(dense, 1 << 10));
        CHECK(of(sink, 1 << 20) == of(sink, 1 << 10));
    }
    const eval::StreamingOptions eight{.policy = eval::Recompute{8}}, sixteen{.policy = eval::Recompute{16}};
    CHECK(of(eight, 1 << 20) == of(eight, 1 << 10));
    CHECK(of(sixteen, 1 << 10) > of(eight, 1 << 10) * 3 / 2);
    CHECK(of(eight, 9) < of(eight, 90));  // two windows, not sixteen
}
