#include "data/npy_file.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/atomic_file.h"
#include "base/error.h"

namespace ballast::data {
namespace {

constexpr std::string_view kNpyMagic = "\x93NUMPY";
constexpr size_t kAlignment = 64;  // of the first element

/// The dictionary before the elements: {'descr': '<i4', 'fortran_order': False, 'shape': (5, 2), }
class NpyHeader {
  public:
    NpyHeader(std::string_view text, const std::string& path) : rest_(text), path_(path) {
        take("{");
        while (!at('}')) {
            const std::string_view key = quoted();
            take(":");
            if (key == "descr")
                descr = quoted();
            else if (key == "fortran_order")
                fortran_order = word() == "True";
            else if (key == "shape")
                read_shape();
            else
                fail(fmt::format("its header has a key {}", key));
            if (!at('}')) take(",");
        }
        if (descr.empty() || !fortran_order || !shape) fail("its header lacks descr, fortran_order or shape");
    }

    std::string_view descr;
    std::optional<bool> fortran_order;
    std::optional<std::vector<int64_t>> shape;

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw UserError(fmt::format("{}: {}; it is damaged, or of another kind", path_, what));
    }
    void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size())); }
    bool at(char c) {
        skip_space();
        return rest_.starts_with(c);
    }
    void take(std::string_view mark) {
        skip_space();
        if (!rest_.starts_with(mark)) fail(fmt::format("its header has no {} where one is due", mark));
        rest_.remove_prefix(mark.size());
    }
    std::string_view up_to(size_t end) {
        if (end == std::string_view::npos) fail("its header ends too early");
        const std::string_view text = rest_.substr(0, end);
        rest_.remove_prefix(end);
        return text;
    }
    std::string_view quoted() {
        take("'");
        const std::string_view text = up_to(rest_.find('\''));
        take("'");
        return text;
    }
    std::string_view word() {
        skip_space();
        return up_to(rest_.find_first_of(" ,}"));
    }
    void read_shape() {
        shape.emplace();
        take("(");
        while (!at(')')) {
            int64_t extent = 0;
            const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
            if (error != std::errc() || extent < 0) fail("its shape is none");
            shape->push_back(extent);
            rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
            if (!at(')')) take(",");
        }
        take(")");
    }

    std::string_view rest_;
    const std::string& path_;
};

Dtype dtype_of(std::string_view descr, const std::string& path) {
    if (descr == "<i4") return Dtype::i32;
    if (descr == "<u4") return Dtype::u32;
    if (descr == "<i8") return Dtype::i64;
    throw UserError(fmt::format("{}: its elements are {}; <i4, <u4 and <i8 can be read", path, descr));
}

template <class T>
int64_t element(const std::byte* elements, int64_t i) {
    T value;
    std::memcpy(&value, elements + i * static_cast<int64_t>(sizeof(T)), sizeof value);
    return value;
}

}  // namespace

NpyFile::NpyFile(const std::string& path) : file_(path) {
    const auto bytes = file_.bytes();
    const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (!all.starts_with(kNpyMagic) || all.size() < 12)
        throw UserError(fmt::format("{}: not a .npy file; it does not begin as one", path));
    const auto version = static_cast<unsigned char>(all[6]);
    if (version < 1 || version > 3)
        throw UserError(fmt::format("{}: .npy version {}; 1 to 3 can be read", path, version));
    uint32_t length = 0;
    const size_t length_bytes = version == 1 ? 2 : 4, begin = 8 + length_bytes;
    std::memcpy(&length, all.data() + 8, length_bytes);
    if (length > all.size() - begin)
        throw UserError(fmt::format("{}: ends after {} bytes, in its header; it is cut short", path, all.size()));
    const NpyHeader header(all.substr(begin, length), path);
    if (*header.fortran_order)
        throw UserError(fmt::format("{}: its elements stand in Fortran's order; save numpy.ascontiguousarray()", path));
    dtype_ = dtype_of(header.descr, path);
    shape_ = *header.shape;
    const size_t held = (all.size() - begin - length) / size_of(dtype_);
    for (const int64_t extent : shape_) {
        if (extent > 0 && numel_ > static_cast<int64_t>(held) / extent)
            throw UserError(
                fmt::format("{}: its shape has more elements than the {} that it holds; it is cut short", path, held));
        numel_ *= extent;
    }
    elements_ = bytes.data() + begin + length;
    if (begin + length + static_cast<size_t>(numel_) * size_of(dtype_) != all.size())
        throw UserError(fmt::format("{}: holds more bytes than its {} elements; it is damaged", path, numel_));
}

int64_t NpyFile::operator[](int64_t i) const {
    switch (dtype_) {
        case Dtype::i32: return element<int32_t>(elements_, i);
        case Dtype::u32: return element<uint32_t>(elements_, i);
        default: return element<int64_t>(elements_, i);
    }
}

uint64_t NpyFile::checksum() const { return XXH3_64bits(file_.bytes().data(), file_.bytes().size()); }

void write_npy(const std::string& path, Dtype dtype, const std::vector<int64_t>& shape, const void* elements) {
    require(dtype == Dtype::u16 || dtype == Dtype::i32, "an .npy file of u16 or i32");
    const std::string extents = fmt::format("{}{}", fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
    std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                     dtype == Dtype::u16 ? "<u2" : "<i4", extents);
    const size_t before = kNpyMagic.size() + 4;
    header.append(kAlignment - 1 - (before + header.size()) % kAlignment, ' ').push_back('\n');
    const auto length = static_cast<uint16_t>(header.size());
    size_t bytes = size_of(dtype);
    for (const int64_t extent : shape) bytes *= static_cast<size_t>(extent);
    AtomicFile file(path);
    file.write(kNpyMagic);
    file.write(std::string_view("\x01\x00", 2));
    file.write(&length, sizeof length);
    file.write(header);
    file.write(elements, bytes);
    file.commit();
}

}  // namespace ballast::data
