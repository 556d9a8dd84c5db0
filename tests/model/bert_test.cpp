// BERT against what transformers computed, where BALLAST_SHARED_DATA is there (tests/CMakeLists.txt); its folders' names,
// refusals and what is passed over, everywhere.
#include "model/bert.h"

#include <filesystem>

#include "base/atomic_file.h"
#include "base/safetensors.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/model/bert_fixture.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

const std::string kFixture = std::string(BALLAST_SHARED_DATA) + "/hf/bert";
const std::vector<int32_t> kIds{1, 5, 9, 2, 1, 7, 3, 2};

std::vector<float> run(const std::string& folder) {
    Context context(test_device(), 2);
    return model::Bert(context, folder).forward(context, kIds, 4, {});
}

}  // namespace

TEST_CASE("bert: hidden states and attention are those of transformers") {
    if (!std::filesystem::exists(kFixture)) {
        WARN(kFixture << " is not there: parity with transformers not checked");
        return;
    }
    const SafetensorsReader reference(kFixture + "/ref.safetensors");
    const auto expected = [&](const std::string& name) {
        std::vector<float> out(static_cast<size_t>(reference.info(name).numel()));
        reference.read_f32(name, out);
        return out;
    };
    std::vector<int32_t> ids(static_cast<size_t>(reference.info("input_ids").numel()));
    reference.read_as("input_ids", Dtype::i32, ids.data());
    const int64_t batch = reference.info("input_ids").shape[0], length = reference.info("input_ids").shape[1];

    Context context(test_device(), 2);
    const model::Bert bert(context, kFixture);
    int64_t layers = 0;
    const auto hidden = bert.forward(
        context, ids, length,
        [&](int64_t layer, const Tensor& lse, const ops::AttentionInputs& inputs, const ops::AttentionParams& params) {
            const int64_t heads = bert.config().num_heads;
            const auto buffer = context.allocate(static_cast<size_t>(batch * heads * length * length) * sizeof(float));
            const Tensor weights(buffer.data(), Dtype::f32, {batch, heads, length, length});
            ops::attention_weights(context, weights, lse, inputs, params);
            const double error =
                relative_error(to_host(context, weights), expected("attentions." + std::to_string(layer)));
            CAPTURE(layer, error);
            CHECK(error <= 1e-5);
            ++layers;
        });
    CHECK(layers == 3);
    const double error = relative_error(hidden, expected("last_hidden_state"));
    CAPTURE(error);
    CHECK(error <= 1e-5);
}

TEST_CASE("bert: sequences of a batch do not see each other, and every token sees every other of its own") {
    const TemporaryFolder root;
    const std::string folder = bert_folder(root, random_bert());
    Context context(test_device(), 2);
    const model::Bert bert(context, folder);
    const auto both = bert.forward(context, kIds, 4, {}),
               second = bert.forward(context, std::span(kIds).subspan(4), 4, {});
    CHECK(relative_error(std::vector<float>(both.begin() + 32, both.end()), second) <= 1e-6);
    auto changed = kIds;
    changed[3] = 6;
    const auto other = bert.forward(context, changed, 4, {});
    CHECK(std::fabs(other[0] - both[0]) > 1e-4f);  // the first token saw the last
    CHECK(relative_error(std::vector<float>(other.begin() + 32, other.end()), second) <= 1e-6);
}

TEST_CASE("bert: names of task models and of old files are the same tensors, and heads are passed over") {
    const TemporaryFolder root;
    const BertTensors tensors = random_bert();
    const auto expected = run(bert_folder(root, tensors));
    BertTensors old;
    for (const auto& [name, stored] : tensors) {
        std::string spelt = "bert." + name;
        if (const size_t at = spelt.find("LayerNorm.weight"); at != std::string::npos)
            spelt.replace(at, 16, "LayerNorm.gamma");
        if (const size_t at = spelt.find("LayerNorm.bias"); at != std::string::npos)
            spelt.replace(at, 14, "LayerNorm.beta");
        old[spelt] = stored;
    }
    old["bert.embeddings.position_ids"] = {{1, 6}, {0, 1, 2, 3, 4, 5}};
    old["bert.pooler.dense.weight"] = {{1}, {5}};
    old["cls.predictions.bias"] = {{1}, {5}};
    CHECK(run(bert_folder(root, old)) == expected);
}

TEST_CASE("bert: what does not fit is refused by name") {
    const TemporaryFolder root;
    const auto refusal = [&](const BertTensors& tensors, const std::string& config = kBertConfig) {
        return message_of([&] { run(bert_folder(root, tensors, config)); });
    };
    BertTensors tensors = random_bert();
    tensors.erase("encoder.layer.1.output.dense.bias");
    CHECK_THAT(refusal(tensors), ContainsSubstring("encoder.layer.1.output.dense.bias is missing"));
    tensors = random_bert();
    tensors["encoder.layer.0.output.dense.weight"].shape = {12, 8};
    CHECK_THAT(refusal(tensors), ContainsSubstring("[12, 8]") && ContainsSubstring("[8, 12]"));
    tensors = random_bert();
    tensors["encoder.layer.2.output.dense.bias"] = {{8}, std::vector<float>(8)};
    CHECK_THAT(refusal(tensors), ContainsSubstring("encoder.layer.2.output.dense.bias does not belong"));
    tensors.erase("embeddings.LayerNorm.bias");
    CHECK_THAT(refusal(tensors), ContainsSubstring("embeddings.LayerNorm.bias is missing") &&
                                     ContainsSubstring("encoder.layer.2.output.dense.bias does not belong"));

    const auto with = [&](const std::string& more) { return refusal(random_bert(), std::string(kBertConfig) + more); };
    CHECK(with("") == "");
    CHECK_THAT(with(R"(,"is_decoder":true)"), ContainsSubstring("is_decoder"));
    CHECK_THAT(with(R"(,"position_embedding_type":"relative_key")"), ContainsSubstring("relative_key"));
    CHECK_THAT(with(R"(,"hidden_act":"relu")"), ContainsSubstring("relu") && ContainsSubstring("gelu_new"));
    CHECK_THAT(with(R"(,"num_attention_heads":3)"), ContainsSubstring("num_attention_heads 3"));
    CHECK_THAT(with(R"(,"hidden_size":514,"num_attention_heads":2)"), ContainsSubstring("num_attention_heads is 257"));
    CHECK_THAT(with(R"(,"num_hidden_layers":0)"), ContainsSubstring("num_hidden_layers"));
    CHECK_THAT(with(R"(,"model_type":"roberta")"), ContainsSubstring("roberta"));

    Context context(test_device(), 1);
    const model::Bert bert(context, bert_folder(root, random_bert()));
    const auto forward = [&](const std::vector<int32_t>& ids) {
        return message_of([&] { bert.forward(context, ids, static_cast<int64_t>(ids.size()), {}); });
    };
    CHECK_THAT(forward({1, 11}), ContainsSubstring("id 11"));
    CHECK_THAT(forward({1, -1}), ContainsSubstring("id -1"));
    CHECK_THAT(forward({1, 1, 1, 1, 1, 1, 1}), ContainsSubstring("6 positions"));
}

TEST_CASE("bert: only a folder whose config.json says so is one") {
    const TemporaryFolder root;
    CHECK(model::is_bert_folder(bert_folder(root, {}, kBertConfig)));
    CHECK_FALSE(model::is_bert_folder(bert_folder(root, {}, R"("model_type":"llama")")));
    CHECK_FALSE(model::is_bert_folder(root / "nowhere"));
    write_file(root / "bert/config.json", "{");
    CHECK_FALSE(model::is_bert_folder(root / "bert"));
}
