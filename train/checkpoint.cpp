#include "train/checkpoint.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <exception>
#include <fmt/format.h>
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

/// By the bits, without a branch an element, so that it runs as fast as memory is read.
template <class Bits, Bits kExponent>
bool all_finite(const Bits* values, size_t count) {
    Bits bad = 0;
    for (size_t i = 0; i < count; ++i) bad |= static_cast<Bits>((values[i] & kExponent) == kExponent);
    return bad == 0;
}

template <class Bits, Bits kExponent>
bool all_finite(ThreadPool& pool, std::span<const char> bytes) {
    constexpr size_t kPiece = size_t{1} << 16;
    const std::span values(reinterpret_cast<const Bits*>(bytes.data()), bytes.size() / sizeof(Bits));
    std::atomic<bool> finite{true};
    pool.parallel_for(static_cast<int64_t>((values.size() + kPiece - 1) / kPiece), [&](int64_t i) {
        const auto piece = values.subspan(static_cast<size_t>(i) * kPiece);
        if (!all_finite<Bits, kExponent>(piece.data(), std::min(kPiece, piece.size()))) finite = false;
    });
    return finite;
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

constexpr const char *kSpikeLosses = "spikes/losses", *kSpikeNorms = "spikes/norms",
                     *kSkippedInARow = "spikes/skipped_in_a_row", *kRollbacks = "spikes/rollbacks",
                     *kFurthestSpike = "spikes/furthest";

void write_numbers(Hdf5Writer& file, const std::string& name, const std::vector<double>& values) {
    const auto count = static_cast<int64_t>(values.size());
    if (count > 0) file.write(name, Dtype::f64, {&count, 1}, values.data());
}
std::vector<double> read_numbers(const Hdf5Reader& file, const std::string& path, const std::string& name) {
    constexpr int64_t kMost = 1 << 20;
    if (!file.has(name)) return {};
    const Hdf5Dataset stored = file.dataset(name);
    if (stored.numel() > kMost)
        throw UserError(fmt::format("{}: its {} has {} numbers; the file is damaged", path, name, stored.numel()));
    std::vector<double> values(static_cast<size_t>(stored.numel()));
    file.read_all(name, Dtype::f64, stored.shape, values.data());
    return values;
}

void write_spikes(Hdf5Writer& file, const SpikeState& state) {
    write_numbers(file, kSpikeLosses, state.losses);
    write_numbers(file, kSpikeNorms, state.norms);
    write_number(file, kSkippedInARow, state.skipped_in_a_row);
    write_number(file, kRollbacks, state.rollbacks);
    write_number(file, kFurthestSpike, state.furthest_spike);
}

std::optional<SpikeState> read_spikes(const Hdf5Reader& file, const std::string& path) {
    if (!file.has(kRollbacks)) return std::nullopt;
    SpikeState state{read_numbers(file, path, kSpikeLosses), read_numbers(file, path, kSpikeNorms),
                     read_number<int64_t>(file, kSkippedInARow), read_number<int64_t>(file, kRollbacks),
                     read_number<int64_t>(file, kFurthestSpike)};
    const auto finite = [](const std::vector<double>& values) {
        return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
    };
    if (!(finite(state.losses) && finite(state.norms) && state.losses.size() == state.norms.size() &&
          state.skipped_in_a_row >= 0 && state.rollbacks >= 0 && state.furthest_spike >= 0))
        throw UserError(fmt::format("{}: what it knows of spikes is impossible; the file is damaged", path));
    return state;
}

void require_format(const Hdf5Reader& file, const std::string& path) {
    if (!file.has_attribute("format") || file.string_attribute("format") != kFormat)
        throw UserError(fmt::format("{} is not a Ballast checkpoint (no attribute format = {})", path, kFormat));
}

}  // namespace

