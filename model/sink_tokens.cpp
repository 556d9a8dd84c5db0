#include "model/sink_tokens.h"

#include <algorithm>

namespace ballast::model {

void fill_sample(std::span<const int32_t> window, const ModelConfig& config, std::span<int32_t> inputs,
                 std::span<int32_t> targets) {
    const auto T = static_cast<int64_t>(inputs.size()), n = config.num_sink_tokens;
    require(window.size() == inputs.size() + 1 && targets.size() == inputs.size() && n < T,
            "a sample of another shape");
    for (int64_t i = 0; i < T; ++i) {
        const auto at = static_cast<size_t>(i);
        inputs[at] = i < n ? static_cast<int32_t>(config.sink_token_id + i) : window[static_cast<size_t>(i - n)];
        const int64_t next = i + 1 - n;  // of the window; the last sink's is t[0]
        targets[at] = next < 0 ? kNoTarget : window[static_cast<size_t>(next)];
    }
}

void fill_first_keys(std::span<const int32_t> document_starts, const ModelConfig& config,
                     std::span<int32_t> first_keys) {
    const auto n = static_cast<size_t>(config.num_sink_tokens);
    require(document_starts.size() == first_keys.size() + 1 && n < first_keys.size(), "a sample of another shape");
    for (size_t i = 0; i < first_keys.size(); ++i)
        first_keys[i] = i < n ? 0 : static_cast<int32_t>(n) + document_starts[i - n];
}

int64_t targets_per_sample(const ModelConfig& config, int64_t length) {
    return config.num_sink_tokens == 0 ? length : length + 1 - config.num_sink_tokens;
}

}  // namespace ballast::model
