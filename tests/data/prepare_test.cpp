#include "data/prepare.h"

#include <algorithm>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/thread_pool.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/offsets_of.h"
#include "tests/data/fixtures.h"

namespace ballast::data {
namespace {

using test::put_bytes;

Tokenizer small_tokenizer() { return Tokenizer::load(test::fixture_path("tokenizer.json")); }

std::string words(uint32_t seed, size_t bytes) {
    static constexpr const char* kWords[] = {"the", "whale", "caf\u00e9 noir", "don't", "<|endoftext|>",
                                             "  ",  "\n",    "e\u0301x",       "42"};
    std::mt19937 random(seed);
    std::string text;
    while (text.size() < bytes) text += std::string(kWords[random() % std::size(kWords)]) + (random() % 4 ? " " : "");
    return text;
}

std::vector<uint32_t> ids_in(const TokenStore& store) {
    std::vector<int32_t> out(static_cast<size_t>(store.num_tokens()));
    store.read(0, store.num_tokens(), out.data());
    return {out.begin(), out.end()};
}

int files_in(const std::string& folder) {
    return static_cast<int>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

/// A folder of text beside an empty folder for the output.
struct TextFolder {
    test::TemporaryFolder input, output;
    PrepareOptions options;

    TextFolder() {
        put_bytes(input.file("a.txt"), words(1, 30000));
        put_bytes(input.file("b.txt"), "");
        put_bytes(input.file("c.jsonl"), "{\"text\": \"line one\"}\n{\"text\": \"\"}\n{\"text\": \"line three\"}\n");
        put_bytes(input.file("d.txt"), words(2, 5000));
        options.inputs = {input.path()};
        options.output = output.file("train.h5");
        options.piece_bytes = 90;
    }
    PrepareResult prepare(int threads = 1) const {
        ThreadPool pool(threads);
        return data::prepare(small_tokenizer(), options, pool);
    }
};

}  // namespace

TEST_CASE("prepare: documents become the tokens of their whole texts") {
    TextFolder place;
    for (const bool append : {true, false}) {
        place.options.append_end_of_text = append;
        const PrepareResult result = place.prepare();
        const Tokenizer tokenizer = small_tokenizer();
        std::vector<uint32_t> expected;
        std::vector<int64_t> offsets = {0};
        for (const std::string& text :
             {words(1, 30000), std::string("line one"), std::string("line three"), words(2, 5000)}) {
            const auto ids = tokenizer.encode(text);
            expected.insert(expected.end(), ids.begin(), ids.end());
            if (append) expected.push_back(0);
            offsets.push_back(static_cast<int64_t>(expected.size()));
        }
        const TokenStore store(place.options.output);
        store.verify();
        CHECK(ids_in(store) == expected);
        CHECK(test::offsets_of(store) == offsets);
        CHECK(store.info().end_of_text_id == (append ? 0 : -1));
        CHECK(store.tokenizer_hash() == tokenizer.hash());
        CHECK(store.vocab_size() == tokenizer.vocab_size());
        CHECK(store.dtype() == Dtype::u16);
        CHECK(result.num_documents == 4);
        CHECK(result.num_tokens == store.num_tokens());
    }
}

TEST_CASE("prepare: the content is the same for any number of threads") {
    TextFolder place;
    const auto content = [&](int threads) {
        place.prepare(threads);
        const TokenStore store(place.options.output);
        return std::pair(ids_in(store), test::offsets_of(store));
    };
    const auto one = content(1);
    CHECK(content(2) == one);
    CHECK(content(5) == one);
}

TEST_CASE("prepare: the end of the text is held out") {
    TextFolder place;
    place.prepare();
    const TokenStore whole(place.options.output);
    const auto all = ids_in(whole);
    place.options.output = place.output.file("part.h5");
    place.options.validation_output = place.output.file("val.h5");
    const auto borders = test::offsets_of(whole);
    const auto last_document = static_cast<double>(borders.back() - borders[borders.size() - 2]);
    const double between_documents = (last_document - 0.5) / static_cast<double>(all.size());
    for (const double fraction : {0.05, 0.5, 0.0001, 0.97, between_documents}) {
        place.options.validation_fraction = fraction;
        const PrepareResult result = place.prepare(2);
        const TokenStore train(place.options.output), validation(place.options.validation_output);
        train.verify();
        validation.verify();
        auto joined = ids_in(train);
        const auto tail = ids_in(validation);
        CHECK(static_cast<int64_t>(tail.size()) == result.num_validation_tokens);
        CHECK(std::abs(static_cast<double>(tail.size()) - fraction * static_cast<double>(all.size())) <= 1);
        joined.insert(joined.end(), tail.begin(), tail.end());
        REQUIRE(joined == all);
        // Documents: the same borders, one document cut in two unless the cut is a border already.
        const bool on_border = std::binary_search(borders.begin(), borders.end(), train.num_tokens());
        CHECK(on_border == (fraction == between_documents));
        CHECK(train.num_documents() + validation.num_documents() == whole.num_documents() + !on_border);
    }
}

TEST_CASE("prepare: large vocabularies take 32 bits") {
    TextFolder place;
    TokenizerSpec spec = small_tokenizer().spec();
    spec.added_tokens.push_back({70000, "whale", false, false});
    ThreadPool pool(2);
    const Tokenizer tokenizer(spec);
    data::prepare(tokenizer, place.options, pool);
    const TokenStore store(place.options.output);
    store.verify();
    CHECK(store.dtype() == Dtype::u32);
    const auto tokens = ids_in(store);
    CHECK(std::count(tokens.begin(), tokens.end(), 70000u) > 0);
}

TEST_CASE("prepare: mistakes leave nothing behind") {
    TextFolder place;
    const auto message = [&] { return test::message_of([&] { place.prepare(2); }); };
    put_bytes(place.input.file("e.txt"), "fine " + words(5, 3000) + " bad \xFF");
    const size_t bad_byte = test::bytes_of(place.input.file("e.txt")).size() - 1;
    CHECK(message().find(place.input.file("e.txt") + ": invalid UTF-8 at byte " + std::to_string(bad_byte)) == 0);
    CHECK(files_in(place.output.path()) == 0);

    place.options.invalid_utf8 = InvalidUtf8::replace;
    CHECK(message() == "");
    const std::string good = test::bytes_of(place.options.output);

    int asked = 0;
    place.options.interrupted = [&asked] { return ++asked == 2; };
    CHECK_THROWS_AS(place.prepare(2), RunError);
    CHECK(test::bytes_of(place.options.output) == good);
    CHECK(files_in(place.output.path()) == 1);
    place.options.interrupted = nullptr;

    put_bytes(place.input.file("f.jsonl"), "{\"text\": \"x\"}\n{");
    CHECK(message().find("f.jsonl:2") != std::string::npos);
    place.options.inputs = {place.input.file("b.txt")};
    CHECK(message().find("holds no text") != std::string::npos);
    place.options.validation_fraction = 0.5;
    CHECK(message().find("need each other") != std::string::npos);
    place.options.validation_output = place.output.file("v.h5");
    place.options.validation_fraction = 1.5;
    CHECK(message().find("--validation-fraction 1.5") != std::string::npos);
    CHECK(files_in(place.output.path()) == 1);
}

TEST_CASE("prepare: a tokenizer without end of text") {
    TextFolder place;
    TokenizerSpec spec = small_tokenizer().spec();
    std::erase_if(spec.added_tokens, [](const AddedToken& token) { return token.content == "<|endoftext|>"; });
    for (auto& [spelling, id] : spec.vocabulary)
        if (spelling == "<|endoftext|>") spelling = "<|other|>";
    const Tokenizer tokenizer(spec);
    ThreadPool pool(1);
    CHECK(test::message_of([&] { data::prepare(tokenizer, place.options, pool); }).find("--no-append-eod") !=
          std::string::npos);
}

TEST_CASE("prepare: an output that is one of the inputs is refused, and the text stays") {
    TextFolder place;
    const std::string path = place.input.file("a.txt"), before = test::bytes_of(path);
    place.options.output = path;
    CHECK(test::message_of([&] { place.prepare(); }).find("cannot write " + path + ": it is the input") == 0);
    place.options.output = place.output.file("train.h5");
    place.options.validation_output = place.input.path() + "/./d.txt";
    place.options.validation_fraction = 0.1;
    CHECK(test::message_of([&] { place.prepare(); }).find("it is the input") != std::string::npos);
    CHECK(test::bytes_of(path) == before);
    CHECK(files_in(place.output.path()) == 0);
}

TEST_CASE("prepare: of .idx and .bin both are outputs, whichever is named") {
    TextFolder place;
    const std::string text = place.input.file("c.bin"), before = words(3, 2000);
    put_bytes(text, before);
    place.options.inputs = {text};
    place.options.format = TextFormat::text;
    place.options.output = place.input.file("c.idx");
    CHECK(test::message_of([&] { place.prepare(); }).find("cannot write " + text + ": it is the input") == 0);
    CHECK(test::bytes_of(text) == before);

    place.options.output = place.output.file("train.idx");
    std::filesystem::create_directory(place.output.file("train.bin"));
    bool begun = false;
    place.options.progress = [&](int64_t, int64_t) { begun = true; };
    CHECK(test::message_of([&] { place.prepare(); }).find("cannot write " + place.output.file("train.bin")) == 0);
    CHECK_FALSE(begun);
}

TEST_CASE("prepare: the two outputs may not be one file, by whatever names") {
    TextFolder place;
    place.options.validation_fraction = 0.1;
    std::filesystem::create_symlink("train.h5", place.output.file("link.h5"));
    const auto message = [&](const std::string& output, const std::string& validation) {
        place.options.output = place.output.path() + "/" + output;
        place.options.validation_output = place.output.path() + "/" + validation;
        return test::message_of([&] { place.prepare(); });
    };
    for (const auto& [output, validation] : std::vector<std::pair<std::string, std::string>>{
             {"train.h5", "train.h5"}, {"train.h5", "./train.h5"}, {"train.h5", "link.h5"}, {"t.idx", "t.bin"}})
        CHECK(message(output, validation).find("--output and --validation-output name the same file") == 0);
    CHECK(files_in(place.output.path()) == 1);  // the link
    CHECK(message("t.idx", "t2.bin") == "");
}

TEST_CASE("prepare: progress reaches the end") {
    TextFolder place;
    int64_t last = 0, whole = 0;
    bool ascending = true;
    place.options.progress = [&](int64_t done, int64_t total) {
        ascending = ascending && done >= last;
        last = done;
        whole = total;
    };
    place.prepare();
    CHECK(ascending);
    CHECK(whole > 35000);
    CHECK(last == whole);
}

}  // namespace ballast::data
