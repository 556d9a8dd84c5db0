// The losses of plans on items at a length that was not profiled.
#pragma once

#include <functional>
#include <optional>

#include "infer/span_plan.h"
#include "kernels/context.h"
#include "model/transformer.h"
#include "moa/items.h"

namespace ballast::moa {

/// The mean over items of their mean loss on scored tokens. Prompt and answer are masked by the plan's caches for the
/// item's own length; without a plan the model is dense. `done` is called with the number of items so far. UserErrors
/// as for infer::cache_plan(); RunError on Ctrl-C.
double validation_loss(Context& context, model::Transformer& model, const std::optional<infer::SpanPlan>& plan,
                       const std::vector<ItemTokens>& items, const std::function<void(int64_t)>& done);

}  // namespace ballast::moa
