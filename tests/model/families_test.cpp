// Every family: transformers' logits and gradients, finite differences, config.json there and back, and what is
// refused.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/config_toml.h"
#include "base/json_file.h"
#include "model/hugging_face_config.h"
#include "tests/base/temporary_folder.h"
#include "tests/model/family_configs.h"
#include "tests/model/gradient_check.h"
#include "tests/model/transformers_fixture.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

std::string text_of(model::ModelConfig config) { return to_toml(config); }

/// A folder with this config.json, changed; what the reader says of it.
std::string refusal(json config, const json& changes) {
    config.merge_patch(changes);  // null takes a key away, so "none" of transformers is written as absent
    const TemporaryFolder folder;
    write_json_file(folder.file("config.json"), config);
    try {
        model::read_hugging_face_config(folder.path());
    } catch (const UserError& error) {
        return error.what();
    }
    return "";
}

json written(const model::ModelConfig& config) { return json(model::hugging_face_config(config)); }

std::vector<double> logits_of(Context& context, model::Transformer& model, const std::vector<int32_t>& ids) {
    const auto T = static_cast<int64_t>(ids.size());
    model::Pass pass(context, model, model::PassKind::forward, 1, T);
    pass.set_tokens(ids, std::vector<int32_t>(ids.size(), -1));
    const Dtype acc = accumulation_dtype(model.dtype());
    const auto buffer = context.allocate(static_cast<size_t>(T * model.config().vocab_size) * size_of(acc));
    const Tensor logits(buffer.data(), acc, {T, model.config().vocab_size});
    pass.forward_logits(logits);
    return to_host(context, logits);
}

}  // namespace

TEST_CASE("families: logits, loss and gradients equal transformers'") {
    for (const char* name : {"llama_gqa", "llama_tied", "mpt", "falcon_7b", "falcon_40b"})
        check_against_fixture(name, "ref.safetensors");
}

TEST_CASE("families: scaled rotary embeddings equal transformers', past the trained length too") {
    for (const char* name : {"linear", "dynamic", "llama3", "yarn"}) {
        const std::string folder = kFixtures + "llama_rope_" + name;
        if (!std::filesystem::exists(folder)) {
            WARN(folder << " is not there: not checked");
            continue;
        }
        INFO(name);
        Context context(test_device(), 2);
        model::Transformer model(context, model::read_hugging_face_config(folder), Dtype::f32,
                                 model::WeightUse::inference);
        model::read_hugging_face_weights(folder, context, model.weights());
        const SafetensorsReader reference(folder + "/ref.safetensors");
        for (const std::string end : {"", "_short"}) {  // the long one first: `dynamic` must come back from it
            std::vector<int32_t> ids(static_cast<size_t>(reference.info("input_ids" + end).numel()));
            reference.read_as("input_ids" + end, Dtype::i32, ids.data());
            CHECK(relative_error(logits_of(context, model, ids), read_f32(reference, "logits" + end)) <= 1e-5);
        }
    }
}

TEST_CASE("families: rotary frequencies equal transformers' for every setting", "[cpu]") {
    for (const char* name : {"linear", "dynamic", "llama3", "yarn"}) {
        const std::string path = kFixtures + "llama_rope_" + name + "/tables.json";
        if (!std::filesystem::exists(path)) {
            WARN(path << " is not there: not checked");
            continue;
        }
        for (const json& row : read_json_file(path)) {
            INFO(row.dump());
            json config = written(tiny_llama());
            config["head_dim"] = row["head_dim"];
            config["max_position_embeddings"] = row["max_position_embeddings"];
            config.erase("rope_scaling");
            config.erase("rope_theta");
            config["rope_parameters"] = row["rope_parameters"];
            const TemporaryFolder folder;
            write_json_file(folder.file("config.json"), config);
            const auto read = model::read_hugging_face_config(folder.path());
            const int64_t length = row["sequence_length"].is_null() ? 1 : row["sequence_length"].get<int64_t>();
            const auto frequencies = model::rope_frequencies(read, length);
            const auto expected = row["inv_freq"].get<std::vector<double>>();
            REQUIRE(frequencies.inverse.size() == expected.size());
            for (size_t i = 0; i < expected.size(); ++i)
                CHECK(std::abs(frequencies.inverse[i] - expected[i]) <= 2e-6 * expected[i]);
            CHECK(std::abs(frequencies.attention_factor - row["attention_factor"].get<double>()) <= 1e-7);
        }
    }
}

