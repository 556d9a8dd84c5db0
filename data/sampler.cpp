#include "data/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/cpu_features.h"
#include "base/error.h"
#include "data/index_triplet.h"
#include "data/keyed_permutation.h"
#include "data/shuffled_windows.h"

namespace ballast::data {
namespace {

constexpr int64_t kMostSamples = 1000000000000000000;  // as a run can count

class PreshuffledSamples : public SampleSource {
  public:
    PreshuffledSamples(const TokenStore& store, const SampleOrder& order) : store_(store), order_(order) {}

    void sample(int64_t index, int32_t* out, int32_t* document_starts) const override {
        const int64_t count = order_.seq_length + 1;
        store_.read(index * count, count, out);
        if (document_starts != nullptr) std::fill_n(document_starts, count, 0);
        if (order_.first_token == FirstToken::every_window)
            out[0] = static_cast<int32_t>(store_.info().begin_of_text_id);
    }

  private:
    const TokenStore& store_;
    const SampleOrder& order_;
};

/// Sample i is of epoch i / windows, and there the window that a permutation keyed by (seed, epoch) gives.
class StableWindows : public SampleSource {
  public:
    StableWindows(const TokenStore& store, const SampleOrder& order)
        : documents_(store, order.first_token), order_(order), windows_(documents_.num_windows(order.seq_length)) {}

    void sample(int64_t index, int32_t* out, int32_t* document_starts) const override {
        const KeyedPermutation permutation(order_.seed, fmt::format("windows of epoch {}", index / windows_), windows_);
        const int64_t window = permutation(index % windows_);
        documents_.read_text(window * order_.seq_length, order_.seq_length + 1, out, document_starts);
    }

  private:
    Documents documents_;
    const SampleOrder& order_;
    int64_t windows_;
};

std::string gibibytes(size_t bytes) { return fmt::format("{:.1f} GiB", std::ldexp(static_cast<double>(bytes), -30)); }

std::unique_ptr<SampleSource> make_source(const TokenStore& store, const SampleOrder& order) {
    switch (order.kind) {
        case OrderKind::preshuffled: return std::make_unique<PreshuffledSamples>(store, order);
        case OrderKind::stable: return std::make_unique<StableWindows>(store, order);
        case OrderKind::npy: return std::make_unique<IndexedWindows>(store, order);
        case OrderKind::neox:
        case OrderKind::mcore: break;
    }
    return std::make_unique<ShuffledWindows>(store, order);
}

}  // namespace

int64_t Sampler::size(const TokenStore& store, const SampleOrder& order) {
    switch (order.kind) {
        case OrderKind::preshuffled: return store.num_tokens() / (order.seq_length + 1);
        case OrderKind::stable: return kMostSamples;
        case OrderKind::npy: return IndexTriplet(order.index).num_samples();
        case OrderKind::neox:
        case OrderKind::mcore: break;
    }
    return ShuffledWindows::size(store, order);
}

size_t Sampler::bytes(const TokenStore& store, const SampleOrder& order) {
    const bool shuffled = order.kind == OrderKind::neox || order.kind == OrderKind::mcore;
    return shuffled ? ShuffledWindows::bytes(store, order) : 0;
}

Sampler::Sampler(const TokenStore& store, const SampleOrder& order) : order_(order), num_samples_(size(store, order)) {
    require(order.seq_length > 0 && order.num_epochs > 0, "an order of samples needs positive sizes");
    const size_t needed = bytes(store, order);
    if (const int64_t available = memory_size().available; available > 0 && needed > static_cast<size_t>(available))
        throw UserError(
            fmt::format("the order of {} samples takes {} of memory and {} is available; use fewer steps, a smaller "
                        "batch, or data.order = \"stable\", which takes none",
                        num_samples_, gibibytes(needed), gibibytes(static_cast<size_t>(available))));
    source_ = make_source(store, order_);
}

void Sampler::sample(int64_t index, int32_t* out, int32_t* document_starts) const {
    require(index >= 0 && index < num_samples_, "sample index out of range");
    source_->sample(index, out, document_starts);
}

SequentialSampler::SequentialSampler(const TokenStore& store, int64_t seq_length, FirstToken first_token)
    : documents_(store, first_token), seq_length_(seq_length) {
    require(seq_length > 0, "a sampler needs a positive length");
    check_first_token(store, first_token);
    if (documents_.num_tokens() <= seq_length)
        throw UserError(fmt::format("{} holds {} tokens, not one window of {} + 1; use more text", store.path(),
                                    store.num_tokens(), seq_length));
}

int64_t SequentialSampler::size() const { return documents_.num_windows(seq_length_); }

void SequentialSampler::sample(int64_t index, int32_t* out, int32_t* document_starts) const {
    require(index >= 0 && index < size(), "sample index out of range");
    documents_.read_text(index * seq_length_, seq_length_ + 1, out, document_starts);
}

}  // namespace ballast::data
