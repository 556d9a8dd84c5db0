#include "base/safetensors.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast;
using ballast::test::bytes_of;
using ballast::test::message_of;
using ballast::test::put_bytes;
using ballast::test::TemporaryFolder;
using Catch::Matchers::ContainsSubstring;

namespace {

using Shape = std::vector<int64_t>;

/// A file as another program would write it: any header, no padding.
std::string file_of(const std::string& header, const std::string& data) {
    const uint64_t length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

std::string one_tensor(const std::string& dtype, const std::string& shape, uint64_t begin, uint64_t end) {
    return fmt::format(R"({{"x":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}}}})", dtype, shape, begin, end);
}

template <class T>
std::string bytes_as(std::initializer_list<T> values) {
    return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

/// Reads everything; the message of the first UserError, empty when there is none.
std::string read_tensors(const std::string& path) {
    return message_of([&] {
        const SafetensorsReader reader(path);
        for (const std::string& name : reader.names()) {
            std::vector<float> out(static_cast<size_t>(reader.info(name).numel()));
            reader.read_f32(name, out);
        }
    });
}

std::string refusal(const std::string& path, const std::string& bytes) {
    put_bytes(path, bytes);
    return read_tensors(path);
}

void write_tensors(const std::string& path) {
    std::vector<float> values(21);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 10.25f;
    const std::vector<bf16> halves(5, bf16(2.5f));
    const std::vector<f16> fp16(3, f16(-0.5f));
    SafetensorsWriter writer(path);
    writer.add("b.weight", Dtype::f32, Shape{3, 7}, values.data());
    writer.add("a.bias", Dtype::bf16, Shape{5}, halves.data());
    writer.add("c.fp16", Dtype::f16, Shape{3}, fp16.data());
    writer.add("empty", Dtype::i64, Shape{0, 4}, nullptr);
    writer.add("scalar", Dtype::f32, Shape{}, values.data());
    writer.commit();
}

}  // namespace

TEST_CASE("safetensors: what is written reads back, laid out as the format asks") {
    const TemporaryFolder folder;
    write_tensors(folder.file("a.safetensors"));
    const SafetensorsReader reader(folder.file("a.safetensors"));
    CHECK(reader.names() == std::vector<std::string>{"a.bias", "b.weight", "c.fp16", "empty", "scalar"});
    CHECK(reader.info("b.weight").dtype == "F32");
    CHECK(reader.info("b.weight").shape == Shape{3, 7});
    CHECK(reader.info("a.bias").dtype == "BF16");
    CHECK(reader.info("c.fp16").dtype == "F16");
    CHECK(reader.info("scalar").numel() == 1);
    CHECK(reader.info("empty").numel() == 0);
    std::vector<float> out(21);
    reader.read_f32("b.weight", out);
    CHECK(out[20] == 9.75f);
    std::vector<f16> fp16(3);
    reader.read_as("c.fp16", Dtype::f16, fp16.data());
    CHECK(static_cast<float>(fp16[2]) == -0.5f);

    const std::string bytes = bytes_of(folder.file("a.safetensors"));
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    CHECK(length % 8 == 0);
    const auto header = nlohmann::json::parse(bytes.substr(8, length));
    CHECK(header["__metadata__"]["format"] == "pt");
    CHECK(header["a.bias"]["data_offsets"] == std::vector<int>{84, 94});
    CHECK(bytes.size() == 8 + length + 104);
    CHECK_THAT(message_of([&] { reader.info("c"); }),
               ContainsSubstring("tensor c is not in " + folder.file("a.safetensors")));
    CHECK_THAT(message_of([&] { reader.read_f32("a.bias", out); }), ContainsSubstring("has 5 elements, expected 21"));
}

TEST_CASE("safetensors: F16 becomes float exactly, for all 65536 bit patterns") {
    const TemporaryFolder folder;
    std::string data;
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const auto half = static_cast<uint16_t>(bits);
        data.append(reinterpret_cast<const char*>(&half), 2);
    }
    put_bytes(folder.file("a"), file_of(one_tensor("F16", "[65536]", 0, data.size()), data));
    std::vector<float> out(65536);
    SafetensorsReader(folder.file("a")).read_f32("x", out);
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
        const double sign = bits & 0x8000 ? -1 : 1;
        double expected = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
        if (exponent == 31) expected = fraction ? std::nan("") : std::numeric_limits<double>::infinity();
        const double actual = out[bits];
        const bool same =
            std::isnan(expected) ? std::isnan(actual) : actual == sign * expected && std::signbit(actual) == (sign < 0);
        if (!same) FAIL("half " << bits << " became " << actual);
    }
}