// On the CPU alone, as all finite differences of whole models.
TEST_CASE("families: gradients of every parameter", "[cpu]") {
    for (const auto& [name, config] : family_configs()) {
        INFO(name);
        check_all_parameters(config);
    }
}

TEST_CASE("families: bf16 follows f32, and recomputing changes no bit") {
    const auto ids = random_ids(3, 2 * 17, 20), targets = random_ids(4, 2 * 17, 20);
    for (const auto& [name, config] : family_configs()) {
        INFO(name);
        const auto run = [&, &config = config](Dtype dtype, model::Recompute recompute) {
            Context context(test_device(), 2);
            model::Transformer model(context, config, dtype);
            model.weights().initialise(context, 5);
            model::Pass pass(context, model, model::PassKind::forward_backward, 2, 17, recompute);
            pass.set_tokens(ids, targets);
            const model::FlatArray d(context, model.weights().table(), Dtype::f32);
            pass.forward_backward(d, 1.0 / 34);
            return std::pair(to_host(context, pass.losses()), to_host(context, d.flat()));
        };
        const auto [losses, gradients] = run(Dtype::f32, model::Recompute::none);
        const auto [narrow_losses, narrow_gradients] = run(Dtype::bf16, model::Recompute::none);
        CHECK(relative_error(narrow_losses, losses) <= 2e-3);
        CHECK(relative_error(narrow_gradients, gradients) <= 3e-2);
        for (const auto recompute : {model::Recompute::attention, model::Recompute::full})
            CHECK(run(Dtype::f32, recompute).second == gradients);
    }
}

TEST_CASE("families: config.json and weights there and back", "[cpu]") {
    Context context(Device::cpu, 1);
    for (const auto& [name, config] : family_configs()) {
        INFO(name);
        model::Transformer model(context, config, Dtype::f32);
        randomise(context, model.weights(), 3);
        const TemporaryFolder folder;
        model::write_hugging_face(folder.path(), context, config, model.weights(), {.hidden_act = ""});
        auto back = model::read_hugging_face_config(folder.path());
        model::Weights weights(context, back, Dtype::f32, model::WeightUse::inference);
        model::read_hugging_face_weights(folder.path(), context, weights);
        for (const auto& row : weights.table().rows()) {
            INFO(row.name);
            CHECK(to_host(context, weights.compute(row)) == to_host(context, model.weights().master(row)));
        }
        // Files say these two in full.
        back.intermediate_size = config.intermediate_size;
        if (back.key_value_heads() == config.key_value_heads()) back.num_key_value_heads = config.num_key_value_heads;
        for (int64_t l = 0; l < config.num_layers; ++l) CHECK(back.span_of_layer(l) == config.span_of_layer(l));
        back.attention_span = config.attention_span;
        CHECK(text_of(back) == text_of(config));
    }
}

TEST_CASE("families: transformers is to load what it can compute, and nothing else", "[cpu]") {
    const std::vector<std::pair<std::string, std::string>> expected{
        {"llama", "llama"},
        {"llama with biases", "llama"},
        {"mistral", "mistral"},
        {"mistral, off by one", "ballast_mistral"},
        {"mistral, sink tokens", "ballast_mistral"},      // which transformers' window would hide
        {"llama with biases, windows", "ballast_llama"},  // transformers' Mistral has no biases
        {"llama, sink tokens", "llama"},
        {"qwen2", "qwen2"},
        {"qwen2, sink logits", "ballast_qwen2"},
        {"mpt", "mpt"},
        {"mpt, clipped", "ballast_mpt"},  // of a largest ALiBi bias that transformers does not read
        {"falcon 7b", "falcon"},
        {"falcon 40b", "falcon"},
        {"llama, gated heads", "ballast_llama"},
        {"gpt_neox without attention biases, windows", "ballast_gpt_neox"}};
    for (const auto& [name, type] : expected)
        for (const auto& [candidate, config] : family_configs())
            if (candidate == name) CHECK(written(config)["model_type"] == type);
    auto windows = tiny_llama();
    windows.attention_span = {0, 4};  // neither Mistral's, in every layer, nor Qwen2's, which has biases
    CHECK(written(windows)["model_type"] == "ballast_mistral");
    CHECK(written(windows)["ballast_attention_span"] == json{0, 4});
    CHECK(written(windows)["ballast_sink_token_id"].is_null());  // transformers warns of -1
    auto sinks = tiny_mpt();
    sinks.normaliser = Normaliser::sink_logit;
    CHECK(written(sinks)["model_type"] == "ballast_mpt");
    auto nowhere = tiny_falcon();
    nowhere.position = model::Position::alibi;
    CHECK_THROWS_AS(model::hugging_face_config(nowhere), UserError);
}

