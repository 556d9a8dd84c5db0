// tokenizer.model: a small one made here, and what strangers may hand us.
#include <fmt/format.h>

#include <cstring>
#include <random>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "data/prepare.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"
#include "tests/data/sentencepiece_model.h"

namespace ballast::data {
namespace {

using namespace test;

Tokenizer tokenizer_of(const std::string& model) { return Tokenizer(parse_sentencepiece_model(model, "t.model")); }
std::string message_for(const std::string& model) {
    return test::message_of([&] { tokenizer_of(model); });
}

using Ids = std::vector<uint32_t>;

}  // namespace

TEST_CASE("tokenizer.model: pairs that spell a piece merge by falling score") {
    const Tokenizer tokenizer = tokenizer_of(good_model());
    CHECK(tokenizer.encode("a") == Ids{kFirst});
    // "▁a" scores more than "ab", so "▁abc" is never reached from "▁" + "abc" here.
    CHECK(tokenizer.encode("abc") == Ids{kFirst, kFirst + 6, kFirst + 7});
    CHECK(tokenizer.encode("cabc") == Ids{kFirst + 4, kFirst + 7, kFirst + 2});
    CHECK(tokenizer.encode("\u00E9\u00E8") == Ids{kFirst + 4, kFirst + 8, 3 + 0xC3, 3 + 0xA8});
    CHECK(tokenizer.encode("a", InvalidUtf8::error, {.add_special = true}) == Ids{1, kFirst});
    CHECK(tokenizer.encode("a</s>") == Ids{kFirst, 2});
    CHECK(tokenizer.decode(Ids{1, kFirst, 2}, true) == "a");
    CHECK(tokenizer.end_of_text_id() == 2u);
    const Tokenizer plain = tokenizer_of(pieces() + settings() + identity(integer(3, 0)));  // no add_dummy_prefix
    CHECK(plain.encode("abc") == Ids{kFirst + 2});
    CHECK(plain.decode(plain.encode(" abc a")) == " abc a");
}

TEST_CASE("tokenizer.model: loaded by its name, and saved as tokenizer.json") {
    const test::TemporaryFolder folder;
    write_file(folder.file("tokenizer.model"), good_model());
    const Tokenizer first = Tokenizer::load(folder.file("tokenizer.model"));
    first.save(folder.file("tokenizer.json"));
    CHECK(Tokenizer::load(folder.file("tokenizer.json")).hash() == first.hash());
}

TEST_CASE("tokenizer.model: documents in pieces have the ids of the whole, with one U+2581 before each") {
    const test::TemporaryFolder folder;
    std::string text;
    for (int i = 0; i < 500; ++i) text += i % 7 ? "abc a " : "</s> b\n c";
    write_file(folder.file("a.txt"), "\xEF\xBB\xBF" + text);
    write_file(folder.file("b.txt"), " a b");
    const Tokenizer tokenizer = tokenizer_of(good_model());
    CHECK(tokenizer.last_safe_cut("abc a") == 3);
    CHECK(tokenizer.last_safe_cut("abc a</s> b") == 3);  // behind a token Prepend works anew
    CHECK(tokenizer.last_safe_cut("abc\u2581 b") == 0);
    PrepareOptions options;
    options.inputs = {folder.file("a.txt"), folder.file("b.txt")};
    options.output = folder.file("out.h5");
    options.piece_bytes = 50;
    ThreadPool pool(2);
    prepare(tokenizer, options, pool);
    std::vector<uint32_t> expected = tokenizer.encode(text);
    expected.push_back(2);
    for (uint32_t id : tokenizer.encode(" a b")) expected.push_back(id);
    expected.push_back(2);
    const TokenStore store(options.output);
    std::vector<int32_t> tokens(static_cast<size_t>(store.num_tokens()));
    store.read(0, store.num_tokens(), tokens.data());
    CHECK(Ids(tokens.begin(), tokens.end()) == expected);
    CHECK(store.info().end_of_text_id == 2);
}

TEST_CASE("tokenizer.model: what we do not have is refused by name") {
    const auto says = [](const std::string& model, const char* part) {
        const std::string message = message_for(model);
        INFO(message);
        CHECK(message.starts_with("t.model: "));
        CHECK(message.find(part) != std::string::npos);
    };
    says(pieces() + settings(1) + identity(), "model_type 1");
    says(pieces() + identity(), "model_type 1");  // absent is unigram
    says(pieces() + settings(2, 0) + identity(), "no byte_fallback");
    says(pieces() + settings(), "remove_extra_whitespaces");  // absent is true
    says(pieces() + settings() + identity(bytes(2, "table")), "precompiled_charsmap");
    says(pieces() + settings() + identity(integer(5, 0)), "escape_whitespaces");
    says(pieces() + settings() + bytes(2, integer(24, 1)) + identity(), "treat_whitespace_as_suffix");
    says(piece("<user>", 0, kUserDefined) + good_model(), "piece 0 (\"<user>\") of type 4");
    says(piece("x", 0, 99) + good_model(), "of type 99");
}

TEST_CASE("tokenizer.model: damage is named") {
    const auto says = [](const std::string& model, const char* part) {
        const std::string message = message_for(model);
        INFO(message);
        CHECK(message.find(part) != std::string::npos);
    };
    says("", "holds no pieces");
    says(settings() + identity(), "holds no pieces");
    says(good_model() + piece("ab", 0, kNormal), "\"ab\" twice");
    says(good_model() + piece("", 0, kNormal), "empty");
    says(good_model() + piece("\xFF", 0, kNormal), "no UTF-8");
    says(good_model() + piece("x", std::numeric_limits<float>::quiet_NaN(), kNormal), "not finite");
    says(piece("<0x41>", 0, kNormal) + settings() + identity(), "no piece <0x00> of type byte");
    says(good_model() + bytes(1, integer(1, 7)), "as wire type 0 instead of 2");
    says(good_model() + bytes(1, bytes(2, "four")), "as wire type 2 instead of 5");
    says(good_model() + varint(1 << 3 | 2) + varint(uint64_t{1} << 62), "where 0 are left");
    says(good_model() + std::string(11, '\xFF'), "more than ten bytes");
    says(good_model() + "\x03", "field number of 0");
    says(good_model() + "\x0B", "wire type 3");
    says(R"({"model": {}})", "byte");
}

TEST_CASE("tokenizer.model: truncated and flipped bytes load or are user errors") {
    const std::string good = good_model();
    for (size_t size = 0; size < good.size(); size += 1 + size / 9) {
        INFO("first " << size << " bytes");
        CHECK_THROWS_AS(tokenizer_of(good.substr(0, size)), UserError);
    }
    std::mt19937 random(29);
    int refused = 0;
    for (int round = 0; round < 300; ++round) {
        std::string model = good;
        for (int flips = 0; flips < 3; ++flips) model[random() % model.size()] ^= static_cast<char>(1u << random() % 8);
        try {
            tokenizer_of(model).encode("Some abc text, </s> and \u00E9 more");
        } catch (const UserError&) {
            ++refused;
        }
    }
    CHECK(refused > 100);
}

}  // namespace ballast::data
