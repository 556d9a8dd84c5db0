#include "base/hdf5_internal.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace ballast::hdf5 {

namespace {

std::mutex& the_mutex() {
    static std::mutex mutex;
    return mutex;
}

/// A library built with thread safety, as Debian's, prints for each thread, and keeps the words of a thread's last
/// error until its next call; nobody would free those of a thread that ends.
struct ErrorsOfThread {
    ErrorsOfThread() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }
    ~ErrorsOfThread() {
        const std::lock_guard held(the_mutex());
        H5Eclear2(H5E_DEFAULT);
    }
};

}  // namespace

std::unique_lock<std::mutex> lock() {
    std::unique_lock held(the_mutex());
    // It would close once more, and crash on, a file that could not be flushed.
    [[maybe_unused]] static const herr_t prepared = H5dont_atexit();
    [[maybe_unused]] static thread_local const ErrorsOfThread silent;
    return held;
}

std::string last_error() {
    std::string text;
    const auto keep_innermost = [](unsigned, const H5E_error2_t* entry, void* out) -> herr_t {
        if (entry->desc) *static_cast<std::string*>(out) = entry->desc;
        return 0;
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_innermost, &text);
    return text;
}

hid_t file_type(Dtype dtype) {
    switch (dtype) {
        case Dtype::f32: return H5T_IEEE_F32LE;
        case Dtype::f64: return H5T_IEEE_F64LE;
        case Dtype::i32: return H5T_STD_I32LE;
        case Dtype::i64: return H5T_STD_I64LE;
        case Dtype::i8: return H5T_STD_I8LE;
        case Dtype::u8: return H5T_STD_U8LE;
        case Dtype::u32: return H5T_STD_U32LE;
        case Dtype::bf16:
        case Dtype::f16:
        case Dtype::u16: return H5T_STD_U16LE;
    }
    return H5I_INVALID_HID;
}

std::optional<Dtype> dtype_of(hid_t type, std::string_view named) {
    for (Dtype narrow : {Dtype::bf16, Dtype::f16})
        if (named == name_of(narrow))
            return H5Tequal(type, file_type(narrow)) > 0 ? std::optional(narrow) : std::nullopt;
    for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::i32, Dtype::i64, Dtype::i8, Dtype::u8, Dtype::u16, Dtype::u32}) {
        if (H5Tequal(type, file_type(dtype)) > 0) return dtype;
    }
    return std::nullopt;
}

namespace {

/// Adds the range to the selection of `space`: the rest of a row begun, whole rows, the start of another, and so on
/// inwards. `start` holds the coordinates of the dimensions before `d`.
void add_range(hid_t space, std::span<const hsize_t> shape, std::vector<hsize_t>& start, size_t d, hsize_t first,
               hsize_t count) {
    if (count == 0) return;
    const hsize_t row = std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(d) + 1, shape.end(), hsize_t{1},
                                        std::multiplies<>());
    if (const hsize_t within = first % row; within != 0 || count < row) {
        const hsize_t head = std::min(count, row - within);
        start[d] = first / row;
        add_range(space, shape, start, d + 1, within, head);
        add_range(space, shape, start, d, first + head, count - head);
        return;
    }
    std::vector<hsize_t> corner(start), block(shape.begin(), shape.end());
    corner[d] = first / row;
    block[d] = count / row;
    std::fill(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(d), 1);
    std::fill(corner.begin() + static_cast<std::ptrdiff_t>(d) + 1, corner.end(), 0);
    const std::vector<hsize_t> one(shape.size(), 1);
    H5Sselect_hyperslab(space, H5S_SELECT_OR, corner.data(), nullptr, one.data(), block.data());
    add_range(space, shape, start, d, first + block[d] * row, count % row);
}

}  // namespace

Handle select(std::span<const hsize_t> shape, hsize_t first, hsize_t count) {
    if (shape.empty()) return Handle(H5Screate(H5S_SCALAR), H5Sclose);
    Handle space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
    H5Sselect_none(space.get());
    std::vector<hsize_t> start(shape.size(), 0);
    add_range(space.get(), shape, start, 0, first, count);
    return space;
}

std::string to_hex(uint64_t checksum) { return fmt::format("{:016x}", checksum); }

}  // namespace ballast::hdf5
