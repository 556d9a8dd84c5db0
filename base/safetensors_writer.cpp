#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json_file.h"
#include "base/safetensors.h"

namespace ballast {
namespace {

constexpr size_t kHeaderAlignment = 8;

std::string_view stored_name(Dtype dtype) {
    switch (dtype) {
        case Dtype::f32: return "F32";
        case Dtype::bf16: return "BF16";
        case Dtype::f16: return "F16";
        case Dtype::f64: return "F64";
        case Dtype::i32: return "I32";
        case Dtype::i64: return "I64";
        case Dtype::i8: return "I8";
        case Dtype::u8: return "U8";
        case Dtype::u16: return "U16";
        case Dtype::u32: return "U32";
    }
    return "?";
}

std::string header_of(std::span<const SafetensorsEntry> entries) {
    nlohmann::ordered_json header;
    header["__metadata__"]["format"] = "pt";
    int64_t offset = 0;
    for (const SafetensorsEntry& entry : entries) {
        require(!header.contains(entry.name), fmt::format("tensor {} added twice", entry.name));
        header[entry.name] = {{"dtype", stored_name(entry.dtype)},
                              {"shape", entry.shape},
                              {"data_offsets", {offset, offset + entry.bytes()}}};
        offset += entry.bytes();
    }
    std::string text = header.dump();
    text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
    return text;
}

void write_entries(const std::string& path, std::span<const SafetensorsEntry> entries) {
    AtomicFile file(path);
    const std::string header = header_of(entries);
    const uint64_t length = header.size();
    file.write(&length, sizeof length);
    file.write(header);
    for (const SafetensorsEntry& entry : entries) file.write(entry.data, static_cast<size_t>(entry.bytes()));
    file.commit();
}

/// Fills one shard after the other in the given order, as transformers does.
std::vector<std::vector<SafetensorsEntry>> cut_into_shards(std::span<const SafetensorsEntry> entries,
                                                           int64_t max_bytes) {
    std::vector<std::vector<SafetensorsEntry>> shards(1);
    int64_t filled = 0;
    for (const SafetensorsEntry& entry : entries) {
        if (!shards.back().empty() && filled + entry.bytes() > max_bytes) {
            shards.emplace_back();
            filled = 0;
        }
        filled += entry.bytes();
        shards.back().push_back(entry);
    }
    return shards;
}

std::string path_in(const std::string& folder, std::string_view file) {
    return (std::filesystem::path(folder) / file).string();
}

}  // namespace

int64_t SafetensorsEntry::bytes() const {
    int64_t n = static_cast<int64_t>(size_of(dtype));
    for (int64_t extent : shape) n *= extent;
    return n;
}

void SafetensorsWriter::add(std::string name, Dtype dtype, std::span<const int64_t> shape, const void* data) {
    entries_.push_back({std::move(name), dtype, {shape.begin(), shape.end()}, data});
}

void SafetensorsWriter::commit() { write_entries(path_, entries_); }

SafetensorsFolderWriter::SafetensorsFolderWriter(std::string folder, int64_t max_shard_bytes)
    : folder_(std::move(folder)), max_shard_bytes_(max_shard_bytes) {
    make_folders(folder_);
}

void SafetensorsFolderWriter::add(std::string name, Dtype dtype, std::span<const int64_t> shape, const void* data) {
    entries_.push_back({std::move(name), dtype, {shape.begin(), shape.end()}, data});
}

void SafetensorsFolderWriter::commit() {
    const auto shards = cut_into_shards(entries_, max_shard_bytes_);
    const std::string single = path_in(folder_, "model.safetensors");
    const std::string index = path_in(folder_, "model.safetensors.index.json");
    if (shards.size() == 1) {
        write_entries(single, shards.front());
        std::filesystem::remove(index);
    } else {
        write_shards(shards);
        std::filesystem::remove(single);
    }
}

void SafetensorsFolderWriter::write_shards(const std::vector<std::vector<SafetensorsEntry>>& shards) const {
    nlohmann::ordered_json index;
    index["metadata"]["total_size"] = 0;
    int64_t total = 0;
    for (size_t i = 0; i < shards.size(); ++i) {
        const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        write_entries(path_in(folder_, file), shards[i]);
        for (const SafetensorsEntry& entry : shards[i]) {
            require(!index["weight_map"].contains(entry.name), fmt::format("tensor {} added twice", entry.name));
            index["weight_map"][entry.name] = file;
            total += entry.bytes();
        }
    }
    index["metadata"]["total_size"] = total;
    write_json_file(path_in(folder_, "model.safetensors.index.json"), index);
}

}  // namespace ballast