TEST_CASE("families: sliding windows as transformers' keys say", "[cpu]") {
    const auto spans = [](const model::ModelConfig& config, const json& changes) {
        json edited = written(config);
        for (const auto& [key, value] : changes.items()) edited[key] = value;
        const TemporaryFolder folder;
        write_json_file(folder.file("config.json"), edited);
        return model::read_hugging_face_config(folder.path()).attention_span;
    };
    using Spans = std::vector<int64_t>;
    auto mistral = tiny_llama();
    mistral.attention_span = {4};
    CHECK(written(mistral)["sliding_window"] == 5);
    CHECK(spans(mistral, {{"sliding_window", nullptr}}) == Spans{0});
    CHECK(spans(tiny_llama(), {{"model_type", "mistral"}}) == Spans{4095});
    CHECK(spans(tiny_llama(), {{"sliding_window", 9}}) == Spans{0});  // Llama has none, whatever the file says
    auto qwen2 = tiny_llama();
    qwen2.qkv_bias = true;
    CHECK(spans(qwen2, {{"sliding_window", 9}}) == Spans{0});
    const json used{{"sliding_window", 9}, {"use_sliding_window", true}};
    const auto with = [&](json more) {
        more.update(used);
        return more;
    };
    CHECK(spans(qwen2, with({{"max_window_layers", 1}})) == Spans{0, 8});
    for (const auto& [wanted, before] : std::vector<std::pair<Spans, json>>{
             {{4}, 0}, {{0, 4}, 1}, {{0, 4, 4}, 1}, {{4, 0}, nullptr}, {{0, 4, 0}, nullptr}}) {
        auto windows = qwen2;
        windows.attention_span = wanted;
        windows.num_layers = std::ssize(wanted);
        json file = written(windows);
        CHECK(file.value("max_window_layers", json()) == before);
        if (before.is_null()) continue;
        CHECK(spans(windows, {{"layer_types", nullptr}}) == wanted);  // what a reader without layer_types makes of it
    }
    CHECK_FALSE(written(qwen2).contains("max_window_layers"));
    CHECK(spans(qwen2, with({{"max_window_layers", 0}})) == Spans{8});
    CHECK(spans(qwen2, with({})) == Spans{0});  // from layer 28 on
    CHECK(spans(qwen2, with({{"layer_types", {"sliding_attention", "full_attention"}}})) == Spans{8, 0});
    CHECK_THROWS_AS(spans(qwen2, with({{"layer_types", {"sliding_attention"}}})), UserError);
    CHECK_THROWS_AS(spans(qwen2, with({{"layer_types", {"linear_attention", "full_attention"}}})), UserError);
    CHECK_THROWS_AS(spans(mistral, {{"sliding_window", 1}}), UserError);
}

TEST_CASE("families: every width of an MPT's MLP is written as a ratio that is read as this width", "[cpu]") {
    const auto read = [](const json& config) {
        const TemporaryFolder folder;
        write_json_file(folder.file("config.json"), config);
        return model::read_hugging_face_config(folder.path()).intermediate_size;
    };
    auto config = tiny_mpt();
    config.num_heads = 1;
    for (const int64_t hidden_size : {97, 103})  // of whose ratios some times the width are no whole numbers
        for (config.intermediate_size = 1; config.intermediate_size <= 300; config.intermediate_size += 13) {
            config.hidden_size = hidden_size;
            CAPTURE(hidden_size, config.intermediate_size);
            CHECK(read(written(config)) == config.intermediate_size);
        }
    json file = written(tiny_mpt());
    const auto hidden = static_cast<double>(tiny_mpt().hidden_size);
    file["expansion_ratio"] = 100 / hidden * (1 + 1e-10);
    CHECK(read(file) == 100);
    for (const double ratio : {100 / hidden * (1 + 1e-7), 100.5 / hidden, 0.0, -1.0, 1e300})
        CHECK_THAT(refusal(file, {{"expansion_ratio", ratio}}), ContainsSubstring("expansion_ratio"));
}

