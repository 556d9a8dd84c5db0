#include "train/data_order.h"

#include <algorithm>
#include <limits>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/index_triplet.h"

namespace ballast::train {
namespace {

using nlohmann::ordered_json;

uint32_t seed_of(const RunConfig& config) { return static_cast<uint32_t>(config.train.data_seed); }

std::string_view name_of(data::FirstToken first_token) {
    return data::kFirstTokenNames[static_cast<size_t>(first_token)];
}
std::string_view name_of(data::OrderKind kind) { return data::kOrderNames[static_cast<size_t>(kind)]; }

/// The order in which `samples` of the store are to be read.
data::SampleOrder order_of(const RunConfig& config, const data::TokenStore& store, int64_t samples) {
    return data::make_sample_order(store, {.kind = config.data.order,
                                           .seq_length = config.train.sequence_length,
                                           .seed = seed_of(config),
                                           .samples = samples,
                                           .first_token = config.data.first_token,
                                           .index = config.data.index});
}

/// One of `names`; the first where a run was made before there was a choice.
template <class Enum, size_t N>
Enum choice_from(const ordered_json& json, const char* key, const std::array<std::string_view, N>& names) {
    const auto found = std::find(names.begin(), names.end(), json.value(key, std::string(names.front())));
    if (found == names.end()) throw UserError(fmt::format("an unknown {}", key));
    return static_cast<Enum>(found - names.begin());
}

/// Samples that are left to read after `step`.
int64_t samples_left(const RunConfig& config, int64_t step) {
    return data::count_samples(config.train.steps - step, config.train.global_batch, config.train.sequence_length);
}

/// Why `now` cannot go on in the order of `was` at `next_sample`; empty when it can.
std::vector<std::string> reasons_for_another(const DataStretch& was, int64_t next_sample, int64_t left,
                                             const RunConfig& now, const data::TokenStore& store) {
    std::vector<std::string> reasons;
    if (!store.has_fingerprint(was.corpus))
        reasons.push_back(
            fmt::format("{} holds another text ({}; it was {})", store.path(), store.fingerprint(), was.corpus));
    if (was.order.seq_length != now.train.sequence_length)
        reasons.push_back(
            fmt::format("train.sequence_length was {} and is {}", was.order.seq_length, now.train.sequence_length));
    if (was.order.first_token != now.data.first_token)
        reasons.push_back(fmt::format("data.first_token was {} and is {}", name_of(was.order.first_token),
                                      name_of(now.data.first_token)));
    if (was.order.kind != now.data.order)
        reasons.push_back(fmt::format("data.order was {} and is {}", name_of(was.order.kind), name_of(now.data.order)));
    else if (data::has_seed(was.order.kind) && was.order.seed != seed_of(now))
        reasons.push_back(fmt::format("train.data_seed was {} and is {}", was.order.seed, now.train.data_seed));
    if (!reasons.empty()) return reasons;
    data::SampleOrder order = was.order;
    if (order.kind == data::OrderKind::npy) {
        order.index = now.data.index;  // the files may have moved
        if (const std::string is = data::IndexTriplet(order.index).fingerprint(); is != order.index_fingerprint)
            return {fmt::format("{} holds another order ({}; it was {})", order.index, is, order.index_fingerprint)};
    }
    if (const int64_t size = data::Sampler::size(store, order); left > size - next_sample)
        reasons.push_back(
            fmt::format("of its {} samples {} are left, and train.steps and train.global_batch ask for {}", size,
                        size - next_sample, left));
    return reasons;
}

int64_t number(const ordered_json& json, const char* name, int64_t least, int64_t most) {
    const auto value = json.at(name).get<int64_t>();
    if (value < least || value > most) throw UserError(fmt::format("{} = {}", name, value));
    return value;
}

constexpr int64_t kMostSamples = 1000000000000000000, kMostInABatch = 1 << 30;  // as a configuration's

DataStretch stretch_from(const ordered_json& json) {
    DataStretch out;
    out.first_step = number(json, "first_step", 1, kMostSamples);
    out.first_sample = number(json, "first_sample", 0, kMostSamples);
    out.global_batch = number(json, "global_batch", 1, kMostInABatch);
    out.order.seq_length = number(json, "sequence_length", 1, kMostInABatch);
    out.order.seed = static_cast<uint32_t>(number(json, "data_seed", 0, std::numeric_limits<uint32_t>::max()));
    out.order.num_epochs = number(json, "epochs", 1, std::numeric_limits<int32_t>::max());
    out.order.first_token = choice_from<data::FirstToken>(json, "first_token", data::kFirstTokenNames);
    out.order.kind = choice_from<data::OrderKind>(json, "order", data::kOrderNames);
    out.order.last_epoch_apart = json.value("last_epoch_apart", false);
    out.order.index = json.value("index", std::string());
    out.order.index_fingerprint = json.value("index_fingerprint", std::string());
    out.corpus = json.at("corpus").get<std::string>();
    return out;
}

}  // namespace

DataOrder::DataOrder(const RunConfig& config, const data::TokenStore& store) {
    const data::SampleOrder order = order_of(config, store, samples_left(config, 0));
    stretches_.push_back({1, 0, config.train.global_batch, order, store.fingerprint()});
}

DataOrder DataOrder::parse(std::string_view json, const std::string& source) {
    DataOrder out;
    try {
        const ordered_json root = ordered_json::parse(json);
        for (const ordered_json& stretch : root.at("stretches")) {
            out.stretches_.push_back(stretch_from(stretch));
            const int64_t first = out.stretches_.back().first_step;
            const size_t n = out.stretches_.size();
            if (n == 1 ? first != 1 : first <= out.stretches_[n - 2].first_step)
                throw UserError(fmt::format("first_step = {}", first));
        }
        if (out.stretches_.empty()) throw UserError("no stretches");
    } catch (const std::exception& error) {
        throw UserError(fmt::format("{}: not a data order ({}); the file is damaged", source, error.what()));
    }
    return out;
}

std::string DataOrder::to_json() const {
    ordered_json rows = ordered_json::array();
    for (const DataStretch& s : stretches_) {
        rows.push_back({{"first_step", s.first_step},
                        {"first_sample", s.first_sample},
                        {"global_batch", s.global_batch},
                        {"sequence_length", s.order.seq_length},
                        {"data_seed", s.order.seed},
                        {"epochs", s.order.num_epochs},
                        {"first_token", name_of(s.order.first_token)},
                        {"order", name_of(s.order.kind)},
                        {"corpus", s.corpus}});
        if (s.order.kind == data::OrderKind::mcore) rows.back()["last_epoch_apart"] = s.order.last_epoch_apart;
        if (s.order.kind == data::OrderKind::npy) {
            rows.back()["index"] = s.order.index;
            rows.back()["index_fingerprint"] = s.order.index_fingerprint;
        }
    }
    return ordered_json{{"stretches", rows}}.dump(2) + "\n";
}

std::string DataOrder::identity() const {
    DataOrder order = *this;
    for (DataStretch& stretch : order.stretches_) stretch.order.index.clear();
    return order.to_json();
}

void DataOrder::resume(int64_t step, const RunConfig& config, const data::TokenStore& store, bool allow_change) {
    if (step == 0) {
        *this = DataOrder(config, store);
        return;
    }
    const DataStretch was = last_stretch();
    const int64_t next = first_sample(step + 1), left = samples_left(config, step);
    const std::vector<std::string> reasons = reasons_for_another(was, next, left, config, store);
    if (!reasons.empty() && !allow_change)
        throw UserError(
            fmt::format("this run cannot go on in its order of samples: {}; undo that, or pass --allow-data-change to "
                        "begin another "
                        "order, in which samples that were read come again",
                        fmt::join(reasons, "; ")));
    if (reasons.empty()) stretches_.back().corpus = store.fingerprint();  // an older version's said less
    if (reasons.empty() && was.order.kind == data::OrderKind::npy) stretches_.back().order.index = config.data.index;
    if (left == 0 || (reasons.empty() && config.train.global_batch == was.global_batch)) return;
    DataStretch now{step + 1, next, config.train.global_batch, last_stretch().order, last_stretch().corpus};
    if (!reasons.empty()) {
        now.first_sample = 0;
        now.order = order_of(config, store, left);
        now.corpus = store.fingerprint();
    }
    if (was.first_step == now.first_step) stretches_.pop_back();  // not a step was taken in it
    stretches_.push_back(std::move(now));
}

bool DataOrder::skip(int64_t step, int64_t last_read, int64_t last_step, const data::TokenStore& store) {
    DataStretch next = stretch_at(last_read);
    next.first_sample = first_sample(last_read) + next.global_batch;
    next.first_step = step + 1;
    if ((last_step - step) * next.global_batch > data::Sampler::size(store, next.order) - next.first_sample)
        return false;
    std::erase_if(stretches_, [&](const DataStretch& stretch) { return stretch.first_step > step; });
    stretches_.push_back(next);
    return true;
}

const DataStretch& DataOrder::stretch_at(int64_t step) const {
    require(step >= 1 && !stretches_.empty(), "steps count from 1");
    const auto after = std::upper_bound(stretches_.begin(), stretches_.end(), step,
                                        [](int64_t s, const DataStretch& stretch) { return s < stretch.first_step; });
    return *std::prev(after);
}

int64_t DataOrder::first_sample(int64_t step) const {
    const DataStretch& stretch = stretch_at(step);
    return stretch.first_sample + (step - stretch.first_step) * stretch.global_batch;
}

int64_t DataOrder::total_after(int64_t step, bool tokens) const {
    int64_t total = 0;
    for (size_t i = 0; i < stretches_.size(); ++i) {
        const DataStretch& stretch = stretches_[i];
        const int64_t end = i + 1 < stretches_.size() ? std::min(step, stretches_[i + 1].first_step - 1) : step;
        const int64_t steps = std::max<int64_t>(0, end - stretch.first_step + 1);
        int64_t read = 0;  // a damaged file may say any number: then as much as can be said
        if (__builtin_mul_overflow(steps, stretch.global_batch * (tokens ? stretch.order.seq_length : 1), &read) ||
            __builtin_add_overflow(total, read, &total))
            return std::numeric_limits<int64_t>::max();
    }
    return total;
}

}  // namespace ballast::train
