// What plans lose on items at a length that no profile saw.
#pragma once

#include <functional>
#include <optional>

#include "infer/span_plan.h"
#include "kernels/context.h"
#include "model/transformer.h"
#include "moa/items.h"

namespace ballast::moa {

/// Mean over items of their mean loss on scored tokens, prompt and answer masked by the plan's caches for the item's
/// own length; none: the dense model. `done` is called with the number of items so far. UserErrors as
/// infer::cache_plan(); RunError on Ctrl-C.
double validation_loss(Context& context, model::Transformer& model, const std::optional<infer::SpanPlan>& plan,
                       const std::vector<ItemTokens>& items, const std::function<void(int64_t)>& done);

}  // namespace ballast::moa
