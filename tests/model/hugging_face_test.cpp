// Against transformers: logits, losses and gradients of small GPT-NeoX models it wrote (left out where
// BALLAST_SHARED_DATA is not there, tests/CMakeLists.txt), and our own writer read back.
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/json_file.h"
#include "model/hugging_face.h"
#include "tests/base/standard_error.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/model/transformers_fixture.h"

using namespace ballast;
using namespace ballast::test;
namespace fs = std::filesystem;

namespace {

model::ModelConfig edited(const std::string& folder, const std::string& key, const nlohmann::json& value) {
    auto json = read_json_file(folder + "/config.json");
    json[key] = value;
    write_json_file(folder + "/config.json", json);
    return model::read_hugging_face_config(folder);
}

}  // namespace

TEST_CASE("logits, loss and gradients equal transformers'") {
    check_against_fixture("gpt_neox", "ref.safetensors");
    check_against_fixture("gpt_neox_sequential", "ref.safetensors");
    check_against_fixture("gpt_neox_adamw", "grads.safetensors");
}

TEST_CASE("a written folder reads back to the same model, whole and in shards, f32, bf16 and fp16") {
    Context context(test_device(), 2);
    auto config = tiny_config();
    config.normaliser = Normaliser::sink_logit;
    config.num_sink_tokens = 2;
    config.sink_token_id = 21;
    config.parallel_residual = false;
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 3);
    for (const int64_t shard : {int64_t{1} << 30, int64_t{2000}})
        for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
            const TemporaryFolder folder;
            model::write_hugging_face(folder.path(), context, config, model.weights(), {dtype, "", shard, 0});
            const auto back = model::read_hugging_face_config(folder.path());
            CHECK(back.normaliser == config.normaliser);
            CHECK(back.num_sink_tokens == 2);
            CHECK(back.sink_token_id == 21);
            CHECK(back.hidden_act == config.hidden_act);
            CHECK_FALSE(back.parallel_residual);
            model::Weights weights(context, back, Dtype::f32);
            model::read_hugging_face_weights(folder.path(), context, weights);
            const double tolerance = dtype == Dtype::f32 ? 0 : dtype == Dtype::bf16 ? 4e-3 : 5e-4;
            for (const auto& row : weights.table().rows())
                CHECK(relative_error(to_host(context, weights.master(row)),
                                     to_host(context, model.weights().master(row))) <= tolerance);
            // transformers must refuse what it would compute wrongly
            const auto written = read_json_file(folder.path() + "/config.json");
            CHECK(written["model_type"] == "ballast_gpt_neox");
            CHECK(written["torch_dtype"] == (dtype == Dtype::f32    ? "float32"
                                             : dtype == Dtype::bf16 ? "bfloat16"
                                                                    : "float16"));
        }
}

TEST_CASE("a weight beyond the range of fp16 is not exported as infinity") {
    Context context(test_device(), 1);
    const auto config = tiny_config();
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 3);
    const auto& row = model.weights().table().row(model::Role::final_norm_weight);
    model.weights().write(context, row, std::vector<float>(static_cast<size_t>(row.count), 65520).data());
    const TemporaryFolder folder;
    CHECK_THROWS_AS(model::write_hugging_face(folder.path(), context, config, model.weights(),
                                              {.dtype = Dtype::f16, .hidden_act = ""}),
                    UserError);
    model.weights().write(context, row, std::vector<float>(static_cast<size_t>(row.count), 65519).data());
    model::write_hugging_face(folder.path(), context, config, model.weights(), {.dtype = Dtype::f16, .hidden_act = ""});
}

TEST_CASE("a tied model needs no head, lm_head.weight is another name for it, and old buffers are skipped") {
    Context context(test_device(), 1);
    auto config = tiny_config();
    config.tie_word_embeddings = true;
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 3);
    const TemporaryFolder folder;
    model::write_hugging_face(folder.path(), context, config, model.weights(), {});
    CHECK(read_json_file(folder.path() + "/config.json")["model_type"] == "gpt_neox");
    model::Weights weights(context, model::read_hugging_face_config(folder.path()), Dtype::f32);
    model::read_hugging_face_weights(folder.path(), context, weights);

    std::vector<float> head(static_cast<size_t>(config.vocab_size * config.hidden_size), 0.5f);
    auto untied = tiny_config();
    model::Transformer other(context, untied, Dtype::f32);
    std::vector<std::vector<float>> values;
    SafetensorsWriter writer(folder.path() + "/model.safetensors");
    for (const auto& row : other.weights().table().rows()) {
        values.emplace_back(static_cast<size_t>(row.count), 0.5f);
        writer.add(row.role == model::Role::embed_out ? "lm_head.weight" : row.name, Dtype::f32, row.shape,
                   values.back().data());
    }
    const std::vector<float> buffer(16);
    for (const char* name : {"attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"})
        writer.add(fmt::format("gpt_neox.layers.0.{}", name), Dtype::f32, std::vector<int64_t>{16}, buffer.data());
    writer.commit();
    model::read_hugging_face_weights(folder.path(), context, other.weights());
    CHECK(to_host(context, other.weights().master(other.weights().table().row(model::Role::embed_out)))[3] == 0.5);
}

