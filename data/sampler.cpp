#include "data/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "data/mt19937.h"

namespace ballast::data {
namespace {

int64_t samples_wanted(int64_t steps, int64_t global_batch) {
    // In double, as Python computes it.
    return static_cast<int64_t>(std::ceil(static_cast<double>(steps * global_batch) * 1.005));
}

/// The fewest epochs that give `wanted` windows.
int64_t epochs_for(int64_t wanted, int64_t seq_length, int64_t num_tokens) {
    const int64_t tokens_wanted = wanted * seq_length + 1;
    return std::max<int64_t>(1, (tokens_wanted + num_tokens - 1) / num_tokens);
}

}  // namespace

Sampler::Sampler(const TokenStore& store, int64_t seq_length, uint32_t seed, int64_t steps, int64_t global_batch)
    : store_(store), seq_length_(seq_length), global_batch_(global_batch) {
    require(seq_length > 0 && steps > 0 && global_batch > 0, "a sampler needs positive sizes");
    if (store.num_tokens() == 0) throw UserError(fmt::format("{} holds no tokens", store.path()));
    num_epochs_ = epochs_for(samples_wanted(steps, global_batch), seq_length, store.num_tokens());
    if (num_epochs_ > std::numeric_limits<int32_t>::max() / store.num_documents())
        throw UserError(
            fmt::format("{} is too small: {} steps of {} samples would repeat its {} tokens {} times; use more "
                        "text or fewer steps",
                        store.path(), steps, global_batch, store.num_tokens(), num_epochs_));
    num_samples_ = (num_epochs_ * store.num_tokens() - 1) / seq_length;
    NumpyRandomState random(seed);
    order_documents(random);
    index_positions();
    order_samples(random);
}

void Sampler::order_documents(NumpyRandomState& random) {
    const int64_t num_documents = store_.num_documents();
    document_order_.resize(static_cast<size_t>(num_epochs_ * num_documents));
    for (auto epoch = document_order_.begin(); epoch != document_order_.end(); epoch += num_documents)
        std::iota(epoch, epoch + num_documents, 0);
    random.shuffle(std::span(document_order_));
}

void Sampler::order_samples(NumpyRandomState& random) {
    const auto order = [&](auto& samples) {
        samples.resize(static_cast<size_t>(num_samples_));
        std::iota(samples.begin(), samples.end(), 0);
        random.shuffle(std::span(samples));
    };
    // numpy draws the same numbers for both types.
    num_samples_ <= int64_t{1} << 32 ? order(sample_order_) : order(wide_sample_order_);
}

int64_t Sampler::length_of(int64_t visit) const {
    const auto document = static_cast<size_t>(document_order_[static_cast<size_t>(visit)]);
    const auto offsets = store_.document_offsets();
    return offsets[document + 1] - offsets[document];
}

void Sampler::index_positions() {
    int64_t position = 0;
    for (int64_t visit = 0; visit < static_cast<int64_t>(document_order_.size()); ++visit) {
        if (visit % kStride == 0) positions_.push_back(position);
        position += length_of(visit);
    }
}

int64_t Sampler::window_of(int64_t index) const {
    const auto i = static_cast<size_t>(index);
    return wide_sample_order_.empty() ? int64_t{sample_order_[i]} : wide_sample_order_[i];
}

/// NeoX walks the documents with a window that starts on the last token of the one before; so window w starts at token
/// w · seq_length of the documents laid end to end in their order.
void Sampler::sample(int64_t index, int32_t* out) const {
    require(index >= 0 && index < num_samples_, "sample index out of range");
    int64_t skip = window_of(index) * seq_length_;
    const auto after = std::upper_bound(positions_.begin(), positions_.end(), skip);
    const auto block = after - positions_.begin() - 1;
    skip -= positions_[static_cast<size_t>(block)];
    int64_t visit = block * kStride;
    for (int64_t length; skip >= (length = length_of(visit)); ++visit) skip -= length;
    for (int64_t left = seq_length_ + 1; left > 0; ++visit, skip = 0) {
        const int64_t count = std::min(left, length_of(visit) - skip);
        const auto document = static_cast<size_t>(document_order_[static_cast<size_t>(visit)]);
        store_.read(store_.document_offsets()[document] + skip, count, out);
        out += count;
        left -= count;
    }
}

void Sampler::batch(int64_t step, int32_t* out) const {
    for (int64_t b = 0; b < global_batch_; ++b) sample(step * global_batch_ + b, out + b * (seq_length_ + 1));
}

SequentialSampler::SequentialSampler(const TokenStore& store, int64_t seq_length)
    : store_(store), seq_length_(seq_length) {
    require(seq_length > 0, "a sampler needs a positive length");
    if (store.num_tokens() <= seq_length)
        throw UserError(fmt::format("{} holds {} tokens, not one window of {} + 1; use more text", store.path(),
                                    store.num_tokens(), seq_length));
}

void SequentialSampler::sample(int64_t index, int32_t* out) const {
    require(index >= 0 && index < size(), "sample index out of range");
    store_.read(index * seq_length_, seq_length_ + 1, out);
}

}  // namespace ballast::data
