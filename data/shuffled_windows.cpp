#include "data/shuffled_windows.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "data/mt19937.h"

namespace ballast::data {
namespace {

constexpr int64_t kMostNarrowSamples = int64_t{1} << 32;

int64_t windows_of(const Documents& documents, int64_t epochs, int64_t seq_length) {
    return (epochs * documents.num_tokens() - 1) / seq_length;
}

/// The first `border` of them, then the others.
template <class T>
void shuffle_apart(NumpyRandomState& random, std::span<T> values, int64_t border) {
    random.shuffle(values.first(static_cast<size_t>(border)));
    random.shuffle(values.subspan(static_cast<size_t>(border)));
}

}  // namespace

int64_t ShuffledWindows::size(const TokenStore& store, const SampleOrder& order) {
    return windows_of(Documents(store, order.first_token), order.num_epochs, order.seq_length);
}

size_t ShuffledWindows::bytes(const TokenStore& store, const SampleOrder& order) {
    const int64_t visits = order.num_epochs * store.num_documents(), samples = size(store, order);
    const size_t sample_bytes = samples <= kMostNarrowSamples ? sizeof(uint32_t) : sizeof(int64_t);
    return static_cast<size_t>(visits) * sizeof(int32_t) +
           static_cast<size_t>((visits + kStride - 1) / kStride) * sizeof(int64_t) +
           static_cast<size_t>(samples) * sample_bytes;
}

ShuffledWindows::ShuffledWindows(const TokenStore& store, const SampleOrder& order)
    : documents_(store, order.first_token), order_(order) {
    NumpyRandomState random(order.seed);
    order_documents(random);
    index_positions();
    order_samples(random);
}

void ShuffledWindows::order_documents(NumpyRandomState& random) {
    const int64_t count = documents_.count(), visits = order_.num_epochs * count;
    document_order_.resize(static_cast<size_t>(visits));
    for (auto epoch = document_order_.begin(); epoch != document_order_.end(); epoch += count)
        std::iota(epoch, epoch + count, 0);
    shuffle_apart(random, std::span(document_order_), order_.last_epoch_apart ? visits - count : visits);
}

void ShuffledWindows::order_samples(NumpyRandomState& random) {
    const int64_t all = windows_of(documents_, order_.num_epochs, order_.seq_length);
    const int64_t together =
        order_.last_epoch_apart ? windows_of(documents_, order_.num_epochs - 1, order_.seq_length) : all;
    const auto order = [&](auto& samples) {
        using Sample = typename std::decay_t<decltype(samples)>::value_type;
        samples.resize(static_cast<size_t>(all));
        std::iota(samples.begin(), samples.end(), Sample{0});  // an int would overflow at 2^31
        shuffle_apart(random, std::span(samples), together);
    };
    // numpy draws the same numbers for both types.
    all <= kMostNarrowSamples ? order(sample_order_) : order(wide_sample_order_);
}

void ShuffledWindows::index_positions() {
    const auto visits = static_cast<int64_t>(document_order_.size());
    positions_.reserve(static_cast<size_t>((visits + kStride - 1) / kStride));
    int64_t position = 0;
    for (int64_t visit = 0; visit < visits; ++visit) {
        if (visit % kStride == 0) positions_.push_back(position);
        position += documents_.length(document_of(visit));
    }
}

int64_t ShuffledWindows::window_of(int64_t index) const {
    const auto i = static_cast<size_t>(index);
    return wide_sample_order_.empty() ? int64_t{sample_order_[i]} : wide_sample_order_[i];
}

/// NeoX walks the documents with a window that starts on the last token of the one before; so window w starts at token
/// w · seq_length of the documents laid end to end in their order.
void ShuffledWindows::sample(int64_t index, int32_t* out, int32_t* document_starts) const {
    int64_t skip = window_of(index) * order_.seq_length;
    const auto after = std::upper_bound(positions_.begin(), positions_.end(), skip);
    const auto block = after - positions_.begin() - 1;
    skip -= positions_[static_cast<size_t>(block)];
    int64_t visit = block * kStride;
    for (int64_t length; skip >= (length = documents_.length(document_of(visit))); ++visit) skip -= length;
    documents_.read_window(
        skip, order_.seq_length + 1, [&] { return document_of(visit++); }, out, document_starts);
}

}  // namespace ballast::data
