#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/safetensors.h"

namespace ballast {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

struct StoredTensor {
    SafetensorsInfo info;
    uint64_t begin = 0;
    uint64_t end = 0;
};

/// Bytes of an element; nothing for a type we do not know.
std::optional<uint64_t> element_size(std::string_view dtype) {
    static const std::map<std::string_view, uint64_t> kSizes = {
        {"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4},  {"U32", 4},     {"F16", 2},    {"BF16", 2},
        {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
    const auto found = kSizes.find(dtype);
    return found == kSizes.end() ? std::nullopt : std::optional(found->second);
}

template <class From, class To>
void convert(const std::byte* from, int64_t count, void* out) {
    To* to = static_cast<To*>(out);
    for (int64_t i = 0; i < count; ++i) {
        From value;
        std::memcpy(&value, from + i * static_cast<int64_t>(sizeof value), sizeof value);  // may be unaligned
        if constexpr (std::is_same_v<From, f16> || std::is_same_v<From, bf16>) {
            to[i] = static_cast<To>(static_cast<float>(value));
        } else if constexpr (std::is_same_v<To, bf16> || std::is_same_v<To, f16>) {
            to[i] = To(static_cast<float>(value));
        } else {
            to[i] = static_cast<To>(value);
        }
    }
}

/// Whole numbers into another type of them; the first that does not fit, as text.
template <class From, class To>
std::optional<std::string> convert_whole(const std::byte* from, int64_t count, void* out) {
    To* to = static_cast<To*>(out);
    for (int64_t i = 0; i < count; ++i) {
        From value;
        std::memcpy(&value, from + i * static_cast<int64_t>(sizeof value), sizeof value);
        if (!std::in_range<To>(value)) return fmt::format("{}", value);
        to[i] = static_cast<To>(value);
    }
    return std::nullopt;
}

/// Calls visit.template operator()<T>() with the C++ type of `stored`; false when it is none we convert from.
template <class Visit>
bool visit_stored(std::string_view stored, const Visit& visit) {
    if (stored == "F32")
        visit.template operator()<float>();
    else if (stored == "F16")
        visit.template operator()<f16>();
    else if (stored == "BF16")
        visit.template operator()<bf16>();
    else if (stored == "F64")
        visit.template operator()<double>();
    else if (stored == "I64")
        visit.template operator()<int64_t>();
    else if (stored == "U64")
        visit.template operator()<uint64_t>();
    else if (stored == "I32")
        visit.template operator()<int32_t>();
    else if (stored == "U32")
        visit.template operator()<uint32_t>();
    else if (stored == "I16")
        visit.template operator()<int16_t>();
    else if (stored == "U16")
        visit.template operator()<uint16_t>();
    else if (stored == "I8")
        visit.template operator()<int8_t>();
    else if (stored == "U8" || stored == "BOOL")
        visit.template operator()<uint8_t>();
    else
        return false;
    return true;
}

/// False when `stored` does not become a To. UserError naming `tensor` for a whole number that does not fit.
template <class To>
bool convert_from(std::string_view stored, const std::byte* from, int64_t count, void* out, const std::string& tensor) {
    bool converted = true;
    const bool known = visit_stored(stored, [&]<class From>() {
        if constexpr (!std::is_integral_v<To>) {
            convert<From, To>(from, count, out);
        } else if constexpr (std::is_integral_v<From>) {
            if (const auto misfit = convert_whole<From, To>(from, count, out))
                throw UserError(fmt::format("{} holds {}, which is out of range", tensor, *misfit));
        } else {
            converted = false;
        }
    });
    return known && converted;
}

/// Whether the stored bytes already are elements of `dtype`.
bool same_bytes(std::string_view stored, Dtype dtype) {
    switch (dtype) {
        case Dtype::f32: return stored == "F32";
        case Dtype::bf16: return stored == "BF16";
        case Dtype::f16: return stored == "F16";
        case Dtype::f64: return stored == "F64";
        case Dtype::i32: return stored == "I32";
        case Dtype::i64: return stored == "I64";
        case Dtype::i8: return stored == "I8";
        case Dtype::u8: return stored == "U8" || stored == "BOOL";
        case Dtype::u16: return stored == "U16";
        case Dtype::u32: return stored == "U32";
    }
    return false;
}

}  // namespace

int64_t SafetensorsInfo::numel() const {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    return n;
}

struct SafetensorsReader::Impl {
    MappedFile file;
    const std::byte* data = nullptr;
    uint64_t data_bytes = 0;
    std::map<std::string, StoredTensor> tensors;

    explicit Impl(std::string path) : file(std::move(path)) {
        read_header();
        check_cover();
    }

    [[noreturn]] void fail(std::string_view why) const {
        throw UserError(
            fmt::format("{}: not a complete safetensors file: {}; download or export it again", file.path(), why));
    }
    void read_header();
    StoredTensor read_tensor(const std::string& name, const nlohmann::json& entry) const;
    void check_cover() const;
    const StoredTensor& find(const std::string& name) const;
};

void SafetensorsReader::Impl::read_header() {
    const auto bytes = file.bytes();
    uint64_t length = 0;
    if (bytes.size() < sizeof length) fail("it is too short");
    std::memcpy(&length, bytes.data(), sizeof length);
    if (length > kMaxHeaderBytes || length > bytes.size() - sizeof length) fail("its header's length is impossible");
    data = bytes.data() + sizeof length + length;
    data_bytes = bytes.size() - sizeof length - length;

    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof length, length);
    const nlohmann::json header = nlohmann::json::parse(text, nullptr, false);
    if (!header.is_object()) fail("its header is no JSON object");
    for (const auto& [name, entry] : header.items()) {
        if (name != "__metadata__") tensors.emplace(name, read_tensor(name, entry));
    }
}

StoredTensor SafetensorsReader::Impl::read_tensor(const std::string& name, const nlohmann::json& entry) const {
    const auto refuse = [&](std::string_view why) { fail(fmt::format("tensor {} {}", name, why)); };
    if (!entry.is_object()) refuse("has no description");
    const auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
    const auto is_list = [&](auto found) {
        return found != entry.end() && found->is_array() &&
               std::all_of(found->begin(), found->end(), [](const auto& n) { return n.is_number_unsigned(); });
    };
    if (dtype == entry.end() || !dtype->is_string()) refuse("has no dtype");
    if (!is_list(shape)) refuse("has no shape");
    if (!is_list(offsets) || offsets->size() != 2) refuse("has no data_offsets");

    StoredTensor tensor;
    tensor.info.dtype = dtype->get<std::string>();
    const auto element = element_size(tensor.info.dtype);
    if (!element) refuse(fmt::format("has the unknown dtype {}", tensor.info.dtype));
    uint64_t size = *element;
    for (const auto& number : *shape) {
        const auto extent = number.get<uint64_t>();
        // No extent, not even beside a zero, may exceed what fits a count of bytes.
        constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
        if (extent > kMost || (size != 0 && extent > kMost / size)) refuse("has an impossible shape");
        size *= extent;
        tensor.info.shape.push_back(static_cast<int64_t>(extent));
    }
    tensor.begin = offsets->at(0).get<uint64_t>();
    tensor.end = offsets->at(1).get<uint64_t>();
    if (tensor.begin > tensor.end || tensor.end > data_bytes) refuse("reaches beyond the end of the file");
    if (tensor.end - tensor.begin != size) refuse("has a shape that does not fit its data");
    return tensor;
}

void SafetensorsReader::Impl::check_cover() const {
    std::vector<const StoredTensor*> order;
    for (const auto& [name, tensor] : tensors) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
        return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
    });
    uint64_t covered = 0;
    for (const StoredTensor* tensor : order) {
        if (tensor->begin != covered) fail("its tensors overlap or leave gaps");
        covered = tensor->end;
    }
    if (covered != data_bytes) fail("it has more data than tensors");
}

