#include "train/checkpoint.h"

#include <fmt/format.h>
#include <unordered_set>

#include "base/build_info.h"
#include "base/config_toml.h"
#include "base/hdf5_file.h"

namespace ballast::train {
namespace {

constexpr const char* kFormat = "ballast-checkpoint-1";
constexpr int64_t kLastLogSpacedStep = 512;

bool log_spaced(int64_t step) { return step == 0 || (step <= kLastLogSpacedStep && (step & (step - 1)) == 0); }

bool multiple_of(int64_t step, int64_t every) { return step > 0 && every > 0 && step % every == 0; }

struct Part {
    std::string prefix;
    const model::FlatArray* array;
};

std::string moment_name(const char* which, const std::string& parameter) {
    return fmt::format("optimizer/{}/{}", which, parameter);
}

void write_tensor(Hdf5Writer& file, const std::string& name, const model::ParameterRow& row, const Context& context,
                  const Tensor& tensor) {
    std::vector<char> host(tensor.bytes());
    context.copy_to_host(host.data(), tensor);
    file.write(name, tensor.dtype, row.shape, host.data());
}

void read_tensor(const Hdf5Reader& file, const std::string& name, const model::ParameterRow& row,
                 const Context& context, const Tensor& tensor) {
    std::vector<char> host(tensor.bytes());
    file.read_all(name, tensor.dtype, row.shape, host.data());
    context.copy_from_host(tensor, host.data());
}

void require_format(const Hdf5Reader& file, const std::string& path) {
    if (!file.has_attribute("format") || file.string_attribute("format") != kFormat)
        throw UserError(fmt::format("{} is not a Ballast checkpoint (no attribute format = {})", path, kFormat));
}

}  // namespace

void save_checkpoint(const std::string& path, const CheckpointInfo& info, const Context& context,
                     const model::Weights& weights, const Optimizer& optimizer) {
    Hdf5Writer file(path);
    file.set_attribute("format", std::string(kFormat));
    file.set_attribute("ballast_version", std::string(build_info().version));
    file.set_attribute("step", info.step);
    file.set_attribute("tokens", info.tokens);
    file.set_attribute("tokenizer_hash", info.tokenizer_hash);
    const std::string toml = to_toml(info.config);
    const int64_t length = static_cast<int64_t>(toml.size());
    file.write("config", Dtype::u8, {&length, 1}, toml.data());
    for (const auto& row : weights.table().rows()) {
        write_tensor(file, "model/" + row.name, row, context, weights.master(row));
        write_tensor(file, moment_name("m", row.name), row, context, optimizer.first_moments().of(row));
        write_tensor(file, moment_name("v", row.name), row, context, optimizer.second_moments().of(row));
    }
    file.commit();
}

CheckpointInfo read_checkpoint_info(const std::string& path) {
    const Hdf5Reader file(path);
    require_format(file, path);
    CheckpointInfo info;
    info.step = file.integer_attribute("step");
    info.tokens = file.integer_attribute("tokens");
    info.tokenizer_hash = file.string_attribute("tokenizer_hash");
    const Hdf5Dataset stored = file.dataset("config");
    constexpr int64_t kLargestConfig = 1 << 20;
    if (stored.numel() > kLargestConfig)
        throw UserError(fmt::format("{}: its config is {} bytes long; the file is damaged", path, stored.numel()));
    std::string toml(static_cast<size_t>(stored.numel()), '\0');
    file.read_all("config", Dtype::u8, stored.shape, toml.data());
    load_toml_text(info.config, toml, path + ":config");
    return info;
}

void load_checkpoint(const std::string& path, Context& context, model::Weights& weights, Optimizer* optimizer) {
    const Hdf5Reader file(path);
    require_format(file, path);
    for (const auto& row : weights.table().rows()) {
        read_tensor(file, "model/" + row.name, row, context, weights.master(row));
        if (optimizer == nullptr) continue;
        read_tensor(file, moment_name("m", row.name), row, context, optimizer->first_moments().of(row));
        read_tensor(file, moment_name("v", row.name), row, context, optimizer->second_moments().of(row));
    }
    weights.refresh_compute(context);
}

void verify_checkpoint(const std::string& path) {
    const Hdf5Reader file(path);
    require_format(file, path);
    for (const auto& name : file.names()) file.verify(name);
}

bool checkpoint_due(const CheckpointConfig& config, int64_t step, int64_t last_step) {
    return step == last_step || (config.log_spaced && log_spaced(step)) || multiple_of(step, config.every);
}

bool checkpoint_protected(const CheckpointConfig& config, int64_t step) {
    return (config.log_spaced && log_spaced(step)) || multiple_of(step, config.protect_every);
}

std::vector<int64_t> checkpoints_to_remove(const CheckpointConfig& config, const std::vector<int64_t>& steps) {
    if (config.keep_last == 0) return {};
    std::vector<int64_t> unprotected;
    for (int64_t step : steps)
        if (!checkpoint_protected(config, step)) unprotected.push_back(step);
    const auto kept = std::min(unprotected.size(), static_cast<size_t>(config.keep_last));
    unprotected.resize(unprotected.size() - kept);
    return unprotected;
}

}  // namespace ballast::train