TEST_CASE("safetensors: every stored type becomes f32, f64, bf16 and fp16") {
    const TemporaryFolder folder;
    const auto check = [&](const char* dtype, const std::string& data, std::vector<double> expected) {
        CAPTURE(dtype);
        // An odd header length puts the data on an odd address.
        put_bytes(folder.file("a"),
                  file_of(one_tensor(dtype, fmt::format("[{}]", expected.size()), 0, data.size()), data));
        const SafetensorsReader reader(folder.file("a"));
        std::vector<float> floats(expected.size());
        std::vector<double> doubles(expected.size());
        std::vector<bf16> halves(expected.size());
        std::vector<f16> fp16(expected.size());
        reader.read_f32("x", floats);
        reader.read_as("x", Dtype::f64, doubles.data());
        reader.read_as("x", Dtype::bf16, halves.data());
        reader.read_as("x", Dtype::f16, fp16.data());
        for (size_t i = 0; i < expected.size(); ++i) {
            CHECK(doubles[i] == expected[i]);
            CHECK(floats[i] == static_cast<float>(expected[i]));
            CHECK(static_cast<float>(halves[i]) == static_cast<float>(bf16(static_cast<float>(expected[i]))));
            CHECK(fp16[i].bits == f16(static_cast<float>(expected[i])).bits);
        }
    };
    check("F32", bytes_as<float>({1.5f, -2.25f}), {1.5, -2.25});
    check("F64", bytes_as<double>({1.0 / 3, -1e-30}), {1.0 / 3, -1e-30});
    check("BF16", bytes_as<uint16_t>({0x3fc0, 0xc010}), {1.5, -2.25});
    check("F16", bytes_as<uint16_t>({0x3e00, 0xc080}), {1.5, -2.25});
    check("I64", bytes_as<int64_t>({-3, 1LL << 40}), {-3, 1099511627776.0});
    check("U64", bytes_as<uint64_t>({3, 1ULL << 40}), {3, 1099511627776.0});
    check("I32", bytes_as<int32_t>({-3, 70000}), {-3, 70000});
    check("U32", bytes_as<uint32_t>({3, 4000000000u}), {3, 4000000000.0});
    check("I16", bytes_as<int16_t>({-3, 300}), {-3, 300});
    check("U16", bytes_as<uint16_t>({3, 65535}), {3, 65535});
    check("I8", bytes_as<int8_t>({-3, 100}), {-3, 100});
    check("U8", bytes_as<uint8_t>({3, 200}), {3, 200});
    check("BOOL", bytes_as<uint8_t>({0, 1}), {0, 1});
}

