#include "tests/faults/power_loss.h"

#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "base/atomic_file.h"

namespace ballast::test {
namespace {

namespace fs = std::filesystem;
using faults::Kind;

std::string folder_of(const std::string& path) { return fs::path(path).parent_path().string(); }

bool is_temporary(const std::string& path) { return path.find(".tmp-") != std::string::npos; }

void mix(uint64_t& hash, uint64_t value) { hash = (hash ^ value) * 0x9e3779b97f4a7c15u + (hash >> 29); }

}  // namespace

DiskState DiskState::of(const std::string& folder) {
    DiskState state;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        const std::string name = entry.path().lexically_relative(folder);
        if (entry.is_directory())
            state.folders.insert(name);
        else
            state.files[name] = read_file(entry.path());
    }
    return state;
}

void DiskState::write_to(const std::string& folder) const {
    fs::remove_all(folder);
    fs::create_directories(folder);
    for (const std::string& name : folders) fs::create_directories(fs::path(folder) / name);
    for (const auto& [name, bytes] : files) {
        AtomicFile file(fs::path(folder) / name);
        file.write(bytes);
        file.commit();
    }
}

PowerLoss::PowerLoss(const std::string& log, const DiskState& before) {
    for (const std::string& name : before.folders) before_.names[name] = kFolder;
    for (const auto& [name, bytes] : before.files) {
        before_.names[name] = static_cast<int>(before_.contents.size());
        before_.contents.push_back(bytes);
        whole_[name].insert(bytes);
    }
    read(read_file(log));
    resolve();
    find_syncs();
}

void PowerLoss::read(const std::string& log) {
    for (size_t at = 0; at < log.size();) {
        faults::Header header{};
        if (log.size() - at < sizeof header) throw std::runtime_error("the log ends within an operation");
        std::memcpy(&header, log.data() + at, sizeof header);
        at += sizeof header;
        Operation operation{header.kind, static_cast<int>(header.file), log.substr(at, header.path_bytes),
                            log.substr(at + header.path_bytes, header.other_bytes), header.offset};
        at += header.path_bytes + header.other_bytes;
        operations_.push_back(std::move(operation));
    }
}

bool PowerLoss::is_about_names(Kind kind) {
    return kind == Kind::create || kind == Kind::rename || kind == Kind::remove || kind == Kind::make_folder;
}

void PowerLoss::apply(const Operation& operation, Tree& tree, size_t bytes) {
    if (bytes == 0) return;
    auto& names = tree.names;
    switch (operation.kind) {
        case Kind::create: names[operation.path] = operation.inode; break;
        case Kind::make_folder: names[operation.path] = kFolder; break;
        case Kind::remove: names.erase(operation.path); break;
        case Kind::rename:
            names[operation.other] = operation.inode;
            names.erase(operation.path);
            break;
        case Kind::write: {
            std::string& content = tree.contents[static_cast<size_t>(operation.inode)];
            if (content.size() < operation.offset + bytes) content.resize(operation.offset + bytes);
            content.replace(operation.offset, bytes, operation.other, 0, bytes);
            break;
        }
        case Kind::resize: tree.contents[static_cast<size_t>(operation.inode)].resize(operation.offset); break;
        case Kind::open:
        case Kind::sync:
        case Kind::sync_folder: break;
    }
}

/// The recorder's numbers become inodes of ours, and renames get the one they move.
void PowerLoss::resolve() {
    Tree tree = before_;
    std::map<int, int> inode_of;
    for (Operation& operation : operations_) {
        const Kind kind = operation.kind;
        if (kind == Kind::create) {
            inode_of[operation.inode] = static_cast<int>(tree.contents.size());
            tree.contents.emplace_back();
            before_.contents.emplace_back();  // an inode that nothing names yet
        } else if (kind == Kind::open) {
            inode_of[operation.inode] = tree.names.at(operation.path);
        }
        if (kind == Kind::rename)
            operation.inode = tree.names.at(operation.path);
        else if (!is_about_names(kind) || kind == Kind::create)
            operation.inode = kind == Kind::sync_folder ? -1 : inode_of.at(operation.inode);
        apply(operation, tree, std::max<size_t>(1, operation.other.size()));
        if (kind == Kind::rename) whole_[operation.other].insert(tree.contents[static_cast<size_t>(operation.inode)]);
    }
    for (const auto& [name, inode] : tree.names)
        if (inode != kFolder) whole_[name].insert(tree.contents[static_cast<size_t>(inode)]);
}

