#include "data/megatron_files.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <string_view>
#include <utility>
#include <xxhash.h>

#include "base/error.h"

namespace ballast::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexMagic("MMIDIDX\0\0", 9), kOldIndexMagic("TNTIDX\0\0", 8);

constexpr int kI32 = 4, kU16 = 8;  // what NAME.idx calls them

/// A little-endian value that stands where it likes.
template <class T>
T value_at(const char* place) {
    T value;
    std::memcpy(&value, place, sizeof value);
    return value;
}

/// The header's numbers, each after the one before.
class IndexHeader {
  public:
    IndexHeader(const MappedFile& file) : file_(file), left_(file.bytes()) {}

    const char* take(uint64_t bytes) {
        if (bytes > left_.size())
            throw UserError(fmt::format("{}: ends after {} bytes, in the middle of its lists; it is cut short",
                                        file_.path(), file_.bytes().size()));
        const auto* place = reinterpret_cast<const char*>(left_.data());
        left_ = left_.subspan(static_cast<size_t>(bytes));
        return place;
    }
    template <class T>
    T number() {
        return value_at<T>(take(sizeof(T)));
    }
    /// A list's size that its file can hold, so that products of it do not overflow.
    uint64_t count() {
        const auto value = number<uint64_t>();
        if (value > file_.bytes().size())
            throw UserError(fmt::format("{}: says that it lists {} things in {} bytes; it is damaged", file_.path(),
                                        value, file_.bytes().size()));
        return value;
    }

  private:
    const MappedFile& file_;
    std::span<const std::byte> left_;
};

Dtype dtype_of_code(int code, const std::string& path) {
    switch (code) {
        case kI32: return Dtype::i32;
        case kU16: return Dtype::u16;
        default:
            throw UserError(
                fmt::format("{}: its tokens have type {}; types 4 (i32) and 8 (u16) can be read", path, code));
    }
}

/// NAME of NAME.idx and NAME.bin.
std::string name_of_set(const std::string& path) { return path.substr(0, path.size() - 4); }

/// NAME-00002-of-00082.bin
std::string slice_path(const std::string& name, int64_t slice, int64_t last) {
    return fmt::format("{}-{:05}-of-{:05}.bin", name, slice, last);
}

/// The number of the last slice beside `name`; -1: there is none. The first slice's name has it. UserError for two sets
/// of slices, of which either may be meant.
int64_t last_slice(const std::string& name) {
    const fs::path folder = fs::path(name).parent_path();
    const std::string first = fs::path(name).filename().string() + "-00000-of-";
    int64_t last = -1;
    for (const fs::path entry : entries_of(folder.empty() ? "." : folder.string())) {
        const std::string file = entry.filename().string();
        if (file.size() != first.size() + 9 || !file.starts_with(first) || !file.ends_with(".bin") ||
            !std::all_of(file.end() - 9, file.end() - 4, [](char c) { return c >= '0' && c <= '9'; }))
            continue;
        const int64_t other = std::exchange(last, std::stoll(file.substr(first.size(), 5)));
        if (other >= 0)
            throw UserError(fmt::format("{} and {} begin two sets of slices of one name; move one set elsewhere",
                                        slice_path(name, 0, std::min(other, last)),
                                        slice_path(name, 0, std::max(other, last))));
    }
    return last;
}

}  // namespace

bool MegatronFiles::is_name(const std::string& path) { return path.ends_with(".idx") || path.ends_with(".bin"); }

std::vector<std::string> MegatronFiles::both_names(const std::string& path) {
    return {name_of_set(path) + ".idx", name_of_set(path) + ".bin"};
}

MegatronFiles::MegatronFiles(const std::string& path) : index_(name_of_set(path) + ".idx") {
    read_index(index_.path());
    open_slices(name_of_set(path));
    num_tokens_ = checked_tokens(index_.path());
}

void MegatronFiles::read_index(const std::string& path) {
    IndexHeader header(index_);
    const auto bytes = index_.bytes();
    const std::string_view begin(reinterpret_cast<const char*>(bytes.data()),
                                 std::min(bytes.size(), kIndexMagic.size()));
    if (begin.starts_with(kOldIndexMagic))
        throw UserError(fmt::format(
            "{}: an index of the older kind (TNTIDX), which is not read; write it again with --dataset-impl mmap",
            path));
    if (begin != kIndexMagic) throw UserError(fmt::format("{}: not an index of Megatron-LM or GPT-NeoX", path));
    header.take(kIndexMagic.size());
    if (const auto version = header.number<uint64_t>(); version != 1)
        throw UserError(fmt::format("{}: an index of version {}; version 1 can be read", path, version));
    dtype_ = dtype_of_code(header.number<uint8_t>(), path);
    const uint64_t sequences = header.count(), documents = header.count();
    lengths_ = header.take(sequences * sizeof(int32_t));
    places_ = header.take(sequences * sizeof(int64_t));
    header.take(documents * sizeof(int64_t));
    num_documents_ = static_cast<int64_t>(sequences);
}

void MegatronFiles::add_slice(const std::string& path) {
    MappedFile file(path);
    const size_t bytes = file.bytes().size(), size = size_of(dtype_);
    if (bytes % size != 0)
        throw UserError(fmt::format("{}: {} bytes are no whole number of {} tokens; it is cut short", path, bytes,
                                    name_of(dtype_)));
    const int64_t first = slices_.empty() ? 0 : slices_.back().first + slices_.back().count;
    slices_.push_back({std::move(file), first, static_cast<int64_t>(bytes / size)});
}

