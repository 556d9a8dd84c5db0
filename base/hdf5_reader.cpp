#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/hdf5_file.h"
#include "base/hdf5_internal.h"
#include "base/mapped_file.h"

namespace ballast {
namespace {

using hdf5::Handle;

/// An open dataset, its claims checked against each other and the file.
struct OpenDataset {
    Handle id;
    Dtype dtype{};
    std::vector<hsize_t> shape;
    hsize_t numel = 1;
};

std::string describe(Dtype dtype, std::span<const int64_t> shape) {
    return fmt::format("{}[{}]", name_of(dtype), fmt::join(shape, ", "));
}

/// The text of an attribute of fixed or variable length; nothing when it is no text.
std::optional<std::string> read_text(hid_t attribute) {
    const Handle type(H5Aget_type(attribute), H5Tclose);
    const Handle space(H5Aget_space(attribute), H5Sclose);
    if (!type || H5Tget_class(type.get()) != H5T_STRING || H5Sget_simple_extent_npoints(space.get()) != 1) return {};
    std::string text;
    if (H5Tis_variable_str(type.get()) > 0) {
        char* value = nullptr;
        const Handle memory(H5Tcopy(type.get()), H5Tclose);
        if (H5Aread(attribute, memory.get(), &value) < 0) return {};
        if (value) text = value;
        H5free_memory(value);
        return text;
    }
    const size_t size = H5Tget_size(type.get());
    if (size == 0 || size > H5Aget_storage_size(attribute)) return {};
    text.resize(size);
    if (H5Aread(attribute, type.get(), text.data()) < 0) return {};
    text.resize(std::min(text.find('\0'), text.size()));
    return text;
}

std::optional<std::string> text_attribute(hid_t object, const char* name) {
    if (H5Aexists(object, name) <= 0) return {};
    const Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose);
    return attribute ? read_text(attribute.get()) : std::nullopt;
}

/// True when every group on the way and the last link are there (HDF5 answers only for the last).
bool link_exists(hid_t file, const std::string& name) {
    for (size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
        if (H5Lexists(file, name.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return false;
        if (slash == std::string::npos) return true;
    }
}

}  // namespace

struct Hdf5Reader::Impl {
    MappedFile map;  // opened first: it says best why a file cannot be opened
    Handle file;

    explicit Impl(std::string path) : map(std::move(path)) {
        const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
        H5Pset_file_locking(access.get(), false, true);
        H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
        file = Handle(H5Fopen(map.path().c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
        if (!file) {
            throw UserError(fmt::format("cannot read {}: not a complete HDF5 file (HDF5 says \"{}\"); make it again",
                                        map.path(), hdf5::last_error()));
        }
    }

    [[noreturn]] void fail(const std::string& name, std::string_view why) const {
        throw UserError(fmt::format("dataset {} of {}: {}", name, map.path(), why));
    }
    [[noreturn]] void fail_damaged(const std::string& name) const {
        fail(name, fmt::format("damaged (HDF5 says \"{}\"); make the file again", hdf5::last_error()));
    }

    OpenDataset open(const std::string& name) const;
    void check_extent(const std::string& name, OpenDataset& dataset) const;
    void read(const std::string& name, const OpenDataset& dataset, void* out, hsize_t first, hsize_t count) const;
    std::string stored_checksum(const std::string& name, const OpenDataset& dataset) const;
    Handle open_attribute(const std::string& name, H5T_class_t wanted, std::string_view what) const;
};

OpenDataset Hdf5Reader::Impl::open(const std::string& name) const {
    OpenDataset dataset;
    dataset.id = Handle(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT), H5Dclose);
    if (!dataset.id) {
        if (!link_exists(file.get(), name)) fail(name, "not in the file; see `h5ls -r` for what is");
        fail_damaged(name);
    }
    const Handle type(H5Dget_type(dataset.id.get()), H5Tclose);
    const auto named = text_attribute(dataset.id.get(), hdf5::kDtypeAttribute);
    const auto dtype = hdf5::dtype_of(type.get(), named.value_or(""));
    if (!dtype) fail(name, "its element type is none of f32, f64, i32, i64, u8, u16, u32, bf16, fp16, little-endian");
    dataset.dtype = *dtype;
    check_extent(name, dataset);
    return dataset;
}

void Hdf5Reader::Impl::check_extent(const std::string& name, OpenDataset& dataset) const {
    const Handle space(H5Dget_space(dataset.id.get()), H5Sclose);
    const int rank = H5Sget_simple_extent_ndims(space.get());
    if (rank < 0 || H5Sget_simple_extent_type(space.get()) == H5S_NULL) fail(name, "has no shape");
    dataset.shape.resize(static_cast<size_t>(rank));
    if (rank > 0) H5Sget_simple_extent_dims(space.get(), dataset.shape.data(), nullptr);

    const hsize_t most = static_cast<hsize_t>(std::numeric_limits<int64_t>::max()) / size_of(dataset.dtype);
    if (std::find(dataset.shape.begin(), dataset.shape.end(), 0u) != dataset.shape.end()) dataset.numel = 0;
    for (hsize_t extent : dataset.shape) {
        if (dataset.numel != 0 && extent > most / dataset.numel)
            fail(name, "its shape is impossible; make the file again");
        dataset.numel *= extent;
    }
    const Handle layout(H5Dget_create_plist(dataset.id.get()), H5Pclose);
    if (H5Pget_external_count(layout.get()) != 0)
        fail(name, "keeps its data in another file; rewrite it with h5repack");
    const hsize_t stored = H5Dget_storage_size(dataset.id.get()), bytes = dataset.numel * size_of(dataset.dtype);
    // Callers take memory for a dataset's shape. Of chunks, which may be compressed or were never written, deflate's
    // best is 1032 to 1.
    constexpr hsize_t kBestCompression = 1032;
    const bool contiguous = H5Pget_layout(layout.get()) == H5D_CONTIGUOUS;
    if (contiguous ? bytes != stored : bytes / kBestCompression > stored)
        fail(name, "its shape does not fit its data; make the file again");
}

void Hdf5Reader::Impl::read(const std::string& name, const OpenDataset& dataset, void* out, hsize_t first,
                            hsize_t count) const {
    if (count == 0) return;
    const Handle memory(H5Screate_simple(1, &count, nullptr), H5Sclose);
    const Handle range = hdf5::select(dataset.shape, first, count);
    if (H5Dread(dataset.id.get(), hdf5::file_type(dataset.dtype), memory.get(), range.get(), H5P_DEFAULT, out) < 0) {
        fail_damaged(name);
    }
}

std::string Hdf5Reader::Impl::stored_checksum(const std::string& name, const OpenDataset& dataset) const {
    const auto text = text_attribute(dataset.id.get(), hdf5::kChecksumAttribute);
    if (!text) fail(name, "carries no checksum: Ballast did not write it, or it is damaged");
    return *text;
}

Handle Hdf5Reader::Impl::open_attribute(const std::string& name, H5T_class_t wanted, std::string_view what) const {
    const auto refuse = [&](std::string_view why) {
        throw UserError(fmt::format("attribute {} of {}: {}", name, map.path(), why));
    };
    if (H5Aexists(file.get(), name.c_str()) <= 0) refuse("not in the file");
    Handle attribute(H5Aopen(file.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
    if (!attribute) refuse("damaged; make the file again");
    const Handle type(H5Aget_type(attribute.get()), H5Tclose);
    const Handle space(H5Aget_space(attribute.get()), H5Sclose);
    if (H5Tget_class(type.get()) != wanted || H5Sget_simple_extent_npoints(space.get()) != 1) {
        refuse(fmt::format("is not {}", what));
    }
    return attribute;
}

int64_t Hdf5Dataset::numel() const {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    return n;
}

Hdf5Reader::Hdf5Reader(std::string path) {
    const auto held = hdf5::lock();
    impl_ = std::make_unique<Impl>(std::move(path));
}

Hdf5Reader::~Hdf5Reader() {
    const auto held = hdf5::lock();
    impl_.reset();
}

bool Hdf5Reader::has(const std::string& name) const {
    const auto held = hdf5::lock();
    return link_exists(impl_->file.get(), name);
}

std::vector<std::string> Hdf5Reader::names() const {
    const auto held = hdf5::lock();
    const auto add_dataset = [](hid_t group, const char* name, const H5L_info_t* link, void* out) -> herr_t {
        if (link->type != H5L_TYPE_HARD) return 0;  // links to elsewhere are not this file's content
        const Handle object(H5Oopen(group, name, H5P_DEFAULT), H5Oclose);
        if (!object) return -1;
        if (H5Iget_type(object.get()) == H5I_DATASET) static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
    };
    std::vector<std::string> found;
    if (H5Lvisit(impl_->file.get(), H5_INDEX_NAME, H5_ITER_NATIVE, add_dataset, &found) < 0) {
        throw UserError(fmt::format("cannot list {}: damaged (HDF5 says \"{}\"); make it again", impl_->map.path(),
                                    hdf5::last_error()));
    }
    std::sort(found.begin(), found.end());
    return found;
}

Hdf5Dataset Hdf5Reader::dataset(const std::string& name) const {
    const auto held = hdf5::lock();
    const OpenDataset opened = impl_->open(name);
    return {opened.dtype, {opened.shape.begin(), opened.shape.end()}};
}

void Hdf5Reader::read(const std::string& name, void* out, int64_t first, int64_t count) const {
    const auto held = hdf5::lock();
    const OpenDataset dataset = impl_->open(name);
    const auto numel = static_cast<int64_t>(dataset.numel);
    if (first < 0 || count < 0 || first > numel || count > numel - first) {
        impl_->fail(name, fmt::format("elements {} to {} asked for, it has {}", first, first + count, numel));
    }
    impl_->read(name, dataset, out, static_cast<hsize_t>(first), static_cast<hsize_t>(count));
}

void Hdf5Reader::read_all(const std::string& name, Dtype dtype, std::span<const int64_t> shape, void* out) const {
    const auto held = hdf5::lock();
    const OpenDataset dataset = impl_->open(name);
    const std::vector<int64_t> actual(dataset.shape.begin(), dataset.shape.end());
    if (dataset.dtype != dtype || !std::equal(actual.begin(), actual.end(), shape.begin(), shape.end())) {
        impl_->fail(name, fmt::format("is {}, expected {}; is this the file you meant?",
                                      describe(dataset.dtype, actual), describe(dtype, shape)));
    }
    const std::string expected = impl_->stored_checksum(name, dataset);
    impl_->read(name, dataset, out, 0, dataset.numel);
    if (hdf5::to_hex(XXH3_64bits(out, dataset.numel * size_of(dtype))) != expected) {
        impl_->fail(name, "its data do not match their checksum; restore or make the file again");
    }
}

void Hdf5Reader::verify(const std::string& name) const {
    const auto held = hdf5::lock();
    const OpenDataset dataset = impl_->open(name);
    const std::string expected = impl_->stored_checksum(name, dataset);
    const hsize_t element = size_of(dataset.dtype);
    const hsize_t slab = hdf5::kSlabBytes / element;
    std::vector<char> buffer(std::min(slab, dataset.numel) * element);
    const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
    XXH3_64bits_reset(state.get());
    for (hsize_t first = 0; first < dataset.numel; first += slab) {
        const hsize_t count = std::min(slab, dataset.numel - first);
        impl_->read(name, dataset, buffer.data(), first, count);
        XXH3_64bits_update(state.get(), buffer.data(), count * element);
    }
    if (hdf5::to_hex(XXH3_64bits_digest(state.get())) != expected) {
        impl_->fail(name, "its data do not match their checksum; restore or make the file again");
    }
}

std::optional<std::string> Hdf5Reader::checksum(const std::string& name) const {
    const auto held = hdf5::lock();
    return text_attribute(impl_->open(name).id.get(), hdf5::kChecksumAttribute);
}

const void* Hdf5Reader::map(const std::string& name) const {
    const auto held = hdf5::lock();
    const OpenDataset dataset = impl_->open(name);
    if (dataset.numel == 0) return nullptr;
    const Handle layout(H5Dget_create_plist(dataset.id.get()), H5Pclose);
    if (H5Pget_layout(layout.get()) != H5D_CONTIGUOUS) {
        impl_->fail(name, "is chunked or compressed and cannot be mapped; rewrite it contiguous (h5repack -l CONTI)");
    }
    const haddr_t offset = H5Dget_offset(dataset.id.get());
    const size_t element = size_of(dataset.dtype);
    const auto bytes = impl_->map.bytes();
    if (offset == HADDR_UNDEF || offset > bytes.size() || dataset.numel * element > bytes.size() - offset) {
        impl_->fail(name, "reaches beyond the end of the file; make the file again");
    }
    if (offset % element != 0) impl_->fail(name, "is not aligned in the file; rewrite it with h5repack");
    return bytes.data() + offset;
}

bool Hdf5Reader::has_attribute(const std::string& name) const {
    const auto held = hdf5::lock();
    return H5Aexists(impl_->file.get(), name.c_str()) > 0;
}

std::string Hdf5Reader::string_attribute(const std::string& name) const {
    const auto held = hdf5::lock();
    const Handle attribute = impl_->open_attribute(name, H5T_STRING, "text");
    const auto text = read_text(attribute.get());
    if (!text)
        throw UserError(fmt::format("attribute {} of {}: damaged; make the file again", name, impl_->map.path()));
    return *text;
}

int64_t Hdf5Reader::integer_attribute(const std::string& name) const {
    const auto held = hdf5::lock();
    const Handle attribute = impl_->open_attribute(name, H5T_INTEGER, "a whole number");
    int64_t value = 0;
    if (H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0) {
        throw UserError(fmt::format("attribute {} of {}: damaged; make the file again", name, impl_->map.path()));
    }
    return value;
}

double Hdf5Reader::real_attribute(const std::string& name) const {
    const auto held = hdf5::lock();
    const Handle attribute = impl_->open_attribute(name, H5T_FLOAT, "a real number");
    double value = 0;
    if (H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value) < 0) {
        throw UserError(fmt::format("attribute {} of {}: damaged; make the file again", name, impl_->map.path()));
    }
    return value;
}

}  // namespace ballast
