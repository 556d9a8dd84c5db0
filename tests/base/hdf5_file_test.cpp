#include "base/hdf5_file.h"

#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>
#include <thread>

#include "base/error.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast;
using ballast::test::bytes_of;
using ballast::test::message_of;
using ballast::test::put_bytes;
using ballast::test::TemporaryFolder;

namespace {

using Shape = std::vector<int64_t>;

template <class T>
std::vector<T> counting(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    std::iota(values.begin(), values.end(), T{1});
    return values;
}

template <class T>
void round_trip(const std::string& path, const Shape& shape) {
    const int64_t count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    const std::vector<T> values = counting<T>(count);
    Hdf5Writer writer(path);
    writer.write("group/values", DtypeOf<T>::value, shape, values.data());
    writer.commit();

    const Hdf5Reader reader(path);
    CHECK(reader.dataset("group/values").dtype == DtypeOf<T>::value);
    CHECK(reader.dataset("group/values").shape == shape);
    CHECK(reader.dataset("group/values").numel() == count);
    std::vector<T> back(values.size() + 1, T{77});
    reader.read_all("group/values", DtypeOf<T>::value, shape, back.data());
    CHECK(std::equal(values.begin(), values.end(), back.begin()));
    CHECK(back.back() == T{77});
    if (count > 0) {
        CHECK(std::memcmp(reader.map("group/values"), values.data(), values.size() * sizeof(T)) == 0);
    } else {
        CHECK(reader.map("group/values") == nullptr);
    }
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Several groups (so that they are kept both ways HDF5 knows), all types, attributes of each kind.
void write_sample(const std::string& path) {
    Hdf5Writer writer(path);
    const auto floats = counting<float>(12 * 7);
    for (int i = 0; i < 20; ++i)
        writer.write(fmt::format("model/layer{}.weight", i), Dtype::f32, Shape{12, 7}, floats.data());
    const auto tokens = counting<uint16_t>(1000);
    writer.create("tokens", Dtype::u16, Shape{1000});
    for (int64_t first = 0; first < 1000; first += 250) writer.append("tokens", tokens.data() + first, 250);
    const std::vector<bf16> halves(33, bf16(1.5f));
    writer.write("halves", Dtype::bf16, Shape{33}, halves.data());
    writer.set_attribute("config", std::string(3000, 'c'));
    writer.set_attribute("step", int64_t{1} << 40);
    writer.set_attribute("loss", 2.75);
    writer.commit();
}

/// Everything a program may ask of a file. Returns the message of the first UserError, empty when all is well.
std::string read_everything(const std::string& path) {
    return message_of([&] {
        const Hdf5Reader reader(path);
        for (const std::string& name : reader.names()) {
            const Hdf5Dataset dataset = reader.dataset(name);
            if (dataset.numel() > 100000) throw UserError("an absurd size got through");
            std::vector<char> out(static_cast<size_t>(dataset.numel()) * size_of(dataset.dtype));
            reader.read_all(name, dataset.dtype, dataset.shape, out.data());
            const void* mapped = reader.map(name);
            if (std::memcmp(mapped, out.data(), out.size()) != 0) throw UserError("map() and read_all() differ");
        }
        if (reader.names().size() != 22) throw UserError("datasets are gone");
        if (reader.string_attribute("config") != std::string(3000, 'c')) throw UserError("config differs");
        if (reader.integer_attribute("step") != int64_t{1} << 40) throw UserError("step differs");
        if (reader.real_attribute("loss") != 2.75) throw UserError("loss differs");
    });
}

}  // namespace

TEST_CASE("hdf5: every type and odd shapes come back") {
    const TemporaryFolder folder;
    for (const Shape& shape :
         {Shape{}, Shape{0}, Shape{1}, Shape{1000}, Shape{3, 5, 7}, Shape{4, 0, 2}, Shape{1, 1, 1, 9, 2}}) {
        round_trip<float>(folder.file("a.h5"), shape);
        round_trip<double>(folder.file("a.h5"), shape);
        round_trip<int32_t>(folder.file("a.h5"), shape);
        round_trip<int64_t>(folder.file("a.h5"), shape);
        round_trip<uint8_t>(folder.file("a.h5"), shape);
        round_trip<uint16_t>(folder.file("a.h5"), shape);
        round_trip<uint32_t>(folder.file("a.h5"), shape);
    }
}

TEST_CASE("hdf5: bf16 keeps its name and bits") {
    const TemporaryFolder folder;
    const std::vector<bf16> values{bf16(1.0f), bf16(-0.0f), bf16(3.14159f)};
    Hdf5Writer writer(folder.file("a.h5"));
    writer.write("x", Dtype::bf16, Shape{3}, values.data());
    writer.commit();
    const Hdf5Reader reader(folder.file("a.h5"));
    CHECK(reader.dataset("x").dtype == Dtype::bf16);
    std::vector<bf16> back(3);
    reader.read_all("x", Dtype::bf16, Shape{3}, back.data());
    CHECK(std::memcmp(back.data(), values.data(), 6) == 0);
    CHECK(contains(message_of([&] { reader.read_all("x", Dtype::u16, Shape{3}, back.data()); }),
                   "is bf16[3], expected u16[3]"));
}

TEST_CASE("hdf5: fp16 keeps its name and bits") {
    const TemporaryFolder folder;
    const std::vector<f16> values{f16(1.0f), f16(-0.0f), f16(6e-8f)};
    Hdf5Writer writer(folder.file("a.h5"));
    writer.write("x", Dtype::f16, Shape{3}, values.data());
    writer.commit();
    const Hdf5Reader reader(folder.file("a.h5"));
    CHECK(reader.dataset("x").dtype == Dtype::f16);
    std::vector<f16> back(3);
    reader.read_all("x", Dtype::f16, Shape{3}, back.data());
    CHECK(std::memcmp(back.data(), values.data(), 6) == 0);
    CHECK(contains(message_of([&] { reader.read_all("x", Dtype::bf16, Shape{3}, back.data()); }),
                   "is fp16[3], expected bf16[3]"));
}

TEST_CASE("hdf5: any range of a dataset of any rank, in row-major order") {
    const TemporaryFolder folder;
    const Shape shape{3, 4, 5};
    const auto values = counting<int32_t>(60);
    Hdf5Writer writer(folder.file("a.h5"));
    writer.create("x", Dtype::i32, shape);
    for (int64_t first = 0, piece = 1; first < 60; first += piece, piece = std::min<int64_t>(piece + 3, 60 - first)) {
        writer.append("x", values.data() + first, piece);  // 1, 4, 7, … elements: never whole rows
    }
    writer.commit();
    const Hdf5Reader reader(folder.file("a.h5"));
    reader.verify("x");
    for (int64_t first = 0; first <= 60; ++first) {
        for (int64_t count = 0; first + count <= 60; ++count) {
            std::vector<int32_t> out(static_cast<size_t>(count) + 1, -1);
            reader.read("x", out.data(), first, count);
            if (!std::equal(out.begin(), out.end() - 1, values.begin() + first) || out.back() != -1) {
                FAIL("range [" << first << ", +" << count << ")");
            }
        }
    }
    int32_t out = 0;
    CHECK(contains(message_of([&] { reader.read("x", &out, 60, 1); }), "it has 60"));
    CHECK(contains(message_of([&] { reader.read("x", &out, -1, 1); }), "it has 60"));
}

TEST_CASE("hdf5: data larger than a slab, whole and streamed, have one checksum") {
    const TemporaryFolder folder;
    const int64_t count = 3'000'001;  // 12 MB: three slabs, the last one odd
    const auto values = counting<uint32_t>(count);
    for (const bool streamed : {false, true}) {
        Hdf5Writer writer(folder.file(streamed ? "streamed.h5" : "whole.h5"));
        if (streamed) {
            writer.create("x", Dtype::u32, Shape{count});
            for (int64_t first = 0; first < count; first += 77777) {
                writer.append("x", values.data() + first, std::min<int64_t>(77777, count - first));
            }
        } else {
            writer.write("x", Dtype::u32, Shape{count}, values.data());
        }
        writer.commit();
        const Hdf5Reader reader(folder.file(streamed ? "streamed.h5" : "whole.h5"));
        reader.verify("x");
        CHECK(std::memcmp(reader.map("x"), values.data(), values.size() * 4) == 0);
    }
}

TEST_CASE("hdf5: the same content gives the same file, at any time") {
    const TemporaryFolder folder;
    write_sample(folder.file("a.h5"));
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5's times of objects count seconds
    write_sample(folder.file("b.h5"));
    const bool same = bytes_of(folder.file("a.h5")) == bytes_of(folder.file("b.h5"));
    CHECK(same);
}

TEST_CASE("hdf5: attributes and names") {
    const TemporaryFolder folder;
    write_sample(folder.file("a.h5"));
    const Hdf5Reader reader(folder.file("a.h5"));
    CHECK(read_everything(folder.file("a.h5")) == "");
    CHECK(reader.has("model/layer7.weight"));
    CHECK_FALSE(reader.has("model/layer77.weight"));
    CHECK_FALSE(reader.has("no/such/group"));
    CHECK(reader.has_attribute("step"));
    CHECK_FALSE(reader.has_attribute("stop"));
    CHECK(contains(message_of([&] { reader.dataset("nothing"); }), "dataset nothing of " + folder.file("a.h5")));
    CHECK(contains(message_of([&] { reader.dataset("model"); }), "dataset model of"));
    CHECK(contains(message_of([&] { reader.integer_attribute("loss"); }), "is not a whole number"));
    CHECK(contains(message_of([&] { reader.string_attribute("nothing"); }), "not in the file"));
    CHECK(contains(message_of([&] { reader.read_all("tokens", Dtype::i32, Shape{1000}, nullptr); }),
                   "expected i32[1000]"));

    Hdf5Writer writer(folder.file("b.h5"));
    writer.set_attribute("text", "");
    writer.set_attribute("text", "second");
    writer.set_attribute("empty", "");
    CHECK_THROWS_AS(writer.set_attribute("long", std::string(70000, 'x')), InternalError);
    writer.commit();
    CHECK(Hdf5Reader(folder.file("b.h5")).string_attribute("text") == "second");
    CHECK(Hdf5Reader(folder.file("b.h5")).string_attribute("empty") == "");
}

TEST_CASE("hdf5: without commit() nothing remains, and the old file stays") {
    const TemporaryFolder folder;
    write_sample(folder.file("a.h5"));
    const std::string before = bytes_of(folder.file("a.h5"));
    {
        Hdf5Writer writer(folder.file("a.h5"));
        writer.write("x", Dtype::f32, Shape{1000}, counting<float>(1000).data());
    }
    {
        Hdf5Writer writer(folder.file("a.h5"));
        writer.create("x", Dtype::f32, Shape{2});
        CHECK_THROWS_AS(writer.append("x", counting<float>(3).data(), 3), InternalError);
        CHECK_THROWS_AS(writer.append("y", counting<float>(1).data(), 1), InternalError);
        writer.append("x", counting<float>(1).data(), 1);
        CHECK_THROWS_AS(writer.commit(), InternalError);  // one element is missing
    }
    CHECK(bytes_of(folder.file("a.h5")) == before);
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
    CHECK(contains(message_of([&] { Hdf5Writer(folder.file("no/such/folder.h5")); }), "no/such/folder.h5"));
}

TEST_CASE("hdf5: a file cut short anywhere is refused") {
    const TemporaryFolder folder;
    write_sample(folder.file("a.h5"));
    const std::string whole = bytes_of(folder.file("a.h5"));
    for (size_t length = 0; length < whole.size(); length += 131) {
        put_bytes(folder.file("cut.h5"), whole.substr(0, length));
        if (read_everything(folder.file("cut.h5")).empty())
            FAIL("cut to " << length << " of " << whole.size() << " bytes");
    }
}

TEST_CASE("hdf5: a flipped byte is refused or makes no difference") {
    const TemporaryFolder folder;
    write_sample(folder.file("a.h5"));
    const std::string whole = bytes_of(folder.file("a.h5"));
    std::minstd_rand random(20240607);
    size_t refused = 0, tried = 0;
    for (size_t at = 0; at < whole.size(); at += 1 + random() % 64, ++tried) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ (1 + random() % 255));
        put_bytes(folder.file("flipped.h5"), damaged);
        const std::string message = read_everything(folder.file("flipped.h5"));
        // Padding between objects is not covered; whatever else slipped through would have been a wrong value.
        if (!message.empty()) ++refused;
        for (const char* lie : {"absurd", "differ", "gone"}) {
            if (contains(message, lie)) FAIL("byte " << at << ": " << message);
        }
    }
    CAPTURE(tried, whole.size());
    CHECK(refused > tried / 2);
}

TEST_CASE("hdf5: foreign files are refused in one line that names them") {
    const TemporaryFolder folder;
    put_bytes(folder.file("text.h5"), "this is no HDF5 file\n");
    CHECK(contains(message_of([&] { Hdf5Reader(folder.file("text.h5")); }), "text.h5: not a complete HDF5 file"));
    CHECK(contains(message_of([&] { Hdf5Reader(folder.file("missing.h5")); }), "missing.h5: No such file"));
    CHECK(contains(message_of([&] { Hdf5Reader(folder.path()); }), "not a regular file"));
    put_bytes(folder.file("empty.h5"), "");
    CHECK(contains(message_of([&] { Hdf5Reader(folder.file("empty.h5")); }), "empty.h5"));
}
