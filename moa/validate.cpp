#include "moa/validate.h"

#include <numeric>

#include "base/error.h"
#include "base/interrupt.h"
#include "infer/masked_stream.h"

namespace ballast::moa {
namespace {

constexpr int64_t kChunk = 512;

infer::CachePlan make_cache_plan(const model::ModelConfig& config, const std::optional<infer::SpanPlan>& plan,
                                 int64_t N) {
    if (plan) return infer::cache_plan(*plan, config, N);
    return infer::CachePlan::uniform(infer::CachePolicy::dense(), config.num_layers, config.num_heads);
}

}  // namespace

double validation_loss(Context& context, model::Transformer& model, const std::optional<infer::SpanPlan>& plan,
                       const std::vector<ItemTokens>& items, const std::function<void(int64_t)>& done) {
    require(!items.empty(), "nothing to validate on");
    for (const ItemTokens& item : items)
        make_cache_plan(model.config(), plan, item.length());  // before the first is computed
    double total = 0;
    for (size_t i = 0; i < items.size(); ++i) {
        if (interrupted()) throw RunError("interrupted before the end; nothing was written");
        infer::MaskedStream stream(context, model, make_cache_plan(model.config(), plan, items[i].length()), kChunk);
        std::vector<float> losses;
        stream.feed(items[i].ids, items[i].targets(items[i].length()), losses);
        total += std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(items[i].scored());
        done(static_cast<int64_t>(i) + 1);
    }
    return total / static_cast<double>(items.size());
}

}  // namespace ballast::moa
