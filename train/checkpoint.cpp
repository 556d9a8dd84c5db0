#include "train/checkpoint.h"

#include <cmath>
#include <fmt/format.h>

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

/// A dataset of one number.
template <class T>
void write_number(Hdf5Writer& file, const std::string& name, T value) {
    file.write(name, DtypeOf<T>::value, {}, &value);
}
template <class T>
T read_number(const Hdf5Reader& file, const std::string& name) {
    T value;
    file.read_all(name, DtypeOf<T>::value, {}, &value);
    return value;
}

constexpr const char *kScale = "loss_scaler/scale", *kHysteresis = "loss_scaler/hysteresis",
                     *kGoodUpdates = "loss_scaler/good_updates";

void write_loss_scaler(Hdf5Writer& file, const LossScalerState& state) {
    write_number(file, kScale, state.scale);
    write_number(file, kHysteresis, state.hysteresis);
    write_number(file, kGoodUpdates, state.good_updates);
}

std::optional<LossScalerState> read_loss_scaler(const Hdf5Reader& file, const std::string& path) {
    if (!file.has(kScale)) return std::nullopt;
    const LossScalerState state{read_number<double>(file, kScale), read_number<int64_t>(file, kHysteresis),
                                read_number<int64_t>(file, kGoodUpdates)};
    if (!(state.scale > 0 && std::isfinite(state.scale) && state.hysteresis >= 1 && state.good_updates >= 0))
        throw UserError(fmt::format("{}: its loss scaler ({}, {}, {}) is impossible; the file is damaged", path,
                                    state.scale, state.hysteresis, state.good_updates));
    return state;
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
    file.set_attribute("steps_skipped", info.steps_skipped);
    file.set_attribute("tokens", info.tokens);
    file.set_attribute("tokenizer_hash", info.tokenizer_hash);
    const std::string toml = to_toml(info.config);
    const int64_t length = static_cast<int64_t>(toml.size());
    file.write("config", Dtype::u8, {&length, 1}, toml.data());
    if (info.loss_scaler) write_loss_scaler(file, *info.loss_scaler);
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
    if (file.has_attribute("steps_skipped")) info.steps_skipped = file.integer_attribute("steps_skipped");
    if (info.steps_skipped < 0 || info.steps_skipped > info.step)
        throw UserError(fmt::format("{}: {} of its {} steps were skipped, it says; the file is damaged", path,
                                    info.steps_skipped, info.step));
    info.tokens = file.integer_attribute("tokens");
    info.tokenizer_hash = file.string_attribute("tokenizer_hash");
    const Hdf5Dataset stored = file.dataset("config");
    constexpr int64_t kLargestConfig = 1 << 20;
    if (stored.numel() > kLargestConfig)
        throw UserError(fmt::format("{}: its config is {} bytes long; the file is damaged", path, stored.numel()));
    std::string toml(static_cast<size_t>(stored.numel()), '\0');
    file.read_all("config", Dtype::u8, stored.shape, toml.data());
    load_toml_text(info.config, toml, path + ":config");
    info.loss_scaler = read_loss_scaler(file, path);
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