const StoredTensor& SafetensorsReader::Impl::find(const std::string& name) const {
    const auto found = tensors.find(name);
    if (found == tensors.end())
        throw UserError(fmt::format("tensor {} is not in {}; is this the right model?", name, file.path()));
    return found->second;
}

SafetensorsReader::SafetensorsReader(std::string path) : impl_(std::make_unique<Impl>(std::move(path))) {}
SafetensorsReader::~SafetensorsReader() = default;
SafetensorsReader::SafetensorsReader(SafetensorsReader&&) noexcept = default;

const std::string& SafetensorsReader::path() const { return impl_->file.path(); }

bool SafetensorsReader::has(const std::string& name) const { return impl_->tensors.contains(name); }

std::vector<std::string> SafetensorsReader::names() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : impl_->tensors) names.push_back(name);
    return names;
}

const SafetensorsInfo& SafetensorsReader::info(const std::string& name) const { return impl_->find(name).info; }

void SafetensorsReader::read_as(const std::string& name, Dtype dtype, void* out) const {
    const StoredTensor& tensor = impl_->find(name);
    const std::byte* from = impl_->data + tensor.begin;
    const std::string_view stored = tensor.info.dtype;
    const int64_t count = tensor.info.numel();
    if (same_bytes(stored, dtype)) {
        if (count > 0) std::memcpy(out, from, tensor.end - tensor.begin);
        return;
    }
    const std::string what = fmt::format("tensor {} of {}", name, path());
    bool converted = false;
    switch (dtype) {
        case Dtype::f32: converted = convert_from<float>(stored, from, count, out, what); break;
        case Dtype::bf16: converted = convert_from<bf16>(stored, from, count, out, what); break;
        case Dtype::f16: converted = convert_from<f16>(stored, from, count, out, what); break;
        case Dtype::f64: converted = convert_from<double>(stored, from, count, out, what); break;
        case Dtype::i32: converted = convert_from<int32_t>(stored, from, count, out, what); break;
        case Dtype::i64: converted = convert_from<int64_t>(stored, from, count, out, what); break;
        case Dtype::i8: converted = convert_from<int8_t>(stored, from, count, out, what); break;
        case Dtype::u8: converted = convert_from<uint8_t>(stored, from, count, out, what); break;
        case Dtype::u16: converted = convert_from<uint16_t>(stored, from, count, out, what); break;
        case Dtype::u32: converted = convert_from<uint32_t>(stored, from, count, out, what); break;
    }
    if (!converted) {
        throw UserError(
            fmt::format("{} is {}, which cannot become {}; convert it first", what, stored, name_of(dtype)));
    }
}

