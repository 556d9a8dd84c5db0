#include "data/token_store.h"

#include <random>

#include "base/error.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

namespace ballast::data {
namespace {

struct Content {
    std::vector<uint16_t> tokens = {5, 6, 7, 0, 8, 9, 0, 99, 0};
    std::vector<int64_t> offsets = {0, 4, 7, 9};
    TokenStoreInfo info{"cafe", 100, 0, "books\n"};
};

void write_store(const std::string& path, const Content& content) {
    Hdf5Writer file(path);
    write_info(file, content.info);
    const int64_t num_tokens[] = {static_cast<int64_t>(content.tokens.size())};
    const int64_t num_offsets[] = {static_cast<int64_t>(content.offsets.size())};
    file.write(kTokensDataset, Dtype::u16, num_tokens, content.tokens.data());
    file.write(kOffsetsDataset, Dtype::i64, num_offsets, content.offsets.data());
    file.commit();
}

std::string message_of_store(const std::string& path) {
    return test::message_of([&] { TokenStore(path).verify(); });
}

}  // namespace

TEST_CASE("token store: what was written is read") {
    const test::TemporaryFolder folder;
    const Content content;
    write_store(folder.file("a.h5"), content);
    const TokenStore store(folder.file("a.h5"));
    CHECK(store.num_tokens() == 9);
    CHECK(store.num_documents() == 3);
    CHECK(store.dtype() == Dtype::u16);
    CHECK(store.vocab_size() == 100);
    CHECK(store.tokenizer_hash() == "cafe");
    CHECK(store.info().end_of_text_id == 0);
    CHECK(store.info().sources == "books\n");
    std::vector<int32_t> out(6, -1);
    store.read(3, 4, out.data() + 1);
    CHECK(out == std::vector<int32_t>{-1, 0, 8, 9, 0, -1});
    store.verify();
}

TEST_CASE("token store: the fingerprint tells texts apart, not files") {
    const test::TemporaryFolder folder;
    const auto fingerprint = [&](const Content& content) {
        write_store(folder.file("a.h5"), content);
        return TokenStore(folder.file("a.h5")).fingerprint();
    };
    Content other_file, other_token, other_document;
    other_file.info.sources = "elsewhere\n";
    other_token.tokens[4] = 10;
    other_document.offsets[1] = 3;
    const std::string plain = fingerprint({});
    CHECK(fingerprint(other_file) == plain);
    CHECK(fingerprint(other_token) != plain);
    CHECK(fingerprint(other_document) != plain);
    write_store(folder.file("a.h5"), {});
    CHECK(TokenStore(folder.file("a.h5")).has_fingerprint(plain));
    CHECK_FALSE(TokenStore(folder.file("a.h5")).has_fingerprint(plain.substr(0, plain.find(','))));
}

TEST_CASE("token store: lies are found") {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    const auto message_with = [&](auto&& change) {
        Content content;
        change(content);
        write_store(path, content);
        return message_of_store(path);
    };
    CHECK(message_with([](Content& c) { c.offsets[0] = 1; }).find("starts at 1") != std::string::npos);
    CHECK(message_with([](Content& c) { c.offsets[2] = 3; }).find("descends at entry 2") != std::string::npos);
    CHECK(message_with([](Content& c) { c.offsets[3] = 10; }).find("ends at 10") != std::string::npos);
    CHECK(message_with([](Content& c) { c.offsets[1] = -1; }).find("descends") != std::string::npos);
    CHECK(message_with([](Content& c) { c.offsets.clear(); }).find("is empty") != std::string::npos);
    CHECK(message_with([](Content& c) { c.tokens[4] = 100; }).find("token 100") != std::string::npos);
    CHECK(message_with([](Content& c) { c.info.vocab_size = 0; }).find("vocab_size = 0") != std::string::npos);
    CHECK(message_with([](Content& c) { c.info.vocab_size = 100000; }).find("must be u32") != std::string::npos);
    CHECK(message_with([](Content& c) { c.info.end_of_text_id = 100; }).find("end_of_text_id = 100") !=
          std::string::npos);
    CHECK(message_with([](Content&) {}) == "");
}

TEST_CASE("token store: foreign files are refused") {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    CHECK(message_of_store(path).find(path) != std::string::npos);
    test::put_bytes(path, "not HDF5");
    CHECK(message_of_store(path).find(path) != std::string::npos);
    Hdf5Writer file(path);
    file.set_attribute("format", std::string("something else"));
    file.commit();
    CHECK(message_of_store(path).find("not a token store") != std::string::npos);
    Hdf5Writer newer(path);
    write_info(newer, Content{}.info);
    newer.set_attribute("format_version", int64_t{2});
    newer.commit();
    CHECK(message_of_store(path).find("format version 2") != std::string::npos);
    Hdf5Writer empty(path);
    write_info(empty, Content{}.info);
    empty.commit();
    CHECK(message_of_store(path).find(kTokensDataset) != std::string::npos);
}

TEST_CASE("token store: truncated and flipped files never crash") {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    Content content;
    content.tokens.assign(3000, 42);
    content.offsets = {0, 1000, 3000};
    write_store(path, content);
    const std::string good = test::bytes_of(path);
    for (size_t size = 0; size < good.size(); size += 1 + good.size() / 40) {
        test::put_bytes(path, good.substr(0, size));
        INFO("first " << size << " bytes");
        CHECK(message_of_store(path) != "");
    }
    std::mt19937 random(41);
    int found = 0;
    for (int round = 0; round < 300; ++round) {
        std::string bad = good;
        bad[random() % bad.size()] ^= static_cast<char>(1u << random() % 8);
        test::put_bytes(path, bad);
        found += message_of_store(path) != "";
    }
    CHECK(found > 150);  // the rest hit unused bytes or the sources
    const size_t tokens_at = good.find(std::string("\x2a\0\x2a\0\x2a\0\x2a\0", 8));
    REQUIRE(tokens_at != std::string::npos);
    std::string bad = good;
    bad[tokens_at + 2000] ^= 1;  // still a valid token: only the checksum can tell
    test::put_bytes(path, bad);
    const TokenStore store(path);
    CHECK(test::message_of([&] { store.verify(); }) != "");
}

}  // namespace ballast::data
