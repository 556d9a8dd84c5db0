#include "infer/heavy_rows.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace ballast::infer {

std::vector<int64_t> heavy_rows(const HeadCache& head, std::span<const double> scores) {
    require(head.heavy && head.bounded(), "a head that does not choose by score");
    const auto positions = std::ssize(scores);
    std::vector<int64_t> rows(scores.size());
    std::iota(rows.begin(), rows.end(), 0);
    const int64_t earlier = positions - head.span, most = *head.heavy + 1;
    if (earlier <= most) return rows;
    const auto weight = [&](int64_t row) {
        const double score = scores[static_cast<size_t>(row)];
        return score == score ? score : -std::numeric_limits<double>::infinity();
    };
    const auto heavier = [&](int64_t a, int64_t b) {
        return weight(a) > weight(b) || (weight(a) == weight(b) && a > b);
    };
    std::nth_element(rows.begin(), rows.begin() + most, rows.begin() + earlier, heavier);
    rows.erase(rows.begin() + most, rows.begin() + earlier);
    std::sort(rows.begin(), rows.begin() + most);
    return rows;
}

}  // namespace ballast::infer