namespace {

/// What a checkpoint has of a parameter, in the file's order.
std::array<std::pair<Optimizer::State, std::string>, 3> states_of(const model::ParameterRow& row) {
    using enum Optimizer::State;
    return {{{weights, "model/" + row.name},
             {first_moment, moment_name("m", row.name)},
             {second_moment, moment_name("v", row.name)}}};
}

void write_info(Hdf5Writer& file, const CheckpointInfo& info) {
    file.set_attribute("format", std::string(kFormat));
    file.set_attribute("ballast_version", std::string(build_info().version));
    file.set_attribute("step", info.step);
    file.set_attribute("steps_skipped", info.steps_skipped);
    file.set_attribute("samples", info.data_order.samples_after(info.step));
    file.set_attribute("tokens", info.data_order.tokens_after(info.step));
    if (info.lanes) file.set_attribute("lanes", *info.lanes);
    file.set_attribute("tokenizer_hash", info.tokenizer_hash);
    write_text(file, "config", to_toml(info.config));
    write_text(file, kDataOrder, info.data_order.to_json());
    if (info.loss_scaler) write_loss_scaler(file, *info.loss_scaler);
    if (info.spikes) write_spikes(file, *info.spikes);
}

/// What rank 0 does while the others hand over their parts. After a failure it goes on receiving, so that they are not
/// left waiting.
class FirstRank {
  public:
    explicit FirstRank(const Optimizer& optimizer)
        : ranks_(optimizer.distribution().ranks()), timeline_(optimizer.timeline()) {}
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
        const Span span(timeline_, Track::compute, {Activity::agree_on_saved});
        const bool failed = ranks_.any(failure_ != nullptr);
        if (failure_) std::rethrow_exception(failure_);
        if (failed) throw UserError("rank 0 could not save");
    }

  private:
    Communicator& ranks_;
    Timeline* timeline_;
    std::exception_ptr failure_;
};

}  // namespace

RunConfig as_saved(RunConfig config) {
    const TrainConfig usual;
    config.train.threads = usual.threads;
    config.train.zero = usual.zero;
    config.train.overlap = usual.overlap;
    config.train.cuda_graph = usual.cuda_graph;
    config.train.log_every = usual.log_every;
    config.train.reduce_bucket_size = usual.reduce_bucket_size;
    config.train.hang_timeout_seconds = usual.hang_timeout_seconds;
    config.checkpoint.background = true;
    return config;
}

void save_checkpoint(const std::string& path, const CheckpointInfo& info, const model::Weights& weights,
                     const Optimizer& optimizer) {
    FirstRank first(optimizer);
    std::optional<Hdf5Writer> file;
    first.run([&] {
        file.emplace(path);
        write_info(*file, info);
    });
    const Dtype dtype = weights.master_dtype();
    std::vector<char> values;
    for (const auto& row : weights.table().rows()) {
        if (optimizer.distribution().ranks().is_first()) values.resize(static_cast<size_t>(row.count) * size_of(dtype));
        for (const auto& [state, name] : states_of(row)) {
            optimizer.gather(state, row, weights, values);
            first.run([&, state = state, &name = name] {
                if (state == Optimizer::State::weights)
                    require_finite(optimizer.context().pool(), values, dtype, row.name);
                file->write(name, dtype, row.shape, values.data());
            });
        }
    }
    first.run([&] { file->commit(); });
    first.finish();
}

void write_checkpoint(const std::string& path, const CheckpointInfo& info, const model::ParameterTable& table,
                      Dtype dtype, const StateValues& values) {
    Hdf5Writer file(path);
    write_info(file, info);
    for (const auto& row : table.rows())
        for (const auto& [state, name] : states_of(row)) file.write(name, dtype, row.shape, values(state, row).data());
    file.commit();
}

void require_finite(ThreadPool& pool, std::span<const char> values, Dtype dtype, const std::string& parameter) {
    const bool finite = dtype == Dtype::f64 ? all_finite<uint64_t, 0x7ff0'0000'0000'0000>(pool, values)
                                            : all_finite<uint32_t, 0x7f80'0000>(pool, values);
    if (!finite) throw RunError(fmt::format("the weights of {} are not finite", parameter));
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
    if (file.has_attribute("lanes")) info.lanes = file.integer_attribute("lanes");
    info.tokenizer_hash = file.string_attribute("tokenizer_hash");
    load_toml_text(info.config, read_text(file, path, "config"), path + ":config");
    if (file.has(kDataOrder))
        info.data_order = DataOrder::parse(read_text(file, path, kDataOrder), fmt::format("{}:{}", path, kDataOrder));
    info.loss_scaler = read_loss_scaler(file, path);
    info.spikes = read_spikes(file, path);
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
