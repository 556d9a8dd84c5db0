#include "cli/plan_folder.h"

#include <cstdio>
#include <filesystem>
#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/error.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

/// Without a link, which would be renamed in place of what it leads to, and without a slash at the end.
std::string path_of_folder(const std::string& path) {
    const fs::path plain = fs::weakly_canonical(path);
    return (plain.has_filename() ? plain : plain.parent_path()).string();
}

void rename_folder(const std::string& from, const std::string& to) {
    if (std::rename(from.c_str(), to.c_str()) != 0) throw_errno("rename a folder to", to);
}

}  // namespace

PlanFolder::PlanFolder(const std::string& path)
    : path_(path_of_folder(path)), aside_(path_ + ".part"), old_(path_ + ".old") {}

void PlanFolder::prepare() const {
    make_folders(path_);
    for (const std::string& entry : entries_of(path_))
        if (!fs::path(entry).filename().string().starts_with("plan_"))
            throw UserError(fmt::format(
                "{} is in a folder of plans, which is replaced as a whole; move it, or name another folder", entry));
    fs::remove_all(aside_);  // of one that was killed
    require_writable(aside_);
}

void PlanFolder::write(const std::vector<moa::PlanCandidate>& plans) const {
    for (const std::string& left : {aside_, old_}) fs::remove_all(left);
    make_folders(aside_);
    for (size_t i = 0; i < plans.size(); ++i)
        infer::write_span_plan(fmt::format("{}/plan_{:02}.json", aside_, i), plans[i].plan);
    if (fs::exists(path_)) rename_folder(path_, old_);
    rename_folder(aside_, path_);
    sync_folder(fs::path(path_).parent_path().string());
    fs::remove_all(old_);
}

}  // namespace ballast
