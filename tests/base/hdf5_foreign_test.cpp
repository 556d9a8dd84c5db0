// Files as other programs write them: other layouts, other types, and shapes that lie.
#include <hdf5.h>

#include <cstring>
#include <numeric>

#include "base/hdf5_file.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast;
using ballast::test::message_of;
using ballast::test::TemporaryFolder;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A file in the oldest format, as h5py writes by default.
class ForeignFile {
  public:
    explicit ForeignFile(const std::string& path)
        : file_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) {}
    ~ForeignFile() { H5Fclose(file_); }
    ForeignFile(const ForeignFile&) = delete;
    ForeignFile& operator=(const ForeignFile&) = delete;

    /// `data` may be null: nothing is written then.
    void add(const char* name, hid_t type, std::vector<hsize_t> shape, const void* data,
             hid_t properties = H5P_DEFAULT) {
        const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
        const hid_t dataset = H5Dcreate2(file_, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
        if (data) H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
        H5Dclose(dataset);
        H5Sclose(space);
    }

    void add_text_attribute(const char* name, const char* value) {
        const hid_t type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        const hid_t space = H5Screate(H5S_SCALAR);
        const hid_t attribute = H5Acreate2(file_, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        H5Awrite(attribute, type, &value);
        H5Aclose(attribute);
        H5Sclose(space);
        H5Tclose(type);
    }

    hid_t id() const { return file_; }

  private:
    hid_t file_;
};

std::vector<uint16_t> counting(size_t count) {
    std::vector<uint16_t> values(count);
    std::iota(values.begin(), values.end(), uint16_t{0});
    return values;
}

}  // namespace

TEST_CASE("hdf5 from elsewhere: contiguous and chunked data are read, text of variable length too") {
    const TemporaryFolder folder;
    const auto values = counting(5000);
    {
        ForeignFile file(folder.file("a.h5"));
        file.add("plain", H5T_STD_U16LE, {5000}, values.data());
        const hid_t chunked = H5Pcreate(H5P_DATASET_CREATE);
        const hsize_t chunk[] = {7, 13};
        H5Pset_chunk(chunked, 2, chunk);
        H5Pset_deflate(chunked, 6);
        file.add("chunked", H5T_STD_U16LE, {50, 100}, values.data(), chunked);
        H5Pclose(chunked);
        file.add_text_attribute("tokenizer", "pythia");
    }
    const Hdf5Reader reader(folder.file("a.h5"));
    CHECK(reader.names() == std::vector<std::string>{"chunked", "plain"});
    CHECK(reader.string_attribute("tokenizer") == "pythia");
    CHECK(std::memcmp(reader.map("plain"), values.data(), 10000) == 0);
    std::vector<uint16_t> back(333);
    reader.read("chunked", back.data(), 1234, 333);
    CHECK(std::equal(back.begin(), back.end(), values.begin() + 1234));
    CHECK_THAT(message_of([&] { reader.map("chunked"); }), ContainsSubstring("cannot be mapped"));
    CHECK_THAT(message_of([&] { reader.verify("plain"); }), ContainsSubstring("carries no checksum"));
}

TEST_CASE("hdf5 from elsewhere: types that are not ours are refused") {
    const TemporaryFolder folder;
    {
        ForeignFile file(folder.file("a.h5"));
        file.add("big_endian", H5T_STD_U16BE, {3}, nullptr);
        file.add("i16", H5T_STD_I16LE, {3}, nullptr);
        file.add("u64", H5T_STD_U64LE, {3}, nullptr);
        const hid_t pair = H5Tcreate(H5T_COMPOUND, 8);
        H5Tinsert(pair, "a", 0, H5T_STD_I32LE);
        H5Tinsert(pair, "b", 4, H5T_STD_I32LE);
        file.add("compound", pair, {3}, nullptr);
        H5Tclose(pair);
        const hid_t text = H5Tcopy(H5T_C_S1);
        H5Tset_size(text, H5T_VARIABLE);
        file.add("text", text, {3}, nullptr);
        H5Tclose(text);
    }
    const Hdf5Reader reader(folder.file("a.h5"));
    for (const char* name : {"big_endian", "i16", "u64", "compound", "text"}) {
        CHECK_THAT(message_of([&] { reader.dataset(name); }), ContainsSubstring("element type is none of"));
    }
}

TEST_CASE("hdf5 from elsewhere: shapes without data behind them are refused") {
    const TemporaryFolder folder;
    {
        ForeignFile file(folder.file("a.h5"));
        file.add("never_written", H5T_STD_U16LE, {1000}, nullptr);  // late allocation: nothing is stored
        file.add("too_large", H5T_STD_U16LE, {hsize_t{1} << 40}, nullptr);
        const hid_t chunked = H5Pcreate(H5P_DATASET_CREATE);
        const hsize_t chunk[] = {1 << 20};
        H5Pset_chunk(chunked, 1, chunk);
        file.add("too_large_chunks", H5T_STD_U8LE, {hsize_t{1} << 40}, nullptr, chunked);
        H5Pset_deflate(chunked, 9);
        const std::vector<uint8_t> zeros(5 << 20);  // what deflate makes smallest is read
        file.add("zeros", H5T_STD_U8LE, {zeros.size()}, zeros.data(), chunked);
        H5Pclose(chunked);
        const hid_t outside = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_external(outside, "/etc/passwd", 0, 20);  // must not be readable through a token store
        file.add("outside", H5T_STD_U8LE, {20}, nullptr, outside);
        H5Pclose(outside);
        const hid_t none = H5Screate(H5S_NULL);
        H5Dclose(H5Dcreate2(file.id(), "null", H5T_STD_U8LE, none, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(none);
        H5Lcreate_external("other.h5", "/x", file.id(), "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_soft("/nothing", file.id(), "dangling", H5P_DEFAULT, H5P_DEFAULT);
    }
    const Hdf5Reader reader(folder.file("a.h5"));
    CHECK(reader.names() == std::vector<std::string>{"never_written", "null", "outside", "too_large",
                                                     "too_large_chunks", "zeros"});
    CHECK(reader.dataset("zeros").numel() == 5 << 20);
    for (const std::string& name : reader.names()) {
        if (name == "zeros") continue;
        CAPTURE(name);
        char out[64];
        CHECK_THAT(message_of([&] { reader.read(name, out, 0, 20); }), ContainsSubstring("dataset " + name + " of"));
        CHECK_THAT(message_of([&] { reader.map(name); }), ContainsSubstring("dataset " + name + " of"));
    }
    CHECK_THAT(message_of([&] { reader.dataset("elsewhere"); }), ContainsSubstring("dataset elsewhere of"));
    CHECK_THAT(message_of([&] { reader.dataset("dangling"); }), ContainsSubstring("dataset dangling of"));
}
