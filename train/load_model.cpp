#include "train/load_model.h"

#include <filesystem>
#include <fmt/format.h>

#include "base/log.h"
#include "model/hugging_face.h"
#include "train/checkpoint.h"
#include "train/run_directory.h"

namespace ballast::train {
namespace {

namespace fs = std::filesystem;

std::string if_exists(const fs::path& path) { return fs::exists(path) ? path.string() : std::string(); }

LoadedModel load_checkpoint_file(const std::string& path, const fs::path& run, Context& context, Dtype dtype) {
    LoadedModel out;
    CheckpointInfo info = read_checkpoint_info(path);
    info.config.model.validate();
    out.model = std::make_unique<model::Transformer>(context, info.config.model, dtype);
    load_checkpoint(path, context, out.model->weights(), nullptr);
    out.source = path;
    out.step = info.step;
    out.tokenizer_path = if_exists(run / "tokenizer.json");
    out.tokenizer_hash = info.tokenizer_hash;
    return out;
}

LoadedModel load_hugging_face(const std::string& folder, Context& context, Dtype dtype) {
    LoadedModel out;
    out.model = std::make_unique<model::Transformer>(context, model::read_hugging_face_config(folder), dtype);
    model::read_hugging_face_weights(folder, context, out.model->weights());
    out.source = folder;
    out.tokenizer_path = if_exists(fs::path(folder) / "tokenizer.json");
    return out;
}

}  // namespace

LoadedModel load_model(const std::string& path, Context& context, Dtype dtype) {
    if (!fs::exists(path))
        throw UserError(fmt::format("no model at {}; give a run folder, a checkpoint or a Hugging Face folder", path));
    if (!fs::is_directory(path))
        return load_checkpoint_file(path, fs::path(path).parent_path().parent_path(), context, dtype);
    if (fs::exists(fs::path(path) / "config.json")) return load_hugging_face(path, context, dtype);
    const RunDirectory run(path);
    if (const auto step = run.newest_valid_checkpoint([](const std::string& text) { log_warning(text); }))
        return load_checkpoint_file(run.checkpoint_path(*step), path, context, dtype);
    throw UserError(fmt::format(
        "{} holds no model: neither checkpoints/step_*.h5 of a run nor the config.json of a Hugging Face folder",
        path));
}

}  // namespace ballast::train
