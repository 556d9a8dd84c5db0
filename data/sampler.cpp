#include "data/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/cpu_features.h"
#include "base/error.h"
#include "data/mt19937.h"

namespace ballast::data {
namespace {

constexpr double kMostTokens = 1e18;
constexpr int64_t kMostNarrowSamples = int64_t{1} << 32;

/// With half a per cent to spare, as NeoX has it. In double, as Python computes it.
int64_t samples_wanted(int64_t samples) {
    return static_cast<int64_t>(std::ceil(static_cast<double>(samples) * 1.005));
}

/// The fewest epochs that give `wanted` windows.
int64_t epochs_for(int64_t wanted, int64_t seq_length, int64_t num_tokens) {
    const int64_t tokens_wanted = wanted * seq_length + 1;
    return std::max<int64_t>(1, (tokens_wanted + num_tokens - 1) / num_tokens);
}

void check_first_token(const TokenStore& store, FirstToken first_token) {
    if (first_token == FirstToken::none) return;
    const TokenStoreInfo& info = store.info();
    const std::string_view name = kFirstTokenNames[static_cast<size_t>(first_token)];
    if (info.begin_of_text_id < 0)
        throw UserError(fmt::format(
            "{} knows no token that texts begin with, so data.first_token cannot be \"{}\"; prepare it again with a "
            "tokenizer that has one, or choose \"none\"",
            store.path(), name));
    if (first_token == FirstToken::every_document && info.begin_of_text_id == info.end_of_text_id)
        throw UserError(fmt::format(
            "{} has token {} after each document, so before the next one too; prepare it with --no-append-eod for "
            "data.first_token = \"every_document\", or choose \"none\"",
            store.path(), info.end_of_text_id));
}

/// Tokens put before each document.
int64_t added_tokens(FirstToken first_token) { return first_token == FirstToken::every_document ? 1 : 0; }

/// Of the whole store, with what is put before its documents.
int64_t count_tokens(const TokenStore& store, FirstToken first_token) {
    return store.num_tokens() + added_tokens(first_token) * store.num_documents();
}

/// Of one document, with what is put before it.
int64_t document_length(const TokenStore& store, int64_t document, FirstToken first_token) {
    return store.document_offset(document + 1) - store.document_offset(document) + added_tokens(first_token);
}

/// Copies `count` tokens of one window out of documents that follow each other, from the `skip`-th of the first one;
/// `next()` is the document whose turn it is.
template <class Next>
void read_window(const TokenStore& store, FirstToken first_token, int64_t skip, int64_t count, Next&& next,
                 int32_t* out, int32_t* document_starts) {
    const int64_t added = added_tokens(first_token);
    const auto begin_id = static_cast<int32_t>(store.info().begin_of_text_id);
    for (int64_t at = 0; at < count; skip = 0) {
        const int64_t document = next(),
                      take = std::min(count - at, document_length(store, document, first_token) - skip);
        const int64_t own = skip < added && take > 0 ? 1 : 0;
        if (own > 0) out[at] = begin_id;
        store.read(store.document_offset(document) + skip + own - added, take - own, out + at + own);
        if (document_starts != nullptr) std::fill_n(document_starts + at, take, static_cast<int32_t>(at));
        at += take;
    }
    if (first_token == FirstToken::every_window) out[0] = begin_id;
}

std::string gibibytes(size_t bytes) { return fmt::format("{:.1f} GiB", std::ldexp(static_cast<double>(bytes), -30)); }

}  // namespace

int64_t count_samples(int64_t steps, int64_t global_batch, int64_t seq_length) {
    require(steps >= 0 && global_batch > 0 && seq_length > 0, "samples of positive sizes");
    const double tokens =
        static_cast<double>(steps) * static_cast<double>(global_batch) * static_cast<double>(seq_length);
    if (!(tokens <= kMostTokens))
        throw UserError(
            fmt::format("{} steps of {} samples of {} tokens are {:.1e} tokens, more than the 1e18 that can be "
                        "counted; lower the steps, the batch or the length",
                        steps, global_batch, seq_length, tokens));
    return steps * global_batch;
}

SampleOrder order_for(const TokenStore& store, int64_t seq_length, uint32_t seed, int64_t samples,
                      FirstToken first_token) {
    require(seq_length > 0 && samples > 0, "an order of samples needs positive sizes");
    if (store.num_tokens() == 0) throw UserError(fmt::format("{} holds no tokens", store.path()));
    check_first_token(store, first_token);
    const int64_t epochs = epochs_for(samples_wanted(samples), seq_length, count_tokens(store, first_token));
    if (epochs > std::numeric_limits<int32_t>::max() / store.num_documents())
        throw UserError(
            fmt::format("{} is too small: {} samples of {} tokens would repeat its {} tokens {} times; use "
                        "more text or fewer steps",
                        store.path(), samples, seq_length, store.num_tokens(), epochs));
    return {seq_length, seed, epochs, first_token};
}

SampleOrder preshuffled_order(const TokenStore& store, int64_t seq_length, int64_t samples, FirstToken first_token) {
    check_first_token(store, first_token);
    const SampleOrder order{seq_length, 0, 1, first_token, OrderKind::preshuffled};
    if (first_token == FirstToken::every_document)
        throw UserError(
            "data.first_token = \"every_document\" needs documents, and a preshuffled store has samples; choose "
            "\"every_window\" or \"none\"");
    if (store.num_tokens() % (seq_length + 1) != 0 ||
        (store.num_documents() > 0 && store.document_offset(1) != seq_length + 1))
        throw UserError(
            fmt::format("{} does not hold samples of {} + 1 tokens (its first sequence has {}), so it is not "
                        "preshuffled for this length; "
                        "set train.sequence_length, or data.order = \"neox\"",
                        store.path(), seq_length, store.num_documents() > 0 ? store.document_offset(1) : 0));
    if (const int64_t size = Sampler::size(store, order); samples > size)
        throw UserError(
            fmt::format("{} holds {} samples, and train.steps and train.global_batch ask for {}; use fewer steps",
                        store.path(), size, samples));
    return order;
}

int64_t Sampler::size(const TokenStore& store, const SampleOrder& order) {
    if (order.kind == OrderKind::preshuffled) return store.num_tokens() / (order.seq_length + 1);
    return (order.num_epochs * count_tokens(store, order.first_token) - 1) / order.seq_length;
}

size_t Sampler::bytes(const TokenStore& store, const SampleOrder& order) {
    if (order.kind == OrderKind::preshuffled) return 0;
    const int64_t visits = order.num_epochs * store.num_documents(), samples = size(store, order);
    const size_t sample_bytes = samples <= kMostNarrowSamples ? sizeof(uint32_t) : sizeof(int64_t);
    return static_cast<size_t>(visits) * sizeof(int32_t) +
           static_cast<size_t>((visits + kStride - 1) / kStride) * sizeof(int64_t) +
           static_cast<size_t>(samples) * sample_bytes;
}

Sampler::Sampler(const TokenStore& store, const SampleOrder& order)
    : store_(store), order_(order), num_samples_(size(store, order)) {
    require(order.seq_length > 0 && order.num_epochs > 0, "an order of samples needs positive sizes");
    if (order.kind == OrderKind::preshuffled) return;
    const size_t needed = bytes(store, order);
    if (const int64_t available = memory_size().available; available > 0 && needed > static_cast<size_t>(available))
        throw UserError(
            fmt::format("the order of {} samples takes {} of memory and {} is available; use fewer steps or "
                        "a smaller batch",
                        num_samples_, gibibytes(needed), gibibytes(static_cast<size_t>(available))));
    NumpyRandomState random(order.seed);
    order_documents(random);
    index_positions();
    order_samples(random);
}

void Sampler::order_documents(NumpyRandomState& random) {
    const int64_t num_documents = store_.num_documents();
    document_order_.resize(static_cast<size_t>(order_.num_epochs * num_documents));
    for (auto epoch = document_order_.begin(); epoch != document_order_.end(); epoch += num_documents)
        std::iota(epoch, epoch + num_documents, 0);
    random.shuffle(std::span(document_order_));
}

void Sampler::order_samples(NumpyRandomState& random) {
    const auto order = [&](auto& samples) {
        using Sample = typename std::decay_t<decltype(samples)>::value_type;
        samples.resize(static_cast<size_t>(num_samples_));
        std::iota(samples.begin(), samples.end(), Sample{0});  // an int would overflow at 2^31
        random.shuffle(std::span(samples));
    };
    // numpy draws the same numbers for both types.
    num_samples_ <= kMostNarrowSamples ? order(sample_order_) : order(wide_sample_order_);
}

void Sampler::index_positions() {
    const auto visits = static_cast<int64_t>(document_order_.size());
    positions_.reserve(static_cast<size_t>((visits + kStride - 1) / kStride));
    int64_t position = 0;
    for (int64_t visit = 0; visit < visits; ++visit) {
        if (visit % kStride == 0) positions_.push_back(position);
        position += document_length(store_, document_of(visit), order_.first_token);
    }
}

int64_t Sampler::window_of(int64_t index) const {
    const auto i = static_cast<size_t>(index);
    return wide_sample_order_.empty() ? int64_t{sample_order_[i]} : wide_sample_order_[i];
}

/// NeoX walks the documents with a window that starts on the last token of the one before; so window w starts at token
/// w · seq_length of the documents laid end to end in their order.
void Sampler::sample(int64_t index, int32_t* out, int32_t* document_starts) const {
    require(index >= 0 && index < num_samples_, "sample index out of range");
    if (order_.kind == OrderKind::preshuffled) return preshuffled_sample(index, out, document_starts);
    int64_t skip = window_of(index) * order_.seq_length;
    const auto after = std::upper_bound(positions_.begin(), positions_.end(), skip);
    const auto block = after - positions_.begin() - 1;
    skip -= positions_[static_cast<size_t>(block)];
    int64_t visit = block * kStride;
    const auto length_of = [&](int64_t v) { return document_length(store_, document_of(v), order_.first_token); };
    for (int64_t length; skip >= (length = length_of(visit)); ++visit) skip -= length;
    read_window(
        store_, order_.first_token, skip, order_.seq_length + 1, [&] { return document_of(visit++); }, out,
        document_starts);
}

void Sampler::preshuffled_sample(int64_t index, int32_t* out, int32_t* document_starts) const {
    const int64_t count = order_.seq_length + 1;
    store_.read(index * count, count, out);
    if (document_starts != nullptr) std::fill_n(document_starts, count, 0);
    if (order_.first_token == FirstToken::every_window) out[0] = static_cast<int32_t>(store_.info().begin_of_text_id);
}

SequentialSampler::SequentialSampler(const TokenStore& store, int64_t seq_length, FirstToken first_token)
    : store_(store), seq_length_(seq_length), first_token_(first_token) {
    require(seq_length > 0, "a sampler needs a positive length");
    check_first_token(store, first_token);
    if (count_tokens(store, first_token) <= seq_length)
        throw UserError(fmt::format("{} holds {} tokens, not one window of {} + 1; use more text", store.path(),
                                    store.num_tokens(), seq_length));
}

int64_t SequentialSampler::size() const { return (count_tokens(store_, first_token_) - 1) / seq_length_; }

void SequentialSampler::sample(int64_t index, int32_t* out, int32_t* document_starts) const {
    require(index >= 0 && index < size(), "sample index out of range");
    const int64_t first = index * seq_length_;
    const auto start_of = [this](int64_t document) {
        return store_.document_offset(document) + added_tokens(first_token_) * document;
    };
    int64_t document = 0;  // the last that starts at `first` or before: empty ones stand before the one with its token
    for (int64_t end = store_.num_documents(); end - document > 1;) {
        const int64_t middle = document + (end - document) / 2;
        (start_of(middle) <= first ? document : end) = middle;
    }
    read_window(
        store_, first_token_, first - start_of(document), seq_length_ + 1, [&] { return document++; }, out,
        document_starts);
}

}  // namespace ballast::data
