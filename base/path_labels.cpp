#include "base/path_labels.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

/// Absolute, as it was written, without a slash at the end.
fs::path spelled_out(const std::string& path) {
    std::error_code error;
    fs::path whole = fs::absolute(path, error).lexically_normal();
    if (error) throw UserError(fmt::format("cannot find {}: {}", path, error.message()));
    return whole.filename().empty() ? whole.parent_path() : whole;
}

/// The same for every spelling and every link to it, as far as the path exists.
fs::path identity(const fs::path& path) {
    std::error_code error;
    fs::path found = fs::weakly_canonical(path, error);
    return error ? path : found;  // one that cannot be looked at is for its reader to refuse
}

/// The last `parts` components.
std::string tail(const fs::path& path, size_t parts) {
    const std::vector<fs::path> all(path.begin(), path.end());
    fs::path out;
    for (size_t i = all.size() - std::min(parts, all.size()); i < all.size(); ++i) out /= all[i];
    return out.string();
}

}  // namespace

std::vector<std::string> path_labels(const std::vector<std::string>& paths) {
    std::vector<fs::path> whole, identities;
    for (const std::string& path : paths) {
        whole.push_back(spelled_out(path));
        identities.push_back(identity(whole.back()));
        if (std::count(identities.begin(), identities.end(), identities.back()) > 1)
            throw UserError(fmt::format("{} is given twice; name it once", path));
    }
    std::vector<std::string> labels;
    for (const fs::path& path : whole)
        for (size_t parts = 1;; ++parts) {  // ends: the paths differ
            const std::string label = tail(path, parts);
            const auto same = [&](const fs::path& other) { return tail(other, parts) == label; };
            if (std::count_if(whole.begin(), whole.end(), same) > 1) continue;
            labels.push_back(label);
            break;
        }
    return labels;
}

}  // namespace ballast
