#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/hdf5_file.h"
#include "base/hdf5_internal.h"

namespace ballast {
namespace {

using hdf5::Handle;

constexpr size_t kMaxAttributeBytes = 60000;  // an object header message holds 64 KiB
constexpr hsize_t kAlignment = 64;            // a cache line, and enough for any element type under map()

struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

/// A dataset being filled.
struct Stream {
    Handle dataset;
    Dtype dtype;
    std::vector<hsize_t> shape;
    hsize_t numel = 1;
    hsize_t filled = 0;
    std::unique_ptr<XXH3_state_t, FreeState> checksum{XXH3_createState()};
};

/// Properties of an object to be made: no time of its making in the file, so that the same content gives the same file.
Handle without_times(hid_t kind) {
    Handle properties(H5Pcreate(kind), H5Pclose);
    H5Pset_obj_track_times(properties.get(), false);
    return properties;
}

Handle create_file(const std::string& path) {
    Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    // The 1.8 format is the first whose metadata carry checksums, and everybody's HDF5 reads it.
    H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V18);
    H5Pset_alignment(access.get(), 1, kAlignment);
    H5Pset_file_locking(access.get(), false, true);  // the rename is our lock; network file systems often have none
    H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
    const Handle creation = without_times(H5P_FILE_CREATE);
    return Handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose);
}

