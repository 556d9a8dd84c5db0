#include "tests/fuzz/hdf5_edits.h"

#include <hdf5.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <vector>

#include "base/atomic_file.h"
#include "base/hdf5_internal.h"

namespace ballast::fuzz {
namespace {

using hdf5::Handle;

constexpr size_t kBytesPerEdit = 5, kMostEdits = 6;
constexpr char kMove = 7;

struct Edit {
    uint8_t kind, object, type, shape, value;
};

/// The root, then every group and dataset below it.
std::vector<std::string> objects_of(hid_t file) {
    std::vector<std::string> names{"/"};
    const auto add = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
    };
    H5Lvisit(file, H5_INDEX_NAME, H5_ITER_INC, add, &names);
    return names;
}

std::vector<std::string> attributes_of(hid_t object) {
    std::vector<std::string> names;
    const auto add = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
    };
    hsize_t from = 0;
    H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &from, add, &names);
    return names;
}

template <class Values>
const auto& chosen(const Values& values, uint8_t choice) {
    return values[choice % std::size(values)];
}

Handle chosen_type(uint8_t choice) {
    const std::array plain{H5T_STD_U16LE, H5T_STD_I64LE, H5T_STD_U8LE,  H5T_IEEE_F32LE, H5T_IEEE_F64LE,
                           H5T_STD_I32LE, H5T_STD_U32LE, H5T_STD_U64LE, H5T_STD_I64BE,  H5T_STD_I8LE};
    const size_t which = choice % (plain.size() + 3);
    if (which < plain.size()) return {H5Tcopy(plain[which]), H5Tclose};
    Handle text(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(text.get(), which == plain.size() ? H5T_VARIABLE : which == plain.size() + 1 ? 1 : 40);
    return text;
}

constexpr hsize_t kHuge = hsize_t{1} << 40;
const std::vector<std::vector<hsize_t>> kShapes{{},        {0},          {1},    {2},     {3},
                                                {7},       {8},          {41},   {1, 1},  {8, 8},
                                                {24, 8},   {1, 0},       {2, 2}, {kHuge}, {kHuge, kHuge},
                                                {1, 2, 3}, {2, 2, 4, 4}, {4096}};
constexpr int64_t kEditNumbers[] = {0,
                                1,
                                -1,
                                2,
                                3,
                                5,
                                7,
                                8,
                                41,
                                255,
                                60000,
                                65536,
                                1 << 20,
                                1 << 24,
                                (1 << 30) - 1,
                                INT32_MAX,
                                int64_t{1} << 40,
                                INT64_MAX,
                                INT64_MIN,
                                INT64_MAX / 8 + 1};

/// Values of `bytes` bytes, from one number: whole, real or digits.
std::vector<char> values_of(hid_t type, size_t bytes, uint8_t choice) {
    const int64_t number = chosen(kEditNumbers, choice);
    std::vector<char> out(bytes);
    const auto fill = [&](const auto& value) {
        for (size_t at = 0; at + sizeof value <= bytes; at += sizeof value)
            std::copy_n(reinterpret_cast<const char*>(&value), sizeof value, out.data() + at);
    };
    const auto real = (choice & 0x80) != 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(number);
    if (H5Tget_class(type) == H5T_STRING)
        fill((choice & 0x80) != 0 ? '[' : static_cast<char>(choice));
    else if (H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == 4)
        fill(static_cast<float>(real));
    else if (H5Tget_class(type) == H5T_FLOAT)
        fill(real);
    else if (H5Tget_size(type) == 1)
        fill(static_cast<uint8_t>(number));
    else if (H5Tget_size(type) == 2)
        fill(static_cast<uint16_t>(number));
    else if (H5Tget_size(type) == 4)
        fill(static_cast<uint32_t>(number));
    else
        fill(number);
    return out;
}

bool is_variable(hid_t type) { return H5Tis_variable_str(type) > 0; }

void set_attribute(hid_t object, const std::string& name, const Edit& edit) {
    const Handle type = chosen_type(edit.type);
    const std::vector<hsize_t>& shape = chosen(kShapes, edit.shape);
    hsize_t count = 1;
    for (const hsize_t extent : shape) count *= extent;
    if (count > 64) return;  // attributes are small
    const Handle space =
        edit.shape >= 0xF0 ? Handle(H5Screate(H5S_NULL), H5Sclose)
        : shape.empty()    ? Handle(H5Screate(H5S_SCALAR), H5Sclose)
                           : Handle(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
    H5Adelete(object, name.c_str());
    const Handle attribute(H5Acreate2(object, name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
                           H5Aclose);
    if (!attribute || is_variable(type.get())) return;
    const auto values = values_of(type.get(), 64 * 64, edit.value);
    H5Awrite(attribute.get(), type.get(), values.data());
}

/// The text or number of an attribute, in its own type.
void change_attribute(hid_t object, const std::string& name, const Edit& edit) {
    const Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose);
    const Handle type(H5Aget_type(attribute.get()), H5Tclose);
    const size_t size = H5Aget_storage_size(attribute.get());
    if (size == 0 || is_variable(type.get())) return;
    std::vector<char> values(size);
    H5Aread(attribute.get(), type.get(), values.data());
    if (H5Tget_class(type.get()) == H5T_STRING)
        values[edit.shape % size] = static_cast<char>(edit.value);
    else
        values = values_of(type.get(), size, edit.value);
    H5Awrite(attribute.get(), type.get(), values.data());
}

void replace_by_dataset(hid_t file, const std::string& name, const Edit& edit) {
    const Handle type = chosen_type(edit.type);
    const std::vector<hsize_t>& shape = chosen(kShapes, edit.shape);
    const Handle space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
    const Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    const bool chunked = (edit.value & 1) != 0 && !shape.empty();
    if (chunked) {
        const std::vector<hsize_t> chunk(shape.size(), 4);
        H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data());
    }
    H5Ldelete(file, name.c_str(), H5P_DEFAULT);
    const Handle dataset(
        H5Dcreate2(file, name.c_str(), type.get(), space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT), H5Dclose);
    const hssize_t count = H5Sget_simple_extent_npoints(space.get());
    if (!dataset || count > 4096 || is_variable(type.get()) || (edit.value & 2) != 0) return;
    const auto values = values_of(type.get(), static_cast<size_t>(count) * H5Tget_size(type.get()), edit.value >> 2);
    H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
}

/// One element or byte of a dataset, and with an odd `type` its checksum as well.
void change_element(hid_t file, const std::string& name, const Edit& edit) {
    const Handle dataset(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose);
    if (!dataset) return;
    const Handle type(H5Dget_type(dataset.get()), H5Tclose);
    const Handle space(H5Dget_space(dataset.get()), H5Sclose);
    const hssize_t count = H5Sget_simple_extent_npoints(space.get());
    if (count <= 0 || count > (1 << 20) || is_variable(type.get())) return;
    const size_t size = H5Tget_size(type.get());
    std::vector<char> values(static_cast<size_t>(count) * size);
    H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    const size_t at = edit.shape * static_cast<size_t>(edit.type / 2 + 1) % static_cast<size_t>(count);
    const auto element =
        size == 1 ? std::vector<char>{static_cast<char>(edit.value)} : values_of(type.get(), size, edit.value);
    std::copy(element.begin(), element.end(), values.begin() + static_cast<std::ptrdiff_t>(at * size));
    H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    if (edit.type % 2 == 0 || H5Aexists(dataset.get(), hdf5::kChecksumAttribute) <= 0) return;
    const Handle attribute(H5Aopen(dataset.get(), hdf5::kChecksumAttribute, H5P_DEFAULT), H5Aclose);
    const Handle text(H5Aget_type(attribute.get()), H5Tclose);
    if (H5Tget_class(text.get()) != H5T_STRING || H5Tis_variable_str(text.get()) != 0) return;
    if (H5Aget_storage_size(attribute.get()) != 16) return;
    const std::string checksum = hdf5::to_hex(XXH3_64bits(values.data(), values.size()));
    H5Awrite(attribute.get(), text.get(), checksum.data());
}

void edit_attribute(hid_t file, const std::string& name, const Edit& edit) {
    const Handle object(H5Oopen(file, name.c_str(), H5P_DEFAULT), H5Oclose);
    if (!object) return;
    const auto names = attributes_of(object.get());
    if (names.empty()) return;
    const std::string& attribute = names[(edit.object / 8) % names.size()];
    if (edit.kind % 8 == 0)
        H5Adelete(object.get(), attribute.c_str());
    else if (edit.kind % 8 == 1)
        set_attribute(object.get(), attribute, edit);
    else
        change_attribute(object.get(), attribute, edit);
}

void apply(hid_t file, const Edit& edit) {
    const auto objects = objects_of(file);
    if (edit.kind % 8 < 3)
        return edit_attribute(file, (edit.object & 7) < 5 ? objects[0] : chosen(objects, edit.object / 8), edit);
    if (objects.size() == 1) return;
    const std::string& name = objects[1 + edit.object % (objects.size() - 1)];
    const std::string& other = objects[1 + edit.value % (objects.size() - 1)];
    switch (edit.kind % 8) {
        case 3: return replace_by_dataset(file, name, edit);
        case 4:
        case 5: return change_element(file, name, edit);
        case 6: H5Ldelete(file, name.c_str(), H5P_DEFAULT); break;
        default: H5Lmove(file, name.c_str(), file, other.c_str(), H5P_DEFAULT, H5P_DEFAULT); return;
    }
    if (edit.type % 4 == 1) H5Lcreate_soft(("/" + other).c_str(), file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT);
    if (edit.type % 4 == 2) H5Lcreate_hard(file, other.c_str(), file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT);
    if (edit.type % 4 == 3) H5Gclose(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}

}  // namespace

void edit_hdf5(const std::string& path, std::string_view edits) {
    const auto held = hdf5::lock();
    const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
    if (!file) throw std::runtime_error("the file to be edited does not open: " + path);
    edits = edits.substr(0, kMostEdits * kBytesPerEdit);
    for (; edits.size() >= kBytesPerEdit; edits.remove_prefix(kBytesPerEdit)) {
        const auto byte = [&](size_t i) { return static_cast<uint8_t>(edits[i]); };
        apply(file.get(), {byte(0), byte(1), byte(2), byte(3), byte(4)});
    }
}

std::vector<std::string> seeds_of_edits() {
    std::string nothing(kMostEdits * kBytesPerEdit, '\0');
    for (size_t edit = 0; edit < nothing.size(); edit += kBytesPerEdit) nothing[edit] = kMove;
    return {nothing};
}

std::string write_edited(const std::string& edits_path) {
    const auto folder = std::filesystem::path(edits_path).parent_path();
    const std::string edited = (folder / "edited.h5").string();
    std::filesystem::copy_file(folder / "valid.h5", edited, std::filesystem::copy_options::overwrite_existing);
    edit_hdf5(edited, read_file(edits_path));
    return edited;
}

}  // namespace ballast::fuzz
