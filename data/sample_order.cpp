#include "data/sample_order.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "data/index_triplet.h"
#include "data/sampler.h"

namespace ballast::data {
namespace {

constexpr double kMostTokens = 1e18;
constexpr double kShareToJoin = 0.8;  // of an epoch: with less the last one stays apart

/// With half a per cent to spare, as NeoX has it. In double, as Python computes it.
int64_t with_half_a_per_cent(int64_t samples) {
    return static_cast<int64_t>(std::ceil(static_cast<double>(samples) * 1.005));
}

/// The fewest epochs that give `wanted` windows.
int64_t epochs_for(int64_t wanted, int64_t seq_length, int64_t num_tokens) {
    const int64_t tokens_wanted = wanted * seq_length + 1;
    return std::max<int64_t>(1, (tokens_wanted + num_tokens - 1) / num_tokens);
}

void refuse_every_document(const OrderRequest& request) {
    if (request.first_token == FirstToken::every_document)
        throw UserError(
            fmt::format("data.first_token = \"every_document\" moves the windows that data.order = \"{}\" has cut "
                        "already; choose \"every_window\" or \"none\"",
                        kOrderNames[static_cast<size_t>(request.kind)]));
}

void require_samples(const TokenStore& store, const SampleOrder& order, int64_t samples, std::string_view where) {
    if (const int64_t size = Sampler::size(store, order); samples > size)
        throw UserError(
            fmt::format("{} holds {} samples, and train.steps and train.global_batch ask for {}; use fewer steps",
                        where, size, samples));
}

void order_epochs(const TokenStore& store, const OrderRequest& request, SampleOrder& order) {
    const Documents documents(store, request.first_token);
    const int64_t tokens = documents.num_tokens();
    const bool neox = request.kind == OrderKind::neox;
    const int64_t wanted = neox ? with_half_a_per_cent(request.samples) : request.samples;
    order.num_epochs = epochs_for(wanted, request.seq_length, tokens);
    if (order.num_epochs > std::numeric_limits<int32_t>::max() / documents.count())
        throw UserError(
            fmt::format("{} is too small: {} samples of {} tokens would repeat its {} tokens {} times; use "
                        "more text or fewer steps",
                        store.path(), request.samples, request.seq_length, store.num_tokens(), order.num_epochs));
    if (neox || order.num_epochs == 1) return;
    const int64_t before_last = ((order.num_epochs - 1) * tokens - 1) / request.seq_length;
    const auto enough =
        static_cast<int64_t>(kShareToJoin * static_cast<double>(documents.num_windows(request.seq_length)));
    order.last_epoch_apart = wanted - before_last < enough;
}

void check_preshuffled(const TokenStore& store, const OrderRequest& request) {
    const int64_t first = store.num_documents() > 0 ? store.document_offset(1) : 0;
    if (store.num_tokens() % (request.seq_length + 1) != 0 || first != request.seq_length + 1)
        throw UserError(
            fmt::format("{} does not hold samples of {} + 1 tokens (its first sequence has {}), so it is not "
                        "preshuffled for this length; set train.sequence_length, or data.order = \"neox\"",
                        store.path(), request.seq_length, first));
}

}  // namespace

bool has_seed(OrderKind kind) {
    return kind == OrderKind::neox || kind == OrderKind::mcore || kind == OrderKind::stable;
}

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

SampleOrder make_sample_order(const TokenStore& store, const OrderRequest& request) {
    require(request.seq_length > 0 && request.samples > 0, "an order of samples needs positive sizes");
    if (store.num_tokens() == 0) throw UserError(fmt::format("{} holds no tokens", store.path()));
    check_first_token(store, request.first_token);
    SampleOrder order;
    order.kind = request.kind;
    order.seq_length = request.seq_length;
    order.first_token = request.first_token;
    if (has_seed(request.kind)) order.seed = request.seed;
    switch (request.kind) {
        case OrderKind::neox:
        case OrderKind::mcore: order_epochs(store, request, order); break;
        case OrderKind::stable:
            if (Documents(store, request.first_token).num_windows(request.seq_length) == 0)
                throw UserError(fmt::format("{} holds {} tokens, not one window of {} + 1; use more text", store.path(),
                                            store.num_tokens(), request.seq_length));
            break;
        case OrderKind::preshuffled:
            refuse_every_document(request);
            check_preshuffled(store, request);
            require_samples(store, order, request.samples, store.path());
            break;
        case OrderKind::npy:
            refuse_every_document(request);
            order.index = request.index;
            order.index_fingerprint = IndexTriplet(request.index).fingerprint();
            require_samples(store, order, request.samples, request.index);
            break;
    }
    return order;
}

}  // namespace ballast::data
