// Weights, configurations of models, MoA's files.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/safetensors.h"
#include "eval/input_ids.h"
#include "infer/answer_file.h"
#include "model/bert.h"
#include "model/hugging_face.h"
#include "model/hugging_face_config.h"
#include "model/parameter_table.h"
#include "moa/items.h"
#include "moa/picture.h"
#include "moa/profile_file.h"
#include "report/attention_maps.h"
#include "report/plans.h"
#include "tests/fuzz/formats.h"
#include "tests/fuzz/hdf5_edits.h"
#include "tests/moa/made_profile.h"
#include "tests/model/bert_fixture.h"
#include "tests/model/family_configs.h"

namespace ballast::fuzz {
namespace {

using Strings = std::vector<std::string>;

// Weights -------------------------------------------------------------------------------------------------------------

const std::vector<int64_t> kNumbers{5, 3, 1, 0, 2, 7};  // of a file's tensors, whatever their type

Strings safetensors_seeds(const std::string& folder) {
    SafetensorsWriter writer(folder + "/model.safetensors");
    const int64_t matrix[] = {2, 3}, none[] = {0, 4};
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::u8})
        writer.add(fmt::format("a.{}", name_of(dtype)), dtype, matrix, kNumbers.data());
    writer.add("none", Dtype::f32, none, kNumbers.data());
    writer.commit();
    return {read_file(folder + "/model.safetensors")};
}

Strings shards_seeds(const std::string& folder) {
    SafetensorsFolderWriter writer(folder, 24);  // bytes: a shard for each tensor
    const int64_t row[] = {6};
    for (const char* name : {"a", "b"}) writer.add(name, Dtype::f32, row, kNumbers.data());
    writer.commit();
    return {read_file(folder + "/model.safetensors.index.json")};
}

/// A file, or the folder of the shards that one lists.
void read_weights(const std::string& path) {
    const bool is_index = path.ends_with(".json");
    const SafetensorsFolder weights(is_index ? std::filesystem::path(path).parent_path().string() : path);
    for (const std::string& name : weights.names()) {
        std::vector<float> values(static_cast<size_t>(weights.info(name).numel()));
        weights.read_f32(name, values);
    }
}

Strings maps_seeds(const std::string& folder) {
    const std::string path = folder + "/maps.safetensors";
    const int64_t shape[] = {1, 1, 2, 2};
    const float maps[] = {1, 0, 0.25f, 0.75f};
    SafetensorsWriter writer(path);
    for (const char* name : {"attention", "logits"}) writer.add(name, Dtype::f32, shape, maps);
    writer.commit();
    return {read_file(path)};
}

void read_maps(const std::string& path) {
    const report::AttentionMaps maps = report::read_attention_maps(path);
    const int64_t side = std::min(maps.length, report::map_side(maps.layers * maps.heads, 1 << 20));
    pack_maps(maps, side);
    if (!maps.logits.empty()) pack_logits(maps, side);
}

Strings input_ids_seeds(const std::string& folder) {
    const std::string path = folder + "/ids.safetensors";
    const int64_t shape[] = {2, 3}, ids[] = {5, 3, 1, 0, 2, 7};
    SafetensorsWriter writer(path);
    writer.add("input_ids", Dtype::i64, shape, ids);
    writer.commit();
    return {read_file(path)};
}

void read_input_ids(const std::string& path) { eval::read_input_ids(path, 8); }

// Configurations ------------------------------------------------------------------------------------------------------

Strings hugging_face_seeds(const std::string&) {
    Strings out{fmt::format("{{{}}}", test::kBertConfig)};
    for (const test::NamedConfig& named : test::family_configs())
        out.push_back(model::hugging_face_config(named.config).dump());
    return out;
}

/// Down to the table of parameters, which says what memory the weights need.
void read_hugging_face(const std::string& path) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    if (model::is_bert_folder(folder)) {
        model::read_bert_config(folder);
        return;
    }
    const model::ModelConfig config = model::read_hugging_face_config(folder);
    model::ParameterTable(config).num_parameters();
    model::hugging_face_config(config);
}

