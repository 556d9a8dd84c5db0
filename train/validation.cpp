#include "train/validation.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "model/sink_tokens.h"

namespace ballast::train {
namespace {

const data::TokenStore& at_least_a_pass(const data::TokenStore& store, const RunConfig& config) {
    const int64_t samples = config.samples_per_pass(), length = config.train.sequence_length;
    if (store.num_tokens() <= samples * length)
        throw UserError(
            fmt::format("{} holds {} tokens, too few for one validation pass of {} x {} + 1; use more text, lower "
                        "train.micro_batch, or set data.validation to nothing",
                        store.path(), store.num_tokens(), samples, length));
    return store;
}

}  // namespace

Validation::Validation(Context& context, model::Transformer& model, const data::TokenStore& store,
                       const RunConfig& config)
    : context_(context),
      config_(model.config()),
      document_mask_(config.data.document_mask),
      windows_(at_least_a_pass(store, config), config.train.sequence_length, config.data.first_token),
      passes_(std::min(config.validation.batches, windows_.size() / config.samples_per_pass())),
      pass_(context, model, model::PassKind::forward, config.samples_per_pass(), config.train.sequence_length),
      sum_buffer_(context.allocate(sizeof(double))),
      first_key_buffer_(document_mask_
                            ? context.allocate(static_cast<size_t>(pass_.batch() * pass_.length()) * sizeof(int32_t))
                            : DeviceBuffer{}) {}

void Validation::mask_documents(const std::vector<int32_t>& first_keys) {
    const Tensor tensor(first_key_buffer_.data(), Dtype::i32, {pass_.batch() * pass_.length()});
    context_.copy_from_host(tensor, first_keys.data());
    pass_.use_tokens(pass_.activations().ids, pass_.activations().targets, tensor);
}

double Validation::loss(const std::function<void()>& after_pass) {
    const auto T = static_cast<size_t>(pass_.length()), B = static_cast<size_t>(pass_.batch());
    const Tensor sum(sum_buffer_.data(), Dtype::f64, {1});
    std::vector<int32_t> window(T + 1), ids(B * T), targets(B * T), document_starts(T + 1), first_keys(B * T);
    double total = 0;
    for (int64_t p = 0; p < passes_; ++p) {
        for (size_t b = 0; b < B; ++b) {
            windows_.sample(p * pass_.batch() + static_cast<int64_t>(b), window.data(), document_starts.data());
            model::fill_sample(window, config_, std::span(ids).subspan(b * T, T), std::span(targets).subspan(b * T, T));
            model::fill_first_keys(document_starts, config_, std::span(first_keys).subspan(b * T, T));
        }
        pass_.set_tokens(ids, targets);
        if (document_mask_) mask_documents(first_keys);
        pass_.forward();
        ops::sum(context_, sum, pass_.losses());
        double loss;
        context_.copy_to_host(&loss, sum);
        total += loss;
        after_pass();
    }
    const int64_t targets_a_sample = model::targets_per_sample(config_, pass_.length());
    return total / static_cast<double>(passes_ * pass_.batch() * targets_a_sample);
}

}  // namespace ballast::train
