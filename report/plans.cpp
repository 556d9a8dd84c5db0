#include "report/plans.h"

#include <nlohmann/json.hpp>

#include "base/path_labels.h"
#include "infer/span_plan.h"
#include "moa/picture.h"
#include "report/attention_maps.h"

namespace ballast::report {

nlohmann::ordered_json plans_json(const std::vector<std::string>& files) {
    const std::vector<std::string> names = path_labels(files);
    auto out = nlohmann::ordered_json::array();
    for (size_t i = 0; i < files.size(); ++i) {
        const infer::SpanPlan plan = infer::read_span_plan(files[i]);
        const std::vector<int64_t> lengths = moa::lengths_to_show(plan);
        const std::string svg = moa::plan_svg(plan, lengths.back());
        const int64_t kv_heads = plan.shape ? plan.shape->kv_heads : plan.entries;
        out.push_back({{"name", names[i]},
                       {"length", lengths.back()},
                       {"svg", base64({svg.begin(), svg.end()})},
                       {"table", moa::density_table(plan, kv_heads, lengths)}});
    }
    return out;
}

}  // namespace ballast::report
