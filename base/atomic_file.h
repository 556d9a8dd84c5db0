// Files that appear whole or not at all.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ballast {

/// Writes aside, to PATH.tmp-<pid>; commit() makes it PATH. Whatever interrupts the writer, PATH is the old file or the
/// new one, never a part. A symbolic link is followed: the file that it leads to gets the content, and the link stays.
/// Two writers of one PATH in one process are not supported. What a killed writer of PATH left is removed by the next.
/// Every function throws UserError with the system's reason (full disk, no permission, …). The constructor also refuses
/// what a rename would destroy: a folder, a device, a pipe.
class AtomicFile {
  public:
    explicit AtomicFile(std::string path);
    ~AtomicFile();  // without commit(): the temporary is removed
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    const std::string& path() const { return path_; }
    /// For libraries that insist on opening the file themselves.
    const std::string& temporary_path() const { return temporary_path_; }

    void write(const void* data, size_t bytes);
    void write(std::string_view text) { write(text.data(), text.size()); }

    /// Flushes to the disk, renames over PATH and flushes the folder's entry too.
    void commit();
    /// Gives the space back before the file is closed.
    void discard() noexcept;

  private:
    std::string path_;    // as the caller names it, for messages
    std::string target_;  // where its links lead
    std::string temporary_path_;
    int descriptor_ = -1;
};

/// Makes `folder` and those above it that are missing, so that they survive a loss of power. UserError naming it.
void make_folders(const std::string& folder);

/// Puts what was made, renamed and removed in `folder` on the disk. UserError when the disk refuses.
void sync_folder(const std::string& folder);

/// Throws now what AtomicFile(path) would throw after hours of work: no such folder, no permission, not a regular file.
/// Every command that writes a result at its end calls this for it first.
void require_writable(const std::string& path);

/// UserError when `output` is one of the files `inputs`, by whatever name: writing it would destroy what is read.
void require_not_an_input(const std::string& output, std::span<const std::string> inputs);

/// Removes what writers that were killed left in `folder`. Only for a folder that nobody else writes to.
void remove_abandoned_temporaries(const std::string& folder);

/// `text` becomes the content of `path`, atomically.
void write_file(const std::string& path, std::string_view text);

/// The same without waiting for the disk and without care for what a killed writer left, for what is written often and
/// means nothing once the writer is gone: a reader finds the old text or the new one, but after a loss of power maybe
/// neither.
void replace_file(const std::string& path, std::string_view text);

/// The whole file. UserError when it cannot be read.
std::string read_file(const std::string& path);

}  // namespace ballast
