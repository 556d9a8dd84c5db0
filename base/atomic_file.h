// Files that appear as a whole or not at all.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ballast {

/// Writes to a temporary file, PATH.tmp-1, or with a higher number where another writer has that name; commit() renames
/// it to PATH. Whatever interrupts the writer, PATH is the old file or the new file, never a part of
/// one. A symbolic link is followed: its target gets the content, and the link stays. Two writers of one PATH in one
/// process are not supported. The next writer of PATH removes the temporary files of writers that were killed. Every
/// function throws UserError with the system's reason (full disk, no permission, …). The constructor also refuses a
/// PATH that a rename would destroy: a folder, a device, a pipe.
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
    /// Removes the old file at PATH, lastingly. For a file without which nobody reads another one that is about to be
    /// replaced too.
    void remove_old();
    /// Frees the disk space before the file is closed.
    void discard() noexcept;

  private:
    std::string path_;    // as the caller names it, for messages
    std::string target_;  // path_ with its symbolic links resolved
    std::string temporary_path_;
    int descriptor_ = -1;
};

/// Makes `folder` and its missing parents, and syncs them to the disk. UserError that names the folder.
void make_folders(const std::string& folder);

/// Syncs the entries of `folder` to the disk: files that were made, renamed or removed. UserError when the disk
/// refuses.
void sync_folder(const std::string& folder);

/// Throws now the error that AtomicFile(path) would throw after hours of work: no such folder, no permission, not a
/// regular file. Every command that writes a result at its end calls this function first.
void require_writable(const std::string& path);

/// UserError when `output` is the same file as one of `inputs`, under any name: writing would destroy the input.
void require_not_an_input(const std::string& output, std::span<const std::string> inputs);

/// True when both paths lead to one place, whether or not anything is there yet: in other words, or through links.
bool same_place(const std::string& a, const std::string& b);

/// A file that a command writes.
struct Output {
    std::string option, path;  // the option that names it; an empty path: it is not written
};

/// UserError when two of the outputs are the same file, under any name: one would replace the other.
void require_different_outputs(const std::vector<Output>& outputs);

/// Removes the temporary files that killed writers left in `folder`. Only for a folder that has no other writers.
void remove_abandoned_temporaries(const std::string& folder);

/// `text` becomes the content of `path`, atomically.
void write_file(const std::string& path, std::string_view text);

/// As write_file(), but does not wait for the disk and does not remove old temporary files. For small files that are
/// rewritten often and mean nothing after the writer ends. A reader finds the old text or the new text; after a loss of
/// power the file may hold neither.
void replace_file(const std::string& path, std::string_view text);

/// The whole file. UserError when it cannot be read.
std::string read_file(const std::string& path);

/// The paths of what is in `folder`; nothing when there is no such folder. UserError when it cannot be read, so that
/// nobody takes it for empty.
std::vector<std::string> entries_of(const std::string& folder);

}  // namespace ballast
