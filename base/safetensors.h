// Hugging Face's weight files (https://huggingface.co/docs/safetensors): a little-endian u64 length, a JSON header, and
// the tensors' bytes back to back. A model is one file, or a folder of shards with model.safetensors.index.json.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace ballast {

struct SafetensorsInfo {
    std::string dtype;  // as in the file: "F32", "BF16", "F16", "BOOL", …
    std::vector<int64_t> shape;

    int64_t numel() const;
};

/// Reads one file through a mapping. The constructor checks everything that the header states: each tensor's size must
/// follow from its shape and type, and the tensors must cover the data without gap or overlap. A wrong header is a
/// UserError.
class SafetensorsReader {
  public:
    explicit SafetensorsReader(std::string path);
    ~SafetensorsReader();
    SafetensorsReader(SafetensorsReader&&) noexcept;

    const std::string& path() const;
    bool has(const std::string& name) const;
    std::vector<std::string> names() const;  // sorted
    /// UserError when there is no such tensor.
    const SafetensorsInfo& info(const std::string& name) const;

    /// Converts all elements to `dtype`; `out` has room for numel() elements. A floating-point dtype takes any stored
    /// number type or BOOL, and rounds to nearest. An integer dtype takes integers and BOOL. UserError for other
    /// combinations, and for an integer that does not fit.
    void read_as(const std::string& name, Dtype dtype, void* out) const;
    /// The same, converted to float; `out` must have exactly numel() elements.
    void read_f32(const std::string& name, std::span<float> out) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// A model folder: model.safetensors, or the shards listed by model.safetensors.index.json, as one set of names. The
/// constructor opens every shard and looks up every listed tensor.
class SafetensorsFolder {
  public:
    /// `path` may also be a .safetensors file itself.
    explicit SafetensorsFolder(const std::string& path);

    bool has(const std::string& name) const;
    std::vector<std::string> names() const;  // sorted
    const SafetensorsInfo& info(const std::string& name) const { return shard_of(name).info(name); }
    void read_as(const std::string& name, Dtype dtype, void* out) const { shard_of(name).read_as(name, dtype, out); }
    void read_f32(const std::string& name, std::span<float> out) const { shard_of(name).read_f32(name, out); }

  private:
    const SafetensorsReader& shard_of(const std::string& name) const;
    void open_shards(const std::string& folder);

    std::string path_;
    std::map<std::string, SafetensorsReader> shards_;                // by file name
    std::map<std::string, const SafetensorsReader*> shard_by_name_;  // tensor → its shard
};

/// A tensor to be written. The data must stay unchanged in memory until commit().
struct SafetensorsEntry {
    std::string name;
    Dtype dtype;
    std::vector<int64_t> shape;
    const void* data;

    int64_t bytes() const;
};

/// Writes one file, atomically, with the metadata {"format": "pt"} that transformers requires. The tensors are stored
/// in the order in which they were added.
class SafetensorsWriter {
  public:
    explicit SafetensorsWriter(std::string path) : path_(std::move(path)) {}

    void add(std::string name, Dtype dtype, std::span<const int64_t> shape, const void* data);
    void commit();

  private:
    std::string path_;
    std::vector<SafetensorsEntry> entries_;
};

/// Writes FOLDER/model.safetensors. When the tensors exceed `max_shard_bytes`, it writes the shards
/// model-00001-of-0000N.safetensors and then their index instead. A shard is at most that large unless a single tensor
/// is larger. A single file from an earlier export would hide the shards, and an old index would hide the single file:
/// commit() removes such a file.
class SafetensorsFolderWriter {
  public:
    static constexpr int64_t kDefaultShardBytes = 5'000'000'000;  // as in transformers

    /// Makes the folder when it is missing.
    explicit SafetensorsFolderWriter(std::string folder, int64_t max_shard_bytes = kDefaultShardBytes);

    void add(std::string name, Dtype dtype, std::span<const int64_t> shape, const void* data);
    void commit();

  private:
    void write_shards(const std::vector<std::vector<SafetensorsEntry>>& shards) const;

    std::string folder_;
    int64_t max_shard_bytes_;
    std::vector<SafetensorsEntry> entries_;
};

}  // namespace ballast
