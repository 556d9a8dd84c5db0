// What a disk may hold after the power failed: every operation that a program recorded (recorder/log.h) is a moment at
// which it may have, and what was not synced by then may be there or not.
//
// The model is as hard as POSIX lets a file system be. A file's writes and lengths last once the file has been synced,
// the names in a folder once the folder has been; anything else may be lost, each by itself, whatever came after it;
// the last write may be cut at any sector. A rename within a folder happens or does not.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/faults/recorder/log.h"

namespace ballast::test {

/// A folder's files, by their relative paths, and the paths of the folders in it.
struct DiskState {
    std::map<std::string, std::string> files;
    std::set<std::string> folders;

    static DiskState of(const std::string& folder);
    void write_to(const std::string& folder) const;
};

class PowerLoss {
  public:
    /// `before`: the folder as it was when recording began.
    PowerLoss(const std::string& log, const DiskState& before);

    size_t operations() const { return operations_.size(); }
    /// What the last moment leaves when everything is kept: the folder as the program left it.
    DiskState all_kept() const;
    /// All contents that were ever complete under a name: what was there before, what a rename or the end brought.
    bool was_whole(const std::string& path, const std::string& content) const;

    /// Calls `check` once for every state that differs from all before in its names or in a file that is not a
    /// temporary of ours (PATH.tmp-<number>, which nobody reads), and anew for those at the end. At every moment:
    /// everything kept, everything lost, and `subsets` drawn at random. Returns how many states there were, the same
    /// ones included.
    size_t for_each_state(int subsets, std::mt19937_64& random,
                          const std::function<void(const DiskState&, size_t moment)>& check) const;

  private:
    struct Operation {
        faults::Kind kind;
        int inode = -1;  // of data
        std::string path, other;
        uint64_t offset = 0;
        size_t lasting = SIZE_MAX;  // the operation that makes it last
    };
    struct Tree {
        std::map<std::string, int> names;  // of files; folders have kFolder
        std::vector<std::string> contents;
    };
    static constexpr int kFolder = -2;

    void read(const std::string& log);
    void resolve();
    void find_syncs();
    static void apply(const Operation& operation, Tree& tree, size_t bytes);
    static bool is_about_names(faults::Kind kind);
    /// The state at `moment` with what `keep` says of each operation that may be lost: bytes of a write, else 0 or not.
    std::optional<DiskState> state_at(size_t moment, const std::function<size_t(const Operation&)>& keep,
                                      std::set<uint64_t>* seen) const;

    Tree before_;
    std::vector<Operation> operations_;
    std::map<std::string, std::set<std::string>> whole_;
};

}  // namespace ballast::test
