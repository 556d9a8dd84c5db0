// What a folder's tensors and its config.json disagree about, as one message.
#pragma once

#include <algorithm>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "base/error.h"

namespace ballast::model {

inline std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

inline std::string missing_tensor(const std::string& name) { return fmt::format("tensor {} is missing", name); }

inline std::string misshapen_tensor(const std::string& name, const std::vector<int64_t>& shape,
                                    const std::vector<int64_t>& wanted) {
    return fmt::format("tensor {} has shape {}, but config.json asks for {}", name, shape_text(shape),
                       shape_text(wanted));
}

inline std::string foreign_tensor(const std::string& name) {
    return fmt::format("tensor {} does not belong to the model of config.json", name);
}

/// UserError with the first 16 of `all`, and how many more there are. Nothing when `all` is empty.
inline void require_none(const std::string& folder, std::vector<std::string> all) {
    constexpr size_t kNamed = 16;
    if (all.empty()) return;
    const size_t more = all.size() - std::min(all.size(), kNamed);
    all.resize(all.size() - more);
    throw UserError(
        fmt::format("{}: {}{}", folder, fmt::join(all, "; "), more > 0 ? fmt::format("; and {} more", more) : ""));
}

}  // namespace ballast::model