/// The groups on the way to `name`. (HDF5 would make them itself, but with times.)
bool make_groups(hid_t file, const std::string& name) {
    const Handle creation = without_times(H5P_GROUP_CREATE);
    for (size_t slash = name.find('/', 1); slash != std::string::npos; slash = name.find('/', slash + 1)) {
        const std::string path = name.substr(0, slash);
        if (H5Lexists(file, path.c_str(), H5P_DEFAULT) > 0) continue;
        const Handle group(H5Gcreate2(file, path.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Gclose);
        if (!group) return false;
    }
    return true;
}

/// Makes `name` under `object`, replacing one that is there, and writes `value` of `type`.
bool write_attribute(hid_t object, const char* name, hid_t type, const void* value) {
    if (H5Aexists(object, name) > 0) H5Adelete(object, name);
    const Handle scalar(H5Screate(H5S_SCALAR), H5Sclose);
    const Handle attribute(H5Acreate2(object, name, type, scalar.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    return attribute && H5Awrite(attribute.get(), type, value) >= 0;
}

bool write_text_attribute(hid_t object, const char* name, const std::string& value) {
    // Fixed length: text of variable length would live in a part of the file without checksums.
    const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type.get(), std::max<size_t>(value.size(), 1));
    H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
    H5Tset_cset(type.get(), H5T_CSET_UTF8);
    return write_attribute(object, name, type.get(), value.c_str());
}

}  // namespace

struct Hdf5Writer::Impl {
    AtomicFile target;
    Handle file;  // closed before `target` is
    std::map<std::string, Stream> streams;

    explicit Impl(std::string path) : target(std::move(path)) {
        errno = 0;
        file = create_file(target.temporary_path());
        check(static_cast<bool>(file));
    }

    ~Impl() {
        target.discard();
        streams.clear();
    }

    void check(bool ok) const {
        if (ok) return;
        if (errno != 0) throw_errno("write", target.path());
        throw UserError(fmt::format("cannot write {}: HDF5 says \"{}\"", target.path(), hdf5::last_error()));
    }

    Stream& create(const std::string& name, Dtype dtype, std::span<const int64_t> shape);
    void append(Stream& stream, const void* data, int64_t count);
    void finish(const std::string& name, Stream& stream);
};

Stream& Hdf5Writer::Impl::create(const std::string& name, Dtype dtype, std::span<const int64_t> shape) {
    require(!streams.contains(name), fmt::format("dataset {} written twice", name));
    require(std::all_of(shape.begin(), shape.end(), [](int64_t n) { return n >= 0; }), "negative extent");
    Stream stream;
    stream.dtype = dtype;
    stream.shape.assign(shape.begin(), shape.end());
    for (hsize_t extent : stream.shape) stream.numel *= extent;
    XXH3_64bits_reset(stream.checksum.get());

    const Handle space = hdf5::select(stream.shape, 0, 0);
    const Handle layout = without_times(H5P_DATASET_CREATE);
    H5Pset_layout(layout.get(), H5D_CONTIGUOUS);
    H5Pset_alloc_time(layout.get(), H5D_ALLOC_TIME_EARLY);  // else the reader's map() finds no offset
    H5Pset_fill_time(layout.get(), H5D_FILL_TIME_NEVER);    // append() fills every element
    errno = 0;
    check(make_groups(file.get(), name));
    stream.dataset = Handle(H5Dcreate2(file.get(), name.c_str(), hdf5::file_type(dtype), space.get(), H5P_DEFAULT,
                                       layout.get(), H5P_DEFAULT),
                            H5Dclose);
    check(static_cast<bool>(stream.dataset));
    if (is_narrow(dtype))
        check(write_text_attribute(stream.dataset.get(), hdf5::kDtypeAttribute, std::string(name_of(dtype))));
    return streams.emplace(name, std::move(stream)).first->second;
}

void Hdf5Writer::Impl::append(Stream& stream, const void* data, int64_t count) {
    require(count >= 0 && static_cast<hsize_t>(count) <= stream.numel - stream.filled, "append beyond the dataset");
    const auto element = static_cast<int64_t>(size_of(stream.dtype));
    const char* next = static_cast<const char*>(data);
    while (count > 0) {
        const int64_t piece = std::min(count, hdf5::kSlabBytes / element);
        const auto elements = static_cast<hsize_t>(piece);
        XXH3_64bits_update(stream.checksum.get(), next, static_cast<size_t>(piece * element));
        const Handle memory(H5Screate_simple(1, &elements, nullptr), H5Sclose);
        const Handle range = hdf5::select(stream.shape, stream.filled, elements);
        errno = 0;
        check(H5Dwrite(stream.dataset.get(), hdf5::file_type(stream.dtype), memory.get(), range.get(), H5P_DEFAULT,
                       next) >= 0);
        next += piece * element;
        count -= piece;
        stream.filled += elements;
    }
}

void Hdf5Writer::Impl::finish(const std::string& name, Stream& stream) {
    require(stream.filled == stream.numel, fmt::format("dataset {} of {}: {} of {} elements written", name,
                                                       target.path(), stream.filled, stream.numel));
    const std::string checksum = hdf5::to_hex(XXH3_64bits_digest(stream.checksum.get()));
    errno = 0;
    check(write_text_attribute(stream.dataset.get(), hdf5::kChecksumAttribute, checksum));
    check(stream.dataset.close());
}

Hdf5Writer::Hdf5Writer(std::string path) {
    const auto held = hdf5::lock();
    impl_ = std::make_unique<Impl>(std::move(path));
}

Hdf5Writer::~Hdf5Writer() {
    const auto held = hdf5::lock();
    impl_.reset();
}

void Hdf5Writer::write(const std::string& name, Dtype dtype, std::span<const int64_t> shape, const void* data) {
    const auto held = hdf5::lock();
    Stream& stream = impl_->create(name, dtype, shape);
    impl_->append(stream, data, static_cast<int64_t>(stream.numel));
    impl_->finish(name, stream);
}

void Hdf5Writer::create(const std::string& name, Dtype dtype, std::span<const int64_t> shape) {
    const auto held = hdf5::lock();
    impl_->create(name, dtype, shape);
}

void Hdf5Writer::append(const std::string& name, const void* data, int64_t count) {
    const auto held = hdf5::lock();
    const auto found = impl_->streams.find(name);
    require(found != impl_->streams.end() && found->second.dataset,
            fmt::format("append to {}, not being filled", name));
    impl_->append(found->second, data, count);
}

void Hdf5Writer::set_attribute(const std::string& name, const std::string& value) {
    require(value.size() <= kMaxAttributeBytes, fmt::format("attribute {} is too long", name));
    const auto held = hdf5::lock();
    errno = 0;
    impl_->check(write_text_attribute(impl_->file.get(), name.c_str(), value));
}

void Hdf5Writer::set_attribute(const std::string& name, int64_t value) {
    const auto held = hdf5::lock();
    errno = 0;
    impl_->check(write_attribute(impl_->file.get(), name.c_str(), H5T_STD_I64LE, &value));
}

void Hdf5Writer::set_attribute(const std::string& name, double value) {
    const auto held = hdf5::lock();
    errno = 0;
    impl_->check(write_attribute(impl_->file.get(), name.c_str(), H5T_IEEE_F64LE, &value));
}

void Hdf5Writer::commit() {
    const auto held = hdf5::lock();
    for (auto& [name, stream] : impl_->streams) {
        if (stream.dataset) impl_->finish(name, stream);
    }
    errno = 0;
    impl_->check(H5Fflush(impl_->file.get(), H5F_SCOPE_LOCAL) >= 0);
    impl_->check(impl_->file.close());
    impl_->target.commit();
}

}  // namespace ballast
