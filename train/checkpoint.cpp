#include "train/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <exception>
#include <span>

#include "base/build_info.h"
#include "base/config_toml.h"
#include "base/hdf5_file.h"

namespace ballast::train {
namespace {

constexpr const char* kDataOrder = "data_order";
constexpr const char* kFormat = "ballast-checkpoint-1";
constexpr int64_t kLastLogSpacedStep = 512;

bool log_spaced(int64_t step) { return step == 0 || (step <= kLastLogSpacedStep && (step & (step - 1)) == 0); }

bool multiple_of(int64_t step, int64_t every) { return step > 0 && every > 0 && step % every == 0; }

std::string moment_name(const char* which, const std::string& parameter) {
    return fmt::format("optimizer/{}/{}", which, parameter);
}

template <class T>
bool all_finite(const std::vector<char>& bytes) {
    const std::span values(reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T));
    return std::all_of(values.begin(), values.end(), [](T value) { return std::isfinite(value); });
}

void require_finite(const std::vector<char>& values, Dtype dtype, const std::string& name) {
    if (!(dtype == Dtype::f64 ? all_finite<double>(values) : all_finite<float>(values)))
        throw RunError(fmt::format("the weights of {} are not finite", name));
}

void write_text(Hdf5Writer& file, const std::string& name, const std::string& text) {
    const auto length = static_cast<int64_t>(text.size());
    file.write(name, Dtype::u8, {&length, 1}, text.data());
}

std::string read_text(const Hdf5Reader& file, const std::string& path, const std::string& name) {
    constexpr int64_t kLongest = 1 << 20;
    const Hdf5Dataset stored = file.dataset(name);
    if (stored.numel() > kLongest)
        throw UserError(fmt::format("{}: its {} is {} bytes long; the file is damaged", path, name, stored.numel()));
    std::string text(static_cast<size_t>(stored.numel()), '\0');
    file.read_all(name, Dtype::u8, stored.shape, text.data());
    return text;
}

void read_tensor(const Hdf5Reader& file, const std::string& name, const model::ParameterRow& row,
                 const Context& context, const Tensor& tensor) {
    std::vector<char> host(tensor.bytes());
    file.read_all(name, tensor.dtype, row.shape, host.data());
    context.copy_from_host(tensor, host.data());
}

void read_weights(const Hdf5Reader& file, const model::ParameterRow& row, const Context& context,
                  model::Weights& weights) {
    const std::string name = "model/" + row.name;
    if (weights.has_master()) return read_tensor(file, name, row, context, weights.master(row));
    std::vector<float> values(static_cast<size_t>(row.count));
    file.read_all(name, Dtype::f32, row.shape, values.data());
    weights.write(context, row, values.data());
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

namespace {

void write_info(Hdf5Writer& file, const CheckpointInfo& info) {
    file.set_attribute("format", std::string(kFormat));
    file.set_attribute("ballast_version", std::string(build_info().version));
    file.set_attribute("step", info.step);
    file.set_attribute("steps_skipped", info.steps_skipped);
    file.set_attribute("samples", info.data_order.samples_after(info.step));
    file.set_attribute("tokens", info.data_order.tokens_after(info.step));
    file.set_attribute("tokenizer_hash", info.tokenizer_hash);
    write_text(file, "config", to_toml(info.config));
    write_text(file, kDataOrder, info.data_order.to_json());
    if (info.loss_scaler) write_loss_scaler(file, *info.loss_scaler);
}

/// What rank 0 does while the others hand over their parts. After a failure it goes on receiving, so that they are not
/// left waiting.
class FirstRank {
  public:
    explicit FirstRank(Communicator& ranks) : ranks_(ranks) {}
    template <class Part>
    void run(Part&& part) {
        if (!ranks_.is_first() || failure_) return;
        try {
            part();
        } catch (...) {
            failure_ = std::current_exception();
        }
    }
    /// Throws on every rank when a part failed.
    void finish() {
        const bool failed = ranks_.any(failure_ != nullptr);
        if (failure_) std::rethrow_exception(failure_);
        if (failed) throw UserError("rank 0 could not save");
    }

  private:
    Communicator& ranks_;
    std::exception_ptr failure_;
};

}  // namespace

void save_checkpoint(const std::string& path, const CheckpointInfo& info, const model::Weights& weights,
                     const Optimizer& optimizer) {
    FirstRank first(optimizer.distribution().ranks());
    std::optional<Hdf5Writer> file;
    first.run([&] {
        file.emplace(path);
        write_info(*file, info);
    });
    const Dtype dtype = weights.master_dtype();
    using State = Optimizer::State;
    for (const auto& row : weights.table().rows())
        for (const auto& [state, name] : {std::pair{State::weights, "model/" + row.name},
                                          {State::first_moment, moment_name("m", row.name)},
                                          {State::second_moment, moment_name("v", row.name)}}) {
            const std::vector<char> values = optimizer.gather(state, row, weights);
            first.run([&, state = state, name = name] {
                if (state == State::weights) require_finite(values, dtype, row.name);
                file->write(name, dtype, row.shape, values.data());
            });
        }
    first.run([&] { file->commit(); });
    first.finish();
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
    info.tokenizer_hash = file.string_attribute("tokenizer_hash");
    load_toml_text(info.config, read_text(file, path, "config"), path + ":config");
    if (file.has(kDataOrder))
        info.data_order = DataOrder::parse(read_text(file, path, kDataOrder), fmt::format("{}:{}", path, kDataOrder));
    info.loss_scaler = read_loss_scaler(file, path);
    return info;
}

void load_checkpoint(const std::string& path, Context& context, model::Weights& weights, Optimizer* optimizer) {
    const Hdf5Reader file(path);
    require_format(file, path);
    for (const auto& row : weights.table().rows()) {
        read_weights(file, row, context, weights);
        if (optimizer == nullptr) continue;
        const Dtype dtype = weights.master_dtype();
        std::vector<char> values(static_cast<size_t>(row.count) * size_of(dtype));
        for (const auto& [state, which] :
             {std::pair{Optimizer::State::first_moment, "m"}, {Optimizer::State::second_moment, "v"}}) {
            file.read_all(moment_name(which, row.name), dtype, row.shape, values.data());
            optimizer->load(state, row, values);
        }
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
