// ballast export RUN DIR
#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/json_file.h"
#include "cli/commands.h"
#include "cli/text_options.h"
#include "data/tokenizer.h"
#include "model/hugging_face.h"
#include "model/hugging_face_config.h"
#include "train/load_model.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

struct ExportCommand {
    std::string model, out, hidden_act, dtype = "f32";
    double max_shard_gb = 5.0;
};

/// The ids that a Hugging Face folder's JSON file names. Absent when it says nothing of any of them.
std::optional<model::SpecialTokenIds> token_ids_in(const fs::path& path) {
    if (!fs::exists(path)) return std::nullopt;
    const nlohmann::json file = read_json_file(path.string());
    const auto ids = [&](const char* key) {
        std::vector<int64_t> out;
        const nlohmann::json found = file.is_object() ? file.value(key, nlohmann::json{}) : nlohmann::json{};
        for (const nlohmann::json& id : found.is_array() ? found : nlohmann::json::array({found}))
            if (id.is_number_integer()) out.push_back(id.get<int64_t>());
        return out;
    };
    const auto begin = ids("bos_token_id"), pad = ids("pad_token_id");
    // What is null stays so, and what is not there is not added.
    const bool says_none = file.is_object() && ((file.contains("eos_token_id") && file["eos_token_id"].is_null()) ||
                                                (file.contains("bos_token_id") && file["bos_token_id"].is_null()));
    model::SpecialTokenIds out{.end = ids("eos_token_id"), .says_none = says_none};
    if (begin.empty() && pad.empty() && out.end.empty() && !says_none) return std::nullopt;
    if (!begin.empty()) out.begin = begin.front();
    if (!pad.empty()) out.pad = pad.front();
    return out;
}

/// What a folder says of its tokens beyond tokenizer.json: roles, and how a chat is written.
struct FolderSettings {
    nlohmann::ordered_json roles = nlohmann::ordered_json::object();
    std::string chat_template_file;

    FolderSettings() = default;
    explicit FolderSettings(const fs::path& folder) {
        if (const auto path = folder / "chat_template.jinja"; fs::exists(path))
            chat_template_file = read_file(path.string());
        const auto path = folder / "tokenizer_config.json";
        if (!fs::exists(path)) return;
        const nlohmann::json file = read_json_file(path.string());
        for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token",
                                "mask_token", "additional_special_tokens", "chat_template"})
            if (file.is_object() && file.contains(key) && !file[key].is_null()) roles[key] = file[key];
    }
};

/// Has the tokenizer's files written, with sink tokens as added tokens so that their ids have names there too; its
/// special ids go into `export_settings`.
void add_tokenizer(const train::ModelSource& model, const fs::path& folder, model::ExportOptions& export_settings) {
    const model::ModelConfig& config = model.config;
    const data::Tokenizer tokenizer = TextOptions{}.load_tokenizer(model);
    data::TokenizerSpec spec = tokenizer.spec();
    for (int64_t i = 0; i < config.num_sink_tokens; ++i) {
        const auto id = static_cast<uint32_t>(config.sink_token_id + i);
        if (tokenizer.token_bytes(id)) continue;  // exported before
        spec.added_tokens.push_back({id, fmt::format("<|sink_{}|>", i), true, false});
    }
    data::fill_holes(spec);
    const auto end_id = tokenizer.end_of_text_id();
    const auto begin_id = tokenizer.begin_of_text_id() ? tokenizer.begin_of_text_id() : end_id;
    nlohmann::ordered_json settings{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                    {"add_prefix_space", data::adds_prefix_space(spec)},
                                    {"model_max_length", config.max_position_embeddings}};
    nlohmann::ordered_json special = nlohmann::ordered_json::object();
    const auto name = [&](const char* role, std::optional<uint32_t> id) {
        if (id) settings[role] = special[role] = std::string(*tokenizer.token_spelling(*id));
    };
    name("bos_token", begin_id);
    name("eos_token", end_id);
    name("unk_token", spec.unk_token.empty() ? end_id : tokenizer.token_id(spec.unk_token));
    export_settings.token_ids = {.begin = begin_id ? static_cast<int64_t>(*begin_id) : -1};
    if (end_id) export_settings.token_ids.end = {static_cast<int64_t>(*end_id)};
    // A folder that is exported again keeps what it said itself.
    const fs::path source = fs::path(model.tokenizer_path).parent_path();
    FolderSettings own;
    if (fs::exists(source / "config.json")) {
        own = FolderSettings(source);
        if (const auto ids = token_ids_in(source / "config.json")) export_settings.token_ids = *ids;
        export_settings.generation_ids = token_ids_in(source / "generation_config.json");
    }
    for (const auto& [role, value] : own.roles.items()) {
        settings[role] = value;
        if (role != "chat_template") special[role] = value;
    }
    export_settings.write_others = [=, json = data::to_tokenizer_json(spec)] {
        write_file((folder / "tokenizer.json").string(), json);
        write_json_file((folder / "tokenizer_config.json").string(), settings);
        write_json_file((folder / "special_tokens_map.json").string(), special);
        if (!own.chat_template_file.empty())
            write_file((folder / "chat_template.jinja").string(), own.chat_template_file);
    };
}

void export_command(const ExportCommand& options) {
    Context context(Device::cpu, 0);
    const train::LoadedModel loaded = train::load_model(options.model, context, Dtype::f32);
    const model::ModelConfig& config = loaded.model->config();
    model::ExportOptions settings;
    settings.dtype = dtype_of_option(options.dtype);
    settings.hidden_act = options.hidden_act;
    settings.max_shard_bytes = static_cast<int64_t>(options.max_shard_gb * 1e9);
    if (fs::exists(fs::path(options.out) / "status.json") || fs::exists(fs::path(options.out) / "checkpoints"))
        throw UserError(fmt::format("{} is the folder of a run; give the export one of its own", options.out));
    model::hugging_face_config(config);  // refuses before anything is written
    if (!loaded.tokenizer_path.empty()) add_tokenizer(loaded, options.out, settings);
    model::write_hugging_face(options.out, context, config, loaded.model->weights(), settings);
    std::cout << fmt::format("{} -> {}\n", loaded.source, options.out);
}

}  // namespace

void add_export_command(Command app) {
    auto options = std::make_shared<ExportCommand>();
    Command command = app.add_subcommand("export", "Write a model as a Hugging Face folder");
    command.add_option("model", options->model, "run folder, checkpoint file or Hugging Face folder").required();
    command.add_option("dir", options->out, "folder to write").required();
    add_dtype_option(command, options->dtype, "type of the weights");
    command
        .add_option(
            "--hidden-act", options->hidden_act,
            "activation to write instead of the one the model was trained with (gelu: what Pythia's config.json says)")
        .one_of({"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"});
    command.add_option("--max-shard-gb", options->max_shard_gb, "largest weight file in GB")
        .in_range_of_reals(1e-6, 1e6)
        .capture_default_str();
    command.footer(
        "Example:\n  ballast export runs/160m pythia-160m-mine\n"
        "  python3 -c 'from transformers import AutoModelForCausalLM as M; M.from_pretrained(\"pythia-160m-mine\")'");
    command.callback([options] { export_command(*options); });
}

}  // namespace ballast