TEST_CASE("a tied model's file with another head is told of, one that repeats the embedding is not") {
    Context context(test_device(), 1);
    auto config = tiny_config();
    config.tie_word_embeddings = true;
    model::Weights weights(context, config, Dtype::f32);
    const auto said_with_head = [&](float last) {
        const TemporaryFolder folder;
        std::vector<std::vector<float>> values;
        SafetensorsWriter writer(folder.path() + "/model.safetensors");
        for (const auto& row : weights.table().rows()) {
            values.emplace_back(static_cast<size_t>(row.count), 0.5f);
            writer.add(row.name, Dtype::f32, row.shape, values.back().data());
        }
        const model::ParameterRow& embedding = weights.table().row(model::Role::embed_in);
        std::vector<float> head(static_cast<size_t>(embedding.count), 0.5f);
        head.back() = last;
        writer.add("embed_out.weight", Dtype::f32, embedding.shape, head.data());
        writer.commit();
        return standard_error_of([&] { model::read_hugging_face_weights(folder.path(), context, weights); });
    };
    CHECK(said_with_head(0.5f).empty());
    CHECK_THAT(said_with_head(0.25f),
               Catch::Matchers::ContainsSubstring("embed_out.weight differs from gpt_neox.embed_in.weight") &&
                   Catch::Matchers::ContainsSubstring("tie_word_embeddings"));
}

TEST_CASE("foreign, lying and incomplete folders are the user's errors") {
    Context context(test_device(), 1);
    const auto config = tiny_config();
    model::Transformer model(context, config, Dtype::f32);
    const TemporaryFolder folder;
    CHECK_THROWS_AS(model::read_hugging_face_config(folder.path()), UserError);
    model::write_hugging_face(folder.path(), context, config, model.weights(), {});
    CHECK_NOTHROW(model::read_hugging_face_config(folder.path()));
    CHECK_THROWS_AS(edited(folder.path(), "model_type", "gpt2"), UserError);
    CHECK_NOTHROW(edited(folder.path(), "model_type", "gpt_neox"));
    for (const auto& [key, value] :
         std::vector<std::pair<std::string, nlohmann::json>>{{"hidden_size", -16},
                                                             {"hidden_size", "16"},
                                                             {"hidden_size", 17},
                                                             {"num_attention_heads", 0},
                                                             {"vocab_size", 1e300},
                                                             {"hidden_act", "relu"},
                                                             {"ballast_normaliser", "hardmax"},
                                                             {"rope_scaling", {{"type", "linear"}}}}) {
        const auto original = read_file(folder.path() + "/config.json");
        INFO(key << " = " << value.dump());
        CHECK_THROWS_AS(edited(folder.path(), key, value), UserError);
        write_file(folder.path() + "/config.json", original);
    }
    const auto larger = edited(folder.path(), "vocab_size", 24);
    model::Weights weights(context, larger, Dtype::f32);
    CHECK_THROWS_AS(model::read_hugging_face_weights(folder.path(), context, weights), UserError);
}