// MoA -----------------------------------------------------------------------------------------------------------------

Strings plan_seeds(const std::string& folder) {
    const std::string path = folder + "/plan.json";
    infer::SpanPlan plan;
    plan.layers = plan.entries = 2;
    plan.rules = {{0, 0.5}, {-64, 1}, {128, 0}, {0, 1}};
    const std::string plain = R"({"alphas": [[0, 64], [0, 0]], "betas": [[0.5, 1], [1, 1]]})";
    plan.shape = infer::PlanShape{2, 4, 2};
    plan.range = infer::LengthRange{512, 1024};
    plan.figures = {{512, 0.5, 0.25}, {1024, 0.5, std::nullopt}};
    write_span_plan(path, plan);
    return {plain, read_file(path)};
}

Strings scores_seeds(const std::string&) { return {"0.25 1\n0 0.75\n", "1.0e+00\t5.0e-01\n0\t0\n"}; }

/// Drawings, a table by length, and the caches for the model of the seeds.
void read_plan(const std::string& path) {
    report::plans_json({path});
    const infer::SpanPlan plan = infer::read_span_plan(path);
    for (const int64_t length : moa::lengths_to_show(plan)) moa::plan_picture(plan, length);
    model::ModelConfig config = test::tiny_config();
    config.num_heads = 4;
    config.num_key_value_heads = 2;
    config.max_position_embeddings = 4096;
    cache_plan(plan, config, 1024);
}

Strings profile_seeds(const std::string& folder) {
    Strings out;
    for (const moa::Profile& profile : {test::made_profile(), test::with_second_order(test::made_profile())}) {
        write_profile(folder + "/profile.h5", profile);
        out.push_back(read_file(folder + "/profile.h5"));
    }
    return out;
}

void read_profile(const std::string& path) { moa::read_profile(path); }

Strings profile_edits_seeds(const std::string& folder) {
    write_file(folder + "/valid.h5", profile_seeds(folder).back());
    return seeds_of_edits();
}

void read_edited_profile(const std::string& path) { read_profile(write_edited(path)); }

Strings items_seeds(const std::string& folder) {
    moa::write_items(folder + "/items.jsonl",
                     {{"Why?", "So.", moa::ItemKind::human}, {"", "\u00E9", moa::ItemKind::plain}});
    return {read_file(folder + "/items.jsonl")};
}

void read_items(const std::string& path) { moa::write_items(path, moa::read_items(path)); }

Strings answers_seeds(const std::string&) {
    infer::AnsweredPrompt answered{{3, 1}, "So.", {{{5, -0.5, {{5, -0.5}, {7, -1.25}}}, {2, -3, {{5, -1}}}}, {}}, "model a --seed 3"};
    answered.answer.finish = infer::Finish::stop_id;
    Strings out;
    for (const bool with_alternatives : {false, true})
        out.push_back(nlohmann::ordered_json::array({infer::to_json(answered, with_alternatives)}).dump());
    return out;
}

void read_answers(const std::string& path) {
    for (const infer::AnsweredPrompt& answered : infer::read_answers(path)) infer::to_json(answered, true).dump();
}

}  // namespace

std::vector<Format> model_formats() {
    return {{"safetensors", "model.safetensors", safetensors_seeds, read_weights},
            {"safetensors_index", "model.safetensors.index.json", shards_seeds, read_weights},
            {"attention_maps", "maps.safetensors", maps_seeds, read_maps},
            {"input_ids", "ids.safetensors", input_ids_seeds, read_input_ids},
            {"config_json", "config.json", hugging_face_seeds, read_hugging_face},
            {"plan", "plan.json", plan_seeds, read_plan},
            {"plan_scores", "plan.tsv", scores_seeds, read_plan},
            {"moa_profile", "profile.h5", profile_seeds, read_profile},
            {"moa_profile_edits", "a.edits", profile_edits_seeds, read_edited_profile},
            {"moa_items", "items.jsonl", items_seeds, read_items},
            {"answers", "answers.json", answers_seeds, read_answers}};
}

}  // namespace ballast::fuzz