TEST_CASE("safetensors: whole numbers are never rounded, and become others where they fit") {
    const TemporaryFolder folder;
    const std::string path = folder.file("a");
    const auto put = [&](const char* dtype, const std::string& data, size_t count) {
        put_bytes(path, file_of(one_tensor(dtype, fmt::format("[{}]", count), 0, data.size()), data));
    };
    put("I64", bytes_as<int64_t>({(1LL << 60) + 1}), 1);
    int64_t out = 0;
    SafetensorsReader(path).read_as("x", Dtype::i64, &out);
    CHECK(out == (1LL << 60) + 1);

    int32_t narrow[3];
    put("I64", bytes_as<int64_t>({-5, INT32_MAX, INT32_MIN}), 3);
    SafetensorsReader(path).read_as("x", Dtype::i32, narrow);
    CHECK(std::vector<int32_t>(narrow, narrow + 3) == std::vector<int32_t>{-5, INT32_MAX, INT32_MIN});
    put("U8", bytes_as<uint8_t>({0, 200, 255}), 3);
    SafetensorsReader(path).read_as("x", Dtype::i32, narrow);
    CHECK(std::vector<int32_t>(narrow, narrow + 3) == std::vector<int32_t>{0, 200, 255});
    for (const int64_t beyond : {int64_t{INT32_MAX} + 1, int64_t{INT32_MIN} - 1}) {
        put("I64", bytes_as<int64_t>({0, beyond}), 2);
        CHECK(message_of([&] { SafetensorsReader(path).read_as("x", Dtype::i32, narrow); }) ==
              fmt::format("tensor x of {} holds {}, which is out of range", path, beyond));
    }
    put("F32", bytes_as<float>({1}), 1);
    CHECK_THAT(message_of([&] { SafetensorsReader(path).read_as("x", Dtype::i32, narrow); }),
               ContainsSubstring("is F32, which cannot become i32"));
    put_bytes(path, file_of(one_tensor("F8_E4M3", "[8]", 0, 8), std::string(8, 'x')));
    CHECK_THAT(read_tensors(path), ContainsSubstring("is F8_E4M3, which cannot become f32"));
}

TEST_CASE("safetensors: lies of the header are refused") {
    const TemporaryFolder folder;
    const std::string path = folder.file("a.safetensors");
    const std::string data(16, '\0');
    const auto refused = [&](const std::string& header) { return refusal(path, file_of(header, data)); };
    CHECK(refused(one_tensor("F32", "[4]", 0, 16)) == "");
    CHECK(refused(one_tensor("F32", "[2,2]", 0, 16) + "   ") == "");

    const std::pair<std::string, const char*> lies[] = {
        {one_tensor("F32", "[3]", 0, 12), "more data than tensors"},
        {one_tensor("F32", "[4]", 0, 12), "does not fit its data"},
        {one_tensor("F32", "[3]", 4, 16), "overlap or leave gaps"},
        {one_tensor("F32", "[5]", 0, 20), "beyond the end"},
        {one_tensor("F32", "[4]", 16, 0), "beyond the end"},
        {one_tensor("F32", "[4]", 16, 18446744073709551615ull), "beyond the end"},
        {one_tensor("F33", "[4]", 0, 16), "unknown dtype F33"},
        {one_tensor("F32", "[-4]", 0, 16), "has no shape"},
        {one_tensor("F32", "[4.0]", 0, 16), "has no shape"},
        {one_tensor("F32", "4", 0, 16), "has no shape"},
        // 2^62 · 2^2 · 4 bytes wraps to 0 in 64 bits; so does a huge extent beside a zero when multiplied carelessly.
        {one_tensor("F32", "[4611686018427387904,4]", 0, 0), "impossible shape"},
        {one_tensor("U8", "[18446744073709551615]", 0, 16), "impossible shape"},
        {one_tensor("U8", "[0,18446744073709551615]", 0, 0), "impossible shape"},
        {R"({"x":3})", "has no description"},
        {R"({"x":{"shape":[4],"data_offsets":[0,16]}})", "has no dtype"},
        {R"({"x":{"dtype":"F32","shape":[4],"data_offsets":[0]}})", "has no data_offsets"},
        {R"({"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
         "overlap or leave gaps"},
        {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
         "overlap or leave gaps"},  // one name twice
        {"[]", "no JSON object"},
        {"{", "no JSON object"},
        {"", "no JSON object"},
        {std::string(200000, '['), "no JSON object"},
    };
    for (const auto& [header, reason] : lies) CHECK_THAT(refused(header), ContainsSubstring(reason));
    CHECK_THAT(refusal(path, ""), ContainsSubstring("too short"));
    CHECK_THAT(refusal(path, std::string(8, '\xff')), ContainsSubstring("length is impossible"));
    CHECK_THAT(read_tensors(folder.file("missing")), ContainsSubstring("No such file"));
    CHECK_THAT(read_tensors(folder.path()), ContainsSubstring("not a regular file"));
}