TEST_CASE("RoPE keys have the precedence of transformers 5, and what is not understood is refused") {
    using nlohmann::json;
    Context context(test_device(), 1);
    const auto config = tiny_config();  // rotary_pct 0.25, base 10000
    model::Transformer model(context, config, Dtype::f32);
    const TemporaryFolder folder;
    model::write_hugging_face(folder.path(), context, config, model.weights(), {});
    json plain = read_json_file(folder.path() + "/config.json");
    plain.erase("rotary_pct");
    plain.erase("rotary_emb_base");
    const auto read = [&](const json& keys) {
        json edited = plain;
        edited.update(keys);
        write_json_file(folder.path() + "/config.json", edited);
        const auto back = model::read_hugging_face_config(folder.path());
        return std::pair(back.rotary_pct, back.rotary_base);
    };
    const json stale{{"rotary_pct", 1.0}, {"rotary_emb_base", 500}};
    const json parameters{{"rope_type", "default"}, {"rope_theta", 20000.0}, {"partial_rotary_factor", 0.5}};
    const auto with_stale = [&](json keys) {
        keys.update(stale);
        return read(keys);
    };
    CHECK(read(json::object()) == std::pair(0.25, 10000.0));
    CHECK(read(stale) == std::pair(1.0, 500.0));
    CHECK(with_stale({{"rope_parameters", parameters}}) == std::pair(0.5, 20000.0));
    CHECK(with_stale({{"rope_parameters", {{"rope_theta", 20000}}}}) == std::pair(1.0, 20000.0));
    CHECK(with_stale({{"rope_parameters", nullptr}}) == std::pair(1.0, 500.0));
    CHECK(with_stale({{"rope_scaling", {{"rope_theta", 7.0}}}, {"rope_parameters", parameters}}) ==
          std::pair(1.0, 7.0));
    for (const json& none : {json(nullptr), json::object(), json{{"rope_type", "default"}}, json{{"type", "default"}}})
        CHECK(with_stale({{"rope_scaling", none}}) == std::pair(1.0, 500.0));
    CHECK(with_stale({{"rope_scaling", json::object()}, {"rope_parameters", parameters}}) == std::pair(0.5, 20000.0));
    CHECK(with_stale({{"rope_theta", 500}}) == std::pair(1.0, 500.0));
    CHECK(with_stale({{"rope_theta", 9}, {"partial_rotary_factor", 0.75}, {"rope_parameters", parameters}}) ==
          std::pair(0.5, 20000.0));
    CHECK_THROWS_AS(with_stale({{"rope_theta", 9}, {"rope_parameters", {{"partial_rotary_factor", 0.5}}}}), UserError);
    for (const char* key : {"rope_parameters", "rope_scaling"})
        for (const json& value :
             {json{{"type", "longrope"}, {"factor", 2.0}}, json{{"rope_type", "yarn"}},
              json{{"rope_type", "linear"}, {"type", "default"}}, json{{"factor", 2.0}},
              json{{"full_attention", parameters}}, json("linear"), json{{"rope_theta", "10000"}}}) {
            INFO(key << " = " << value.dump());
            CHECK_THROWS_AS(read({{key, value}}), UserError);
        }
    CHECK_THROWS_AS(read({{"rope_theta", 500000}}), UserError);
    CHECK_THROWS_AS(read({{"partial_rotary_factor", 1.0}}), UserError);
}

TEST_CASE("sink tokens of a config.json have ids within the vocabulary") {
    Context context(test_device(), 1);
    auto config = tiny_config();
    config.num_sink_tokens = 2;
    config.sink_token_id = 21;
    model::Transformer model(context, config, Dtype::f32);
    const TemporaryFolder folder;
    model::write_hugging_face(folder.path(), context, config, model.weights(), {});
    for (const auto& id :
         {nlohmann::json(), nlohmann::json(-1), nlohmann::json(-2), nlohmann::json(22), nlohmann::json(1 << 20)}) {
        INFO(id.dump());
        CHECK_THROWS_AS(edited(folder.path(), "ballast_sink_token_id", id), UserError);
    }
    CHECK(edited(folder.path(), "ballast_sink_token_id", 0).sink_token_id == 0);
}

TEST_CASE("ALiBi is refused, and the activation can be overridden") {
    Context context(test_device(), 1);
    auto config = tiny_config();
    config.position = model::Position::alibi;
    model::Transformer model(context, config, Dtype::f32);
    const TemporaryFolder folder;
    CHECK_THROWS_AS(model::write_hugging_face(folder.path(), context, config, model.weights(), {}), UserError);
    config.position = model::Position::rope;
    model::write_hugging_face(folder.path(), context, config, model.weights(), {Dtype::f32, "gelu", 1 << 30, 0});
    CHECK(model::read_hugging_face_config(folder.path()).hidden_act == model::Activation::gelu_erf);
    CHECK_THROWS_AS(
        model::write_hugging_face(folder.path(), context, config, model.weights(), {Dtype::f32, "relu", 1 << 30, 0}),
        UserError);
}
