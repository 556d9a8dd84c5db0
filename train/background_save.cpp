#include "train/background_save.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"

namespace ballast::train {
namespace {

using Clock = std::chrono::steady_clock;
using State = Optimizer::State;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

constexpr size_t kStates = 3;

}  // namespace

size_t Snapshot::bytes(const model::ParameterTable& table, Dtype compute_dtype, const Distribution& distribution) {
    if (!distribution.ranks().is_first()) return 0;
    return kStates * static_cast<size_t>(table.flat_size()) * size_of(accumulation_dtype(compute_dtype));
}

Snapshot::Snapshot(Context& context, const model::Weights& weights, const Optimizer& optimizer)
    : context_(context),
      weights_(weights),
      optimizer_(optimizer),
      memory_(context.device(), bytes(weights.table(), weights.compute_dtype(), optimizer.distribution())) {}

std::span<char> Snapshot::place(State state, const model::ParameterRow& row) const {
    const std::span<char> all = memory_.as<char>();
    if (all.empty()) return all;
    const size_t size = size_of(weights_.master_dtype());
    return all.subspan((static_cast<size_t>(state) * static_cast<size_t>(weights_.table().flat_size()) +
                        static_cast<size_t>(row.offset)) *
                           size,
                       static_cast<size_t>(row.count) * size);
}

std::span<const char> Snapshot::values(State state, const model::ParameterRow& row) const { return place(state, row); }

void Snapshot::take() {
    for (const auto& row : weights_.table().rows())
        for (const State state : {State::weights, State::first_moment, State::second_moment})
            optimizer_.gather(state, row, weights_, place(state, row));
    Communicator& ranks = optimizer_.distribution().ranks();
    std::exception_ptr failure;
    try {
        for (const auto& row : weights_.table().rows())
            if (ranks.is_first())
                require_finite(context_.pool(), values(State::weights, row), weights_.master_dtype(), row.name);
    } catch (...) {
        failure = std::current_exception();
    }
    const Span span(optimizer_.timeline(), Track::compute, {Activity::agree_on_saved});
    const bool failed = ranks.any(failure != nullptr);
    if (failure) std::rethrow_exception(failure);
    if (failed) throw RunError("rank 0 found weights that are not finite");
}

BackgroundSave::~BackgroundSave() {
    if (thread_.joinable()) thread_.join();
}

void BackgroundSave::start(const std::string& path, CheckpointInfo info, std::function<void()> before, After after) {
    require(!in_progress_, "a save begins while another is under way");
    const auto begin = Clock::now();
    snapshot_.take();
    if (!optimizer_.distribution().ranks().is_first()) return;
    ended_ = false;
    outcome_ = {info.step, path, 0, seconds_since(begin), nullptr, ""};
    in_progress_ = true;
    try {
        thread_ = std::thread([=, this] {
            leave_interrupts_to_main_thread();
            write(begin, info, before, after);
        });
    } catch (const std::system_error&) {  // the copy is taken: training waits for its file
        write(begin, info, before, after);
        outcome_.waited = outcome_.seconds;
    }
}

void BackgroundSave::write(Clock::time_point begin, const CheckpointInfo& info, const std::function<void()>& before,
                           const After& after) {
    Timeline* const timeline = optimizer_.timeline();
    const Span span(timeline, Track::saving, {Activity::write_checkpoint});
    try {
        before();
        write_checkpoint(outcome_.path, info, weights_.table(), weights_.master_dtype(),
                         [&](State state, const model::ParameterRow& row) {
                             if (timeline) timeline->places().move();
                             return snapshot_.values(state, row);
                         });
        outcome_.warning = after();
    } catch (...) {
        outcome_.failure = std::current_exception();
    }
    outcome_.seconds = seconds_since(begin);
    ended_.store(true, std::memory_order_release);
}

std::optional<SaveOutcome> BackgroundSave::poll() {
    if (!ended_.load(std::memory_order_acquire)) return std::nullopt;
    return wait();
}

std::optional<SaveOutcome> BackgroundSave::wait() {
    if (!in_progress_) return std::nullopt;
    const auto begin = Clock::now();
    if (thread_.joinable()) thread_.join();
    ended_ = in_progress_ = false;
    outcome_.waited += seconds_since(begin);
    return std::exchange(outcome_, {});
}

}  // namespace ballast::train