void SafetensorsReader::read_f32(const std::string& name, std::span<float> out) const {
    const int64_t numel = info(name).numel();
    if (static_cast<int64_t>(out.size()) != numel) {
        throw UserError(fmt::format("tensor {} of {} has {} elements, expected {}; is this the right model?", name,
                                    path(), numel, out.size()));
    }
    read_as(name, Dtype::f32, out.data());
}

SafetensorsFolder::SafetensorsFolder(const std::string& path) : path_(path) {
    const std::filesystem::path folder(path);
    if (!std::filesystem::is_directory(folder)) {
        shards_.emplace(path, SafetensorsReader(path));
    } else if (std::filesystem::exists(folder / kSingleFile)) {
        shards_.emplace(kSingleFile, SafetensorsReader((folder / kSingleFile).string()));
    } else if (std::filesystem::exists(folder / kIndexFile)) {
        open_shards(path);
        return;
    } else {
        const bool pickled = std::filesystem::exists(folder / "pytorch_model.bin") ||
                             std::filesystem::exists(folder / "pytorch_model.bin.index.json");
        throw UserError(fmt::format("{} has neither {} nor {}; {}", path, kSingleFile, kIndexFile,
                                    pickled
                                        ? "its pytorch_model.bin can be converted: load it with transformers and call "
                                          "save_pretrained, which writes safetensors"
                                        : "download or export the model again"));
    }
    const SafetensorsReader& only = shards_.begin()->second;
    for (const std::string& name : only.names()) shard_by_name_[name] = &only;
}

void SafetensorsFolder::open_shards(const std::string& folder) {
    const std::string index_path = (std::filesystem::path(folder) / kIndexFile).string();
    const nlohmann::json index = read_json_file(index_path);
    const auto fail = [&](std::string_view why) {
        throw UserError(fmt::format("{}: {}; download or export the model again", index_path, why));
    };
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
        fail("has no weight_map");
    for (const auto& [name, file] : index["weight_map"].items()) {
        const std::string shard = file.is_string() ? file.get<std::string>() : "";
        // A shard lies beside its index; anything else would let a downloaded index read other files.
        if (shard.empty() || shard.find('/') != std::string::npos)
            fail(fmt::format("tensor {} is in no file of this folder", name));
        auto found = shards_.find(shard);
        if (found == shards_.end()) {
            found = shards_.emplace(shard, SafetensorsReader((std::filesystem::path(folder) / shard).string())).first;
        }
        if (!found->second.has(name)) fail(fmt::format("tensor {} is not in {}", name, shard));
        shard_by_name_[name] = &found->second;
    }
}

bool SafetensorsFolder::has(const std::string& name) const { return shard_by_name_.contains(name); }

std::vector<std::string> SafetensorsFolder::names() const {
    std::vector<std::string> names;
    for (const auto& [name, shard] : shard_by_name_) names.push_back(name);
    return names;
}

const SafetensorsReader& SafetensorsFolder::shard_of(const std::string& name) const {
    const auto found = shard_by_name_.find(name);
    if (found == shard_by_name_.end())
        throw UserError(fmt::format("tensor {} is not in {}; is this the right model?", name, path_));
    return *found->second;
}

}  // namespace ballast