TEST_CASE("safetensors: truncated anywhere is refused, and flipped bytes never crash") {
    const TemporaryFolder folder;
    write_tensors(folder.file("a"));
    const std::string whole = bytes_of(folder.file("a"));
    CHECK(read_tensors(folder.file("a")) == "");
    for (size_t length = 0; length < whole.size(); ++length) {
        if (refusal(folder.file("cut"), whole.substr(0, length)).empty()) FAIL("cut to " << length);
    }
    std::minstd_rand random(4711);
    for (size_t at = 0; at < whole.size(); ++at) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ (1 + random() % 255));
        refusal(folder.file("flipped"), damaged);
    }
}

TEST_CASE("safetensors: a folder is one file or shards, whichever fits") {
    const TemporaryFolder folder;
    const std::string out = folder.file("model");
    const std::vector<float> values(100, 1.25f);
    const auto write = [&](int64_t max_shard_bytes) {
        SafetensorsFolderWriter writer(out, max_shard_bytes);
        for (int i = 0; i < 5; ++i)
            writer.add(fmt::format("layer.{}", i), Dtype::f32, Shape{i == 3 ? 100 : 10}, values.data());
        writer.commit();
    };
    const auto files = [&] {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(out))
            names.push_back(entry.path().filename().string());
        std::sort(names.begin(), names.end());
        return names;
    };
    const auto check_content = [&] {
        const SafetensorsFolder model(out);
        CHECK(model.names().size() == 5);
        CHECK(model.has("layer.3"));
        CHECK_FALSE(model.has("layer.5"));
        std::vector<float> back(100);
        model.read_f32("layer.3", back);
        CHECK(back == values);
        CHECK_THAT(message_of([&] { model.info("layer.5"); }), ContainsSubstring("tensor layer.5 is not in"));
    };
    write(1000);
    CHECK(files() == std::vector<std::string>{"model.safetensors"});
    check_content();
    write(100);  // 40 + 40 | 40 | 400 | 40: two fit, and the large one stands alone
    CHECK(files() == std::vector<std::string>{"model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                                              "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                                              "model.safetensors.index.json"});
    const auto index = nlohmann::json::parse(bytes_of(out + "/model.safetensors.index.json"));
    CHECK(index["metadata"]["total_size"] == 560);
    CHECK(index["weight_map"]["layer.3"] == "model-00003-of-00004.safetensors");
    check_content();
    CHECK(SafetensorsFolder(out + "/model-00003-of-00004.safetensors").names().size() == 1);
    write(1000);
    CHECK(std::filesystem::exists(out + "/model.safetensors"));
    CHECK_FALSE(std::filesystem::exists(out + "/model.safetensors.index.json"));
}

TEST_CASE("safetensors: a folder whose index lies is refused") {
    const TemporaryFolder folder;
    write_tensors(folder.file("model-00001-of-00001.safetensors"));
    const auto refused = [&](const std::string& index) {
        put_bytes(folder.file("model.safetensors.index.json"), index);
        return message_of([&] { SafetensorsFolder model(folder.path()); });
    };
    CHECK(refused(R"({"weight_map":{"scalar":"model-00001-of-00001.safetensors"}})") == "");
    const std::pair<const char*, const char*> lies[] = {
        {R"({"weight_map":{"nothing":"model-00001-of-00001.safetensors"}})", "nothing is not in"},
        {R"({"weight_map":{"scalar":"lost.safetensors"}})", "No such file"},
        {R"({"weight_map":{"scalar":"../x.safetensors"}})", "no file of this folder"},
        {R"({"weight_map":{"scalar":3}})", "no file of this folder"},
        {"{}", "has no weight_map"},
        {"[]", "has no weight_map"},
        {"{\n\n!", "index.json:3: not valid JSON"},
    };
    for (const auto& [index, reason] : lies) CHECK_THAT(refused(index), ContainsSubstring(reason));
    std::filesystem::remove(folder.file("model.safetensors.index.json"));
    CHECK_THAT(message_of([&] { SafetensorsFolder model(folder.path()); }),
               ContainsSubstring("has neither model.safetensors nor"));
    write_file(folder.file("pytorch_model.bin"), "");
    CHECK_THAT(message_of([&] { SafetensorsFolder model(folder.path()); }), ContainsSubstring("save_pretrained"));
}