void PowerLoss::find_syncs() {
    std::map<int, size_t> file_sync;  // the next one, going backwards
    std::map<std::string, size_t> folder_sync;
    for (size_t i = operations_.size(); i-- > 0;) {
        Operation& operation = operations_[i];
        if (operation.kind == Kind::sync) file_sync[operation.inode] = i;
        if (operation.kind == Kind::sync_folder) folder_sync[operation.path] = i;
        if (is_about_names(operation.kind)) {
            const auto found = folder_sync.find(folder_of(operation.path));
            if (found != folder_sync.end()) operation.lasting = found->second;
        } else if (const auto found = file_sync.find(operation.inode); found != file_sync.end()) {
            operation.lasting = found->second;
        }
    }
}

std::optional<DiskState> PowerLoss::state_at(size_t moment, const std::function<size_t(const Operation&)>& keep,
                                             std::set<uint64_t>* seen) const {
    std::vector<size_t> kept(moment);
    Tree tree{before_.names, {}};
    for (size_t i = 0; i < moment; ++i) {
        const Operation& operation = operations_[i];
        const size_t whole = std::max<size_t>(1, operation.other.size());
        kept[i] = operation.lasting < moment ? whole : std::min(whole, keep(operation));
        if (is_about_names(operation.kind)) apply(operation, tree, kept[i]);
    }
    std::map<std::string, int> reachable;  // names whose folders are all there
    std::set<int> of_interest;
    uint64_t hash = 1;
    for (const auto& [name, inode] : tree.names) {
        bool there = true;
        for (std::string folder = folder_of(name); there && !folder.empty(); folder = folder_of(folder))
            there = tree.names.contains(folder);
        if (!there) continue;
        reachable[name] = inode;
        if (is_temporary(name)) continue;
        if (inode >= 0) of_interest.insert(inode);
        mix(hash, std::hash<std::string>()(name));
        mix(hash, static_cast<uint64_t>(inode + 3));
    }
    const auto matters = [&](const Operation& operation) {
        return !is_about_names(operation.kind) && of_interest.contains(operation.inode);
    };
    for (size_t i = 0; i < moment; ++i)
        if (matters(operations_[i]) && kept[i] > 0) {
            mix(hash, i);
            mix(hash, kept[i]);
        }
    if (seen != nullptr && !seen->insert(hash).second) return std::nullopt;

    tree.contents = before_.contents;
    for (size_t i = 0; i < moment; ++i)
        if (matters(operations_[i]) && kept[i] > 0) apply(operations_[i], tree, kept[i]);
    DiskState state;
    for (const auto& [name, inode] : reachable)
        if (inode == kFolder)
            state.folders.insert(name);
        else
            state.files[name] = is_temporary(name) ? "unfinished" : tree.contents[static_cast<size_t>(inode)];
    return state;
}

DiskState PowerLoss::all_kept() const {
    return *state_at(
        operations_.size(), [](const Operation&) { return SIZE_MAX; }, nullptr);
}

bool PowerLoss::was_whole(const std::string& path, const std::string& content) const {
    const auto found = whole_.find(path);
    return found != whole_.end() && found->second.contains(content);
}

size_t PowerLoss::for_each_state(int subsets, std::mt19937_64& random,
                                 const std::function<void(const DiskState&, size_t)>& check) const {
    constexpr size_t kSector = 512;
    std::set<uint64_t> seen, seen_at_end;  // at the end, more is asked of a state
    size_t states = 0;
    const auto visit = [&](size_t moment, const std::function<size_t(const Operation&)>& keep) {
        ++states;
        auto& before = moment == operations_.size() ? seen_at_end : seen;
        if (const auto state = state_at(moment, keep, &before)) check(*state, moment);
    };
    for (size_t moment = 0; moment <= operations_.size(); ++moment) {
        visit(moment, [](const Operation&) { return SIZE_MAX; });
        visit(moment, [](const Operation&) { return size_t{0}; });
        for (int i = 0; i < subsets; ++i)
            visit(moment, [&](const Operation& operation) {
                const uint64_t drawn = random();
                if (drawn % 2 == 0) return size_t{0};
                const size_t sectors = operation.other.size() / kSector;
                if (operation.kind != Kind::write || drawn % 8 != 1 || sectors == 0) return SIZE_MAX;
                return (drawn >> 8) % (sectors + 1) * kSector;
            });
    }
    return states;
}

}  // namespace ballast::test