TEST_CASE("families: what we do not have is refused by name", "[cpu]") {
    const json llama = written(tiny_llama()), mpt = written(tiny_mpt()), falcon = written(tiny_falcon());
    struct Case {
        const json& config;
        json changes;
        std::string named;
    };
    for (const auto& [config, changes, named] : std::vector<Case>{
             {llama, {{"model_type", "gpt2"}}, "llama"},
             {llama, {{"model_type", "RefinedWeb"}}, "RefinedWeb"},
             {llama, {{"hidden_act", "gelu"}}, "silu"},
             {llama, {{"hidden_act", "relu"}}, "relu"},
             {llama, {{"rope_scaling", {{"rope_type", "longrope"}, {"factor", 2.0}}}}, "longrope"},
             {llama, {{"rope_scaling", {{"rope_type", "linear"}}}}, "factor"},
             {llama,
              {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}, {"partial_rotary_factor", 0.5}}}},
              "partial_rotary_factor"},
             {llama,
              {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}}, {"partial_rotary_factor", 0.5}},
              "partial_rotary_factor"},
             {llama, {{"partial_rotary_factor", 0.5}}, ""},  // without scaling transformers does not read it
             {llama, {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}, {"beta_fast", 3.0}}}}, "beta_fast"},
             {llama, {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 0.5}}}}, "factor"},
             {llama, {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2.0}, {"finetuned", true}}}}, ""},
             {llama, {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}, {"finetuned", true}}}}, "finetuned"},
             {llama, {{"num_key_value_heads", 3}}, "num_key_value_heads"},
             {llama, {{"head_dim", 512}}, "head_dim"},
             {llama, {{"intermediate_size", 0}}, ""},
             {mpt, {{"attn_config", {{"alibi", false}}}}, "alibi"},
             {mpt, {{"attn_config", {{"qk_ln", true}}}}, "qk_ln"},
             {mpt, {{"attn_config", {{"prefix_lm", true}}}}, "prefix_lm"},
             {mpt, {{"attn_config", {{"attn_type", "multiquery_attention"}}}}, "multiquery_attention"},
             {mpt, {{"attn_config", {{"kv_n_heads", 1}}}}, "kv_n_heads"},
             {mpt, {{"no_bias", false}}, "no_bias"},
             {mpt, {{"norm_type", "low_precision_rmsnorm"}}, "low_precision_rmsnorm"},
             {mpt, {{"norm_type", "layernorm"}}, ""},
             {mpt, {{"logit_scale", "inv_sqrt_d_model"}}, "logit_scale"},
             {mpt, {{"expansion_ratio", 0.01}}, "expansion_ratio"},
             {falcon, {{"alibi", true}}, "alibi"},
             {falcon, {{"activation", "silu"}}, "silu"},
             {falcon, {{"new_decoder_architecture", true}, {"parallel_attn", false}}, "parallel_attn"},
             {falcon, {{"num_ln_in_parallel_attn", 2}}, "num_ln_in_parallel_attn"},
             {falcon, {{"ffn_hidden_size", nullptr}}, ""},
             {falcon, {{"ffn_hidden_size", nullptr}, {"hidden_size", int64_t{1} << 62}}, "hidden_size"},
         }) {
        INFO(changes.dump());
        const std::string said = refusal(config, changes);
        if (named.empty()) {
            CHECK(said.empty());
        } else {
            CHECK_THAT(said, ContainsSubstring("config.json"));
            CHECK_THAT(said, ContainsSubstring(named));
        }
    }
}

