#include "train/load_model.h"

#include <filesystem>
#include <fmt/format.h>

#include "base/log.h"
#include "base/progress.h"
#include "kernels/backend.h"
#include "model/bert.h"
#include "model/hugging_face.h"
#include "train/checkpoint.h"
#include "train/memory_plan.h"
#include "train/run_directory.h"

namespace ballast::train {
namespace {

namespace fs = std::filesystem;

std::string if_exists(const fs::path& path) { return fs::exists(path) ? path.string() : std::string(); }

/// Says what the weights take, before they are read; UserError when that is more than there is.
void require_room_for_weights(const ModelSource& source, const Context& context, Dtype dtype, Dtype matrices) {
    const model::ParameterTable table(source.config);
    const size_t bytes = model::Weights::bytes(table, dtype, model::WeightUse::inference, matrices),
                 available = context.available_memory();
    const std::string kind = matrices == dtype ? std::string(name_of(dtype))
                                               : fmt::format("{}, matrices in {}", name_of(dtype), name_of(matrices));
    if (bytes > available)
        throw UserError(fmt::format("{}: its weights take {} in {}, and {} are available{}", source.source,
                                    format_bytes(bytes), kind, format_bytes(available),
                                    matrices == Dtype::f32 ? "; --dtype bf16 takes half" : ""));
    constexpr size_t kWorthSaying = size_t{64} << 20;  // smaller ones are there before the line is read
    if (bytes < kWorthSaying) return;
    log_info(fmt::format("{}: {} parameters, {} of weights in {}", source.source,
                         format_count(static_cast<double>(table.num_parameters())), format_bytes(bytes), kind));
}

/// Vicuna's folders have SentencePiece's file alone.
std::string tokenizer_in(const fs::path& folder) {
    const std::string json = if_exists(folder / "tokenizer.json");
    return json.empty() ? if_exists(folder / "tokenizer.model") : json;
}

ModelSource checkpoint_source(const std::string& path, const fs::path& run) {
    const CheckpointInfo info = read_checkpoint_info(path);
    info.config.model.validate();
    return {info.config.model,   path,      if_exists(run / "tokenizer.json"),
            info.tokenizer_hash, info.step, info.config.data.first_token};
}

}  // namespace

ModelSource find_model(const std::string& path) {
    if (!fs::exists(path))
        throw UserError(fmt::format("no model at {}; give a run folder, a checkpoint or a Hugging Face folder", path));
    if (!fs::is_directory(path)) return checkpoint_source(path, fs::path(path).parent_path().parent_path());
    if (fs::exists(fs::path(path) / "config.json"))
        return {.config = model::read_hugging_face_config(path),
                .source = path,
                .tokenizer_path = tokenizer_in(path),
                .tokenizer_hash = ""};
    const RunDirectory run(path);
    if (const auto step = run.newest_valid_checkpoint([](const std::string& text) { log_warning(text); }))
        return checkpoint_source(run.checkpoint_path(*step), path);
    throw UserError(fmt::format(
        "{} holds no model: neither checkpoints/step_*.h5 of a run nor the config.json of a Hugging Face folder",
        path));
}

ModelSource encoder_source(const std::string& folder) {
    ModelSource out{.config = {}, .source = folder, .tokenizer_path = tokenizer_in(folder), .tokenizer_hash = ""};
    out.config.vocab_size = model::read_bert_config(folder).vocab_size;  // what its tokenizer is held to
    return out;
}

LoadedModel load_model(const std::string& path, Context& context, Dtype dtype, std::optional<Dtype> matrices) {
    const Dtype narrow = matrices.value_or(dtype);
    if (narrow != dtype && narrow != Dtype::i8 && !(narrow == Dtype::bf16 && dtype == Dtype::f32))
        throw UserError(fmt::format(
            "weights in {} do not go with computing in {}; --weights takes int8, same or, with --dtype f32, bf16",
            name_of(narrow), name_of(dtype)));
    LoadedModel out{find_model(path), nullptr};
    require_room_for_weights(out, context, computable_on(context.device(), dtype), narrow);
    out.model = std::make_unique<model::Transformer>(context, out.config, dtype, model::WeightUse::inference, narrow);
    if (fs::is_directory(out.source))
        model::read_hugging_face_weights(out.source, context, out.model->weights());
    else
        load_checkpoint(out.source, context, out.model->weights(), nullptr);
    return out;
}

}  // namespace ballast::train