void MegatronFiles::open_slices(const std::string& name) {
    const int64_t last = fs::exists(name + ".bin") ? -1 : last_slice(name);
    if (last < 0) return add_slice(name + ".bin");
    for (int64_t slice = 0; slice <= last; ++slice) add_slice(slice_path(name, slice, last));
}

int32_t MegatronFiles::length_of(int64_t document) const {
    return value_at<int32_t>(lengths_ + document * static_cast<int64_t>(sizeof(int32_t)));
}

int64_t MegatronFiles::document_offset(int64_t d) const {
    if (d == num_documents_) return num_tokens_;
    return value_at<int64_t>(places_ + d * static_cast<int64_t>(sizeof(int64_t))) /
           static_cast<int64_t>(size_of(dtype_));
}

int64_t MegatronFiles::checked_tokens(const std::string& path) const {
    const auto size = static_cast<int64_t>(size_of(dtype_));
    int64_t tokens = 0;
    for (int64_t d = 0; d < num_documents_; ++d) {
        const auto place = value_at<int64_t>(places_ + d * static_cast<int64_t>(sizeof(int64_t)));
        if (length_of(d) < 0 || place != tokens * size)
            throw UserError(
                fmt::format("{}: document {} of {} tokens stands at byte {}, where {} was expected; it is damaged",
                            path, d, length_of(d), place, tokens * size));
        tokens += length_of(d);
    }
    const int64_t there = slices_.back().first + slices_.back().count;
    if (tokens != there)
        throw UserError(
            fmt::format("{} lists {} tokens, but {} holds {}; they do not belong together, or a part is missing", path,
                        tokens, slices_.size() == 1 ? slices_[0].file.path() : "its slices' files", there));
    return tokens;
}

void MegatronFiles::read(int64_t first, int64_t count, int32_t* out) const {
    auto slice = std::upper_bound(slices_.begin(), slices_.end(), first,
                                  [](int64_t token, const Slice& s) { return token < s.first; }) -
                 1;
    for (; count > 0; ++slice) {
        const int64_t skip = first - slice->first, take = std::min(count, slice->count - skip);
        const auto* from =
            reinterpret_cast<const char*>(slice->file.bytes().data()) + skip * static_cast<int64_t>(size_of(dtype_));
        for (int64_t i = 0; i < take; ++i)
            out[i] = dtype_ == Dtype::u16 ? int32_t{value_at<uint16_t>(from + 2 * i)} : value_at<int32_t>(from + 4 * i);
        out += take;
        first += take;
        count -= take;
    }
}

std::string MegatronFiles::checksums() const {
    constexpr int64_t kRun = 1 << 14, kRuns = 64;
    const auto lengths = static_cast<size_t>(num_documents_) * sizeof(int32_t);
    const int64_t runs = std::min(kRuns, (num_tokens_ + kRun - 1) / kRun),
                  last = std::max<int64_t>(0, num_tokens_ - kRun);
    std::vector<int32_t> run(static_cast<size_t>(std::min(kRun, num_tokens_)));
    XXH64_hash_t tokens = 0;
    for (int64_t r = 0; r < runs; ++r) {
        read(runs == 1 ? 0 : last * r / (runs - 1), std::ssize(run), run.data());
        tokens = XXH3_64bits_withSeed(run.data(), run.size() * sizeof(int32_t), tokens);
    }
    return fmt::format("xxh3_64 {:016x} {:016x}", XXH3_64bits(lengths_, lengths), tokens);
}

std::vector<std::string> MegatronFiles::other_files() const {
    std::vector<std::string> files{index_.path()};
    for (const Slice& slice : slices_) files.push_back(slice.file.path());
    return files;
}

MegatronWriter::MegatronWriter(const std::string& path, Dtype dtype)
    : dtype_(dtype), tokens_(name_of_set(path) + ".bin"), index_(name_of_set(path) + ".idx") {}

void MegatronWriter::append_tokens(const void* tokens, int64_t count) {
    tokens_.write(tokens, static_cast<size_t>(count) * size_of(dtype_));
}

void MegatronWriter::commit(int64_t num_documents, const std::function<void(const VisitEnds&)>& for_each) {
    const auto number = [this](auto value) { index_.write(&value, sizeof value); };
    index_.write(kIndexMagic);
    number(uint64_t{1});
    number(static_cast<uint8_t>(dtype_ == Dtype::u16 ? kU16 : kI32));
    number(static_cast<uint64_t>(num_documents));
    number(static_cast<uint64_t>(num_documents) + 1);
    /// One list of T: what `make` says of each document's begin and end.
    const auto list = [&]<class T>(T, auto&& make) {
        int64_t begin = 0;
        std::vector<T> values;
        for_each([&](std::span<const int64_t> ends) {
            values.clear();
            for (const int64_t end : ends) values.push_back(make(std::exchange(begin, end), end));
            index_.write(values.data(), values.size() * sizeof(T));
        });
    };
    list(int32_t{}, [](int64_t begin, int64_t end) {
        if (end - begin > std::numeric_limits<int32_t>::max())
            throw UserError(fmt::format("a document of {} tokens is longer than .idx files can say; write an .h5 store",
                                        end - begin));
        return static_cast<int32_t>(end - begin);
    });
    list(int64_t{}, [this](int64_t begin, int64_t) { return begin * static_cast<int64_t>(size_of(dtype_)); });
    list(int64_t{}, [document = int64_t{0}](int64_t, int64_t) mutable { return document++; });
    number(num_documents);
    // The last to come and the first to go: an old index would find as many tokens in a new .bin and cut them wrongly.
    index_.remove_old();
    tokens_.commit();
    index_.commit();
}

}  // namespace ballast::data