TEST_CASE("families: a config file that its family cannot have is refused, field by field", "[cpu]") {
    const auto refused = [](model::ModelConfig config, auto&& change, const std::string& field) {
        INFO(field);
        config.validate();
        change(config);
        std::string said;
        try {
            config.validate();
        } catch (const UserError& error) {
            said = error.what();
        }
        CHECK_THAT(said, ContainsSubstring("model." + field));
    };
    refused(
        tiny_config(), [](auto& c) { c.norm = model::Norm::rmsnorm; }, "norm");
    refused(
        tiny_config(), [](auto& c) { c.hidden_act = model::Activation::swiglu; }, "hidden_act");
    refused(
        tiny_config(), [](auto& c) { c.num_key_value_heads = 1; }, "num_key_value_heads");
    refused(
        tiny_config(), [](auto& c) { c.qkv_bias = false; }, "qkv_bias");
    refused(
        tiny_llama(), [](auto& c) { c.norm_bias = true; }, "norm_bias");
    refused(
        tiny_llama(), [](auto& c) { c.hidden_act = model::Activation::gelu_erf; }, "hidden_act");
    refused(
        tiny_llama(), [](auto& c) { c.rotary_pct = 0.5; }, "rotary_pct");
    refused(
        tiny_llama(), [](auto& c) { c.intermediate_size = 23, c.hidden_size = 24, c.dims_per_head = 8; },
        "intermediate_size");
    refused(
        tiny_llama(), [](auto& c) { c.num_heads = 3, c.num_key_value_heads = 2; }, "num_key_value_heads");
    refused(
        tiny_mpt(), [](auto& c) { c.position = model::Position::rope; }, "position");
    refused(
        tiny_mpt(), [](auto& c) { c.mlp_bias = true; }, "mlp_bias");
    refused(
        tiny_falcon(), [](auto& c) { c.parallel_residual = false; }, "shared_norm");
    refused(
        tiny_falcon(), [](auto& c) { c.mlp_bias = true; }, "mlp_bias");
    refused(
        tiny_falcon(), [](auto& c) { c.attention_span = {}; }, "attention_span");
    refused(
        tiny_llama(),
        [](auto& c) {
            c.rope_scaling.kind = model::RopeScalingKind::llama3;
            c.rope_scaling.low_freq_factor = 4;
        },
        "rope_scaling");
}

TEST_CASE("families: tensors that are missing, extra or of another shape are all named once", "[cpu]") {
    Context context(Device::cpu, 1);
    const auto config = tiny_llama();
    model::Transformer model(context, config, Dtype::f32);
    const TemporaryFolder folder;
    SafetensorsFolderWriter writer(folder.path(), int64_t{1} << 30);
    const std::vector<float> zeros(4096, 0.0f);
    for (const auto& row : model.weights().table().rows()) {
        if (row.name == "model.norm.weight") continue;
        auto shape = row.shape;
        if (row.role == model::Role::key_weight && row.layer == 1) std::swap(shape[0], shape[1]), shape[0] *= 2;
        writer.add(row.name, Dtype::f32, shape, zeros.data());
    }
    writer.add("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::f32, std::vector<int64_t>{4}, zeros.data());
    writer.add("model.layers.0.self_attn.q_norm.weight", Dtype::f32, std::vector<int64_t>{8}, zeros.data());
    writer.commit();
    std::string said;
    try {
        model::read_hugging_face_weights(folder.path(), context, model.weights());
    } catch (const UserError& error) {
        said = error.what();
    }
    CHECK_THAT(said, ContainsSubstring("model.norm.weight is missing"));
    CHECK_THAT(said,
               ContainsSubstring("model.layers.1.self_attn.k_proj.weight has shape [32, 16], but config.json asks "
                                 "for [16, 16]"));
    CHECK_THAT(said, ContainsSubstring("model.layers.0.self_attn.q_norm.weight does not belong"));
    CHECK_THAT(said, !ContainsSubstring("inv_freq"));
}

TEST_CASE("families: weights for reading alone give the bits of the training copy in less memory") {
    auto config = tiny_llama();
    config.normaliser = Normaliser::sink_logit;
    const auto ids = random_ids(3, 33, config.vocab_size);
    const model::ParameterTable table(config);
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        Context context(test_device(), 1);
        model::Transformer training(context, config, dtype),
            reading(context, config, dtype, model::WeightUse::inference);
        randomise(context, training.weights(), 5);
        randomise(context, reading.weights(), 5);
        CHECK(logits_of(context, training, ids) == logits_of(context, reading, ids));
        const auto all = model::Weights::bytes(table, dtype, model::WeightUse::training),
                   few = model::Weights::bytes(table, dtype, model::WeightUse::inference);
        CHECK(few == (dtype == Dtype::f32 ? all : all / 3 + 4 * 2 * 4));  // 2 of 6 bytes, and 2 layers of 4 sink logits
    }
}
