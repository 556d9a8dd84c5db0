#include "report/run_labels.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast::report {
namespace {

namespace fs = std::filesystem;

fs::path run_folder(const std::string& folder) {
    std::error_code error;
    if (!fs::is_directory(folder, error))
        throw UserError(fmt::format("no run at {}; give the folder that ballast train --out wrote", folder));
    for (const char* name : {"metrics.jsonl", "status.json"})
        if (fs::exists(fs::path(folder) / name, error)) return fs::canonical(folder);
    throw UserError(fmt::format("{} holds no run: neither metrics.jsonl nor status.json", folder));
}

/// The last `parts` components of an absolute path.
std::string tail_of(const fs::path& path, size_t parts) {
    const std::vector<fs::path> all(path.begin(), path.end());
    fs::path out;
    for (size_t i = all.size() - std::min(parts, all.size()); i < all.size(); ++i) out /= all[i];
    return out.string();
}

}  // namespace

std::vector<std::string> run_labels(const std::vector<std::string>& folders) {
    std::vector<fs::path> paths;
    for (const std::string& folder : folders) {
        paths.push_back(run_folder(folder));
        if (std::count(paths.begin(), paths.end(), paths.back()) > 1)
            throw UserError(fmt::format("{} is given twice; name each run once", folder));
    }
    std::vector<std::string> labels(paths.size());
    for (size_t i = 0; i < paths.size(); ++i)
        for (size_t parts = 1;; ++parts) {  // ends: the paths differ
            labels[i] = tail_of(paths[i], parts);
            const auto same = [&](const fs::path& other) { return tail_of(other, parts) == labels[i]; };
            if (std::count_if(paths.begin(), paths.end(), same) == 1) break;
        }
    return labels;
}

}  // namespace ballast::report
