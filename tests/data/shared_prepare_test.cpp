// Token stores that several processes make, one an input file, and their being read as one.
#include "data/shared_prepare.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <functional>
#include <map>
#include <random>

#include "base/error.h"
#include "base/file_lock.h"
#include "base/thread_pool.h"
#include "data/joined_parts.h"
#include "data/sampler.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"
#include "tests/data/offsets_of.h"
#include "tests/data/stores.h"

namespace ballast::data {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using test::bytes_of, test::put_bytes;

std::vector<int32_t> all_tokens(const TokenStore& store) {
    std::vector<int32_t> out(static_cast<size_t>(store.num_tokens()));
    store.read(0, store.num_tokens(), out.data());
    return out;
}

std::string json_lines(uint32_t seed, int documents) {
    std::mt19937 random(seed);
    std::string text;
    for (int d = 0; d < documents; ++d) {
        text += "{\"text\": \"";
        for (size_t words = random() % 40; words > 0; --words) text += "whale " + std::to_string(random() % 100) + " ";
        text += "\"}\n";
    }
    return text;
}

/// Files of different sizes, two of them without text, and an empty folder for the output.
struct Workplace {
    test::TemporaryFolder input, output;
    Tokenizer tokenizer = Tokenizer::load(test::fixture_path("tokenizer.json"));
    PrepareOptions options;

    Workplace() {
        for (int i = 0; i < 6; ++i)
            put_bytes(input.file(std::to_string(i) + ".jsonl"),
                      json_lines(static_cast<uint32_t>(i), i == 2 ? 0 : 9 * i));
        options.inputs = {input.path()};
        options.output = output.file("pile.json");
    }
    std::string part(int i) const { return output.file("pile.parts/0000" + std::to_string(i) + ".h5"); }
    PrepareResult shared(int threads = 1) const {
        ThreadPool pool(threads);
        return prepare_shared(tokenizer, options, pool);
    }
    TokenStore alone() const {
        ThreadPool pool(1);
        PrepareOptions one = options;
        one.output = output.file("pile.h5");
        prepare(tokenizer, one, pool);
        return TokenStore(one.output);
    }
    std::string message() const {
        return test::message_of([&] { TokenStore(options.output).verify(); });
    }
};

/// A process of its own that prepares, and ends as `_exit` says.
template <class Work>
pid_t start(const Work& work) {
    const pid_t child = ::fork();
    if (child == 0) {
        try {
            work();
        } catch (...) {
            ::_exit(3);
        }
        ::_exit(0);
    }
    return child;
}

int wait_for(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
}

/// Files whose documents come again in themselves and in the others, of groups, some of them held out.
struct Repeats {
    static constexpr int kFiles = 4;
    test::TemporaryFolder input, output;
    Tokenizer tokenizer = Tokenizer::load(test::fixture_path("tokenizer.json"));
    PrepareOptions options;

    Repeats() {
        std::mt19937 random(11);
        for (const std::string& path : inputs()) {
            std::string lines;
            for (int left = 30 + 20 * static_cast<int>(options.inputs.size()); left > 0; --left) {
                const unsigned text = random() % 90;
                lines += "{\"text\": \"whale" + std::string(text % 7, 'x') + " " + std::to_string(text) +
                         "\", \"meta\": {\"pile_set_name\": \"" + std::string(1, "ABC"[random() % 3]) + "\"}}\n";
            }
            put_bytes(path, lines);
            options.inputs.push_back(path);
        }
        options.output = output.file("pile.json");
        options.validation_output = output.file("val.json");
        options.validation_fraction = 0.3;
        options.validation_by = ValidationBy::hash;
        options.drop_duplicates = true;
    }
    std::vector<std::string> inputs() const {
        std::vector<std::string> paths;
        for (int i = 0; i < kFiles; ++i) paths.push_back(input.file(std::to_string(i) + ".jsonl"));
        return paths;
    }
    std::string part(int i) const { return output.file("pile.parts/0000" + std::to_string(i) + ".h5"); }
    /// Duplicates, and the documents among which they were looked for.
    std::pair<int64_t, int64_t> shared(const PrepareOptions& how) const {
        ThreadPool pool(1);
        const PrepareResult result = prepare_shared(tokenizer, how, pool);
        return {result.num_duplicates, result.num_searched};
    }
    PrepareResult alone() const {
        ThreadPool pool(1);
        PrepareOptions one = options;
        one.output = output.file("train.h5");
        one.validation_output = output.file("val.h5");
        return prepare(tokenizer, one, pool);
    }
    /// The joined stores hold what one process put into train.h5 and val.h5.
    void compare() const {
        for (const auto& [json, h5] : {std::pair{options.output, "train.h5"}, {options.validation_output, "val.h5"}}) {
            const TokenStore joined(json), whole(output.file(h5));
            joined.verify();
            CHECK(joined.num_documents() > 10);
            CHECK(all_tokens(joined) == all_tokens(whole));
            CHECK(test::offsets_of(joined) == test::offsets_of(whole));
            CHECK(joined.info().groups == whole.info().groups);
            CHECK(whole.info().groups.size() == 3);
        }
    }
    /// Every file of the result.
    std::map<std::string, std::string> bytes() const {
        std::map<std::string, std::string> all;
        for (const auto& entry : fs::recursive_directory_iterator(output.path()))
            if (entry.is_regular_file() && entry.path().extension() != ".lock")
                all[entry.path().string()] = bytes_of(entry.path().string());
        return all;
    }
};

}  // namespace

TEST_CASE("shared prepare: the documents of one process, in their order, and every way of reading them") {
    const Workplace place;
    const PrepareResult result = place.shared();
    const TokenStore joined(place.options.output), whole = place.alone();
    joined.verify();
    CHECK(all_tokens(joined) == all_tokens(whole));
    CHECK(test::offsets_of(joined) == test::offsets_of(whole));
    CHECK(result.num_tokens == whole.num_tokens());
    CHECK(result.num_documents == whole.num_documents());
    CHECK(joined.tokenizer_hash() == whole.tokenizer_hash());
    CHECK(joined.info().end_of_text_id == whole.info().end_of_text_id);
    CHECK(joined.info().begin_of_text_id == whole.info().begin_of_text_id);
    CHECK(joined.info().sources == whole.info().sources);
    CHECK(joined.dtype() == whole.dtype());
    const auto tokens = all_tokens(whole);
    std::vector<int32_t> some(30);
    for (int64_t first = 0; first + 30 <= joined.num_tokens(); ++first) {  // across every border of parts
        joined.read(first, 30, some.data());
        REQUIRE(std::equal(some.begin(), some.end(), tokens.begin() + first));
    }
    const Sampler a(joined, test::neox_order(joined, 16, 1, 300)), b(whole, test::neox_order(whole, 16, 1, 300));
    REQUIRE(a.size() == b.size());
    for (int64_t i = 0; i < a.size(); ++i) {
        std::vector<int32_t> of_a(17), of_b(17);
        a.sample(i, of_a.data());
        b.sample(i, of_b.data());
        REQUIRE(of_a == of_b);
    }
}

TEST_CASE("shared prepare: documents held out by hash, and counts, are those of one process") {
    Workplace place;
    put_bytes(place.input.file("7.jsonl"), "{\"text\": \"a\", \"meta\": {\"pile_set_name\": \"Books3\"}}\n");
    place.options.validation_output = place.output.file("val.json");
    place.options.validation_fraction = 0.3;
    place.options.validation_by = ValidationBy::hash;
    const PrepareResult shared = place.shared();
    ThreadPool pool(1);
    PrepareOptions one = place.options;
    one.output = place.output.file("train.h5");
    one.validation_output = place.output.file("val.h5");
    const PrepareResult alone = prepare(place.tokenizer, one, pool);
    for (const auto& [json, h5] :
         {std::pair{place.options.output, one.output}, {place.options.validation_output, one.validation_output}}) {
        const TokenStore joined(json), whole(h5);
        CHECK(joined.num_documents() > 10);
        CHECK(all_tokens(joined) == all_tokens(whole));
        CHECK(test::offsets_of(joined) == test::offsets_of(whole));
        CHECK(joined.info().groups == whole.info().groups);
    }
    CHECK(shared.num_documents == alone.num_documents);
    CHECK(shared.num_tokens == alone.num_tokens);
    CHECK(shared.num_validation_tokens == alone.num_validation_tokens);
}

TEST_CASE("shared prepare: processes share the files, and whoever comes later finds them done") {
    Workplace place;
    place.shared();
    const std::string index = bytes_of(place.options.output);
    std::vector<std::string> parts;
    for (int i = 0; i < 6; ++i) parts.push_back(bytes_of(place.part(i)));
    fs::remove_all(place.output.file("pile.parts"));
    fs::remove(place.options.output);
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) children.push_back(start([&] { place.shared(); }));
    for (const pid_t child : children) CHECK(wait_for(child) == 0);
    CHECK(bytes_of(place.options.output) == index);
    for (int i = 0; i < 6; ++i) CHECK(bytes_of(place.part(i)) == parts[static_cast<size_t>(i)]);
    for (const auto& entry : fs::recursive_directory_iterator(place.output.path()))
        CHECK(entry.path().string().find(".tmp-") == std::string::npos);

    const auto written = fs::last_write_time(place.part(5));
    CHECK(place.shared().text_bytes == 0);
    CHECK(fs::last_write_time(place.part(5)) == written);
    fs::remove(place.part(3));  // what is missing is made again, alone
    CHECK(place.shared().text_bytes > 0);
    CHECK(fs::last_write_time(place.part(5)) == written);
    CHECK(bytes_of(place.part(3)) == parts[3]);
}

TEST_CASE("shared prepare: a file that another process is at is waited for, and taken over when that ends") {
    Workplace place;
    fs::create_directories(place.output.file("pile.parts"));
    std::optional<FileLock> held = FileLock::take(place.output.file("pile.parts/00001.lock"));
    int waits = 0;
    bool others_first = false;
    place.options.interrupted = [&] {
        if (!fs::exists(place.part(0))) return false;  // asked within a file
        if (++waits == 2) {
            others_first = !fs::exists(place.part(1)) && !fs::exists(place.options.output);
            for (int i : {0, 2, 3, 4, 5}) others_first = others_first && fs::exists(place.part(i));
            held.reset();
        }
        return false;
    };
    place.shared();
    CHECK(others_first);
    CHECK(fs::exists(place.part(1)));
    CHECK(all_tokens(TokenStore(place.options.output)) == all_tokens(place.alone()));

    fs::remove(place.part(1));
    place.options.interrupted = [] { return true; };
    held = FileLock::take(place.output.file("pile.parts/00001.lock"));
    CHECK_THROWS_AS(place.shared(), RunError);
}

TEST_CASE("shared prepare: other settings, pipes and held-out ends are refused, and mistakes leave what is done") {
    Workplace place;
    put_bytes(place.input.file("6.jsonl"), "{\"text\": 7}\n");
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("6.jsonl:1: field \"text\""));
    CHECK(!fs::exists(place.options.output));
    CHECK(fs::exists(place.part(5)));  // larger, so before it
    put_bytes(place.input.file("6.jsonl"), "{\"text\": 7, \"other\": \"words\"}\n");
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("was begun with another inputs"));
    fs::remove_all(place.output.file("pile.parts"));
    put_bytes(place.input.file("6.jsonl"), "{\"text\": \"7\"}\n");
    place.shared();
    place.options.append_end_of_text = false;
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("another append_end_of_text"));
    place.options.append_end_of_text = true;
    place.options.validation_output = place.output.file("v.json");
    place.options.validation_fraction = 0.1;
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("--validation-by hash"));
    place.options.validation_by = ValidationBy::hash;
    place.options.validation_output = place.output.file("v.h5");
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("name it .json"));
    place.options.validation_output = place.output.path() + "/./pile.json";
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("name the same file"));
    place.options.validation_output = "";
    place.options.validation_fraction = 0;
    place.options.drop_duplicates = true;
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("another drop_duplicates"));
    place.options.drop_duplicates = false;
    place.options.inputs = {"-"};
    place.options.format = TextFormat::lines;
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("processes share files"));
    put_bytes(place.input.file("empty.jsonl"), "");
    place.options.inputs = {place.input.file("empty.jsonl")};
    place.options.output = place.output.file("none.json");
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("no text"));
}

TEST_CASE("shared prepare: duplicates within and across files are left out as one process leaves them out") {
    const Repeats place;
    const PrepareResult alone = place.alone();
    CHECK(place.shared(place.options) == std::pair{alone.num_duplicates, alone.num_searched});
    CHECK(alone.num_duplicates > 100);
    place.compare();
    const TokenStore train(place.options.output), held(place.options.validation_output);
    CHECK(train.documents_left_out() + held.documents_left_out() == alone.num_duplicates);
    CHECK(held.documents_left_out() > 0);
    const auto tokens = all_tokens(train);
    for (const int64_t length : {1, 7, 200})  // across every gap
        for (int64_t first = 0; first + length <= train.num_tokens(); ++first) {
            std::vector<int32_t> some(static_cast<size_t>(length));
            train.read(first, length, some.data());
            REQUIRE(std::equal(some.begin(), some.end(), tokens.begin() + first));
        }
    const TokenStore whole(place.output.file("train.h5"));
    const Sampler a(train, test::neox_order(train, 16, 1, 300)), b(whole, test::neox_order(whole, 16, 1, 300));
    for (int64_t i = 0; i < a.size(); ++i) {
        std::vector<int32_t> of_a(17), of_b(17);
        a.sample(i, of_a.data());
        b.sample(i, of_b.data());
        REQUIRE(of_a == of_b);
    }
    // The same text in another order of the files keeps other copies, but as many.
    PrepareOptions reversed = place.options;
    std::reverse(reversed.inputs.begin(), reversed.inputs.end());
    reversed.output = place.output.file("reversed.json");
    reversed.validation_output = place.output.file("reversed-val.json");
    place.shared(reversed);
    CHECK(TokenStore(reversed.output).num_tokens() == train.num_tokens());
    CHECK(all_tokens(TokenStore(reversed.output)) != tokens);
    CHECK(TokenStore(reversed.output).fingerprint() != train.fingerprint());
}

TEST_CASE("shared prepare: what is left out does not depend on who made which part, when, or who was killed") {
    const Repeats place;
    place.alone();
    place.shared(place.options);
    const auto expected = place.bytes();
    const auto clear = [&] {
        for (const char* name : {"pile.parts", "val.parts", "pile.json", "val.json"})
            fs::remove_all(place.output.file(name));
    };
    const auto run = [&](const std::function<bool()>& interrupted) {
        PrepareOptions options = place.options;
        options.interrupted = interrupted;
        place.shared(options);
    };
    const auto parts_there = [&] {
        int count = 0;
        for (int i = 0; i < Repeats::kFiles; ++i) count += fs::exists(place.part(i)) ? 1 : 0;
        return count;
    };
    const auto never = [] { return false; };

    clear();  // three at once
    std::vector<pid_t> children;
    for (int i = 0; i < 3; ++i) children.push_back(start([&] { run(never); }));
    for (const pid_t child : children) CHECK(wait_for(child) == 0);
    CHECK(place.bytes() == expected);

    for (int parts = 0; parts <= Repeats::kFiles; ++parts) {  // killed when so many are there; the last: searching
        clear();
        const int status = wait_for(start([&] {
            run([&] {
                if (parts_there() >= parts) ::raise(SIGKILL);
                return false;
            });
        }));
        REQUIRE(WIFSIGNALED(status));
        CHECK(!fs::exists(place.options.output));
        CHECK(wait_for(start([&] { run(never); })) == 0);
        CHECK(place.bytes() == expected);
    }

    clear();  // the largest part last, by a process of its own
    {
        const auto held = FileLock::take([&] {
            fs::create_directories(place.output.file("pile.parts"));
            return place.output.file("pile.parts/00003.lock");
        }());
        CHECK_THROWS_AS(run([&] { return parts_there() == Repeats::kFiles - 1; }), RunError);
        CHECK(!fs::exists(place.part(3)));
    }
    run(never);
    CHECK(place.bytes() == expected);

    const auto written = fs::last_write_time(place.output.file("pile.parts/left_out.h5"));
    run(never);  // nothing is searched again
    CHECK(fs::last_write_time(place.output.file("pile.parts/left_out.h5")) == written);
    put_bytes(place.output.file("pile.parts/left_out.h5"), "nonsense");  // a list of other parts, or none
    run(never);
    CHECK(place.bytes() == expected);
    const std::string of_validation = bytes_of(place.output.file("val.parts/left_out.h5"));
    put_bytes(place.output.file("pile.parts/left_out.h5"), of_validation);
    run(never);
    CHECK(place.bytes() == expected);
    CHECK_THROWS_AS((fs::remove(place.output.file("pile.parts/left_out.h5")), run([] { return true; })), RunError);
}

TEST_CASE("joined parts: a list of what is left out that is missing, foreign, damaged or a lie is named") {
    const Repeats place;
    place.shared(place.options);
    const std::string list = place.output.file("pile.parts/left_out.h5"), good = bytes_of(list);
    const auto message = [&] { return test::message_of([&] { TokenStore(place.options.output).verify(); }); };
    CHECK(message() == "");
    fs::remove(list);
    CHECK_THAT(message(), ContainsSubstring("left_out.h5"));
    put_bytes(list, bytes_of(place.output.file("val.parts/left_out.h5")));
    CHECK_THAT(message(), ContainsSubstring("left_out.h5"));
    for (size_t cut = 0; cut < good.size(); cut += good.size() / 20) {
        put_bytes(list, good.substr(0, cut));
        CHECK_THAT(message(), ContainsSubstring("left_out.h5"));
    }
    put_bytes(list, good);
    std::vector<KeptRun> runs;
    {
        const Hdf5Reader file(list);
        runs.resize(static_cast<size_t>(file.dataset("kept").shape[0]));
        file.read("kept", runs.data(), 0, std::ssize(runs) * 4);
    }
    REQUIRE(runs.size() > 20);
    const auto lie = [&](size_t run, int64_t KeptRun::*field, int64_t value) {
        std::vector<KeptRun> lying = runs;
        lying[run].*field = value;
        Hdf5Writer file(list);
        const int64_t shape[] = {std::ssize(lying), 4};
        file.write("kept", Dtype::i64, shape, lying.data());
        file.commit();
        return message();
    };
    for (const size_t run : {size_t{0}, size_t{1}, size_t{9}, runs.size() - 1})
        for (const auto field : {&KeptRun::document, &KeptRun::token, &KeptRun::part_document, &KeptRun::part_token})
            for (const int64_t value : {INT64_MIN, int64_t{-1}, runs[run].*field + 1, runs[run].*field - 1, INT64_MAX})
                CHECK_THAT(lie(run, field, value),
                           ContainsSubstring("left_out.h5: ") && ContainsSubstring("damaged or of other parts"));
    CHECK_THAT(lie(0, &KeptRun::token, 0), ContainsSubstring(""));  // the truth, without its groups
    put_bytes(list, good);
    std::string index = bytes_of(place.options.output);
    index.replace(index.find("\"format_version\": 2"), 19, "\"format_version\": 1");
    put_bytes(place.options.output, index);
    CHECK_THAT(message(), ContainsSubstring("not an index of token stores"));
    const std::string part = bytes_of(place.part(0));
    std::string flipped = part;
    const DocumentHash hash = Hdf5Tokens(place.part(0)).hashes()[3];
    const size_t at = part.find(std::string(reinterpret_cast<const char*>(hash.data()), sizeof hash));
    REQUIRE(at != std::string::npos);
    flipped[at] = static_cast<char>(flipped[at] ^ 1);
    put_bytes(place.part(0), flipped);
    fs::remove(list);
    CHECK_THAT(test::message_of([&] { place.shared(place.options); }), ContainsSubstring("00000.h5"));
    CHECK(!fs::exists(list));
    {
        ThreadPool pool(1);
        PrepareOptions bare = place.options;
        bare.inputs = {place.inputs()[0]};
        bare.output = place.part(0);
        bare.validation_output = place.output.file("val.parts/00000.h5");
        bare.drop_duplicates = false;
        prepare(place.tokenizer, bare, pool);
    }
    CHECK_THAT(test::message_of([&] { place.shared(place.options); }),
               ContainsSubstring("00000.h5 has no hashes of its documents"));
}

TEST_CASE("joined parts: missing, changed, damaged and foreign ones are named") {
    Workplace place;
    place.shared();
    CHECK(place.message() == "");
    const std::string good = bytes_of(place.part(4)), index = bytes_of(place.options.output);
    fs::remove(place.part(4));
    CHECK_THAT(place.message(), ContainsSubstring("00004.h5"));
    put_bytes(place.part(4), bytes_of(place.part(3)));
    CHECK_THAT(place.message(), ContainsSubstring("00004.h5 is not the part that"));
    std::string lines = bytes_of(place.input.file("4.jsonl"));  // as many documents and tokens, in another order
    std::rotate(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(lines.find('\n')) + 1, lines.end());
    const test::TemporaryFolder other_text;
    put_bytes(other_text.file("4.jsonl"), lines);
    const auto make_part_4 = [&](const Tokenizer& tokenizer) {
        ThreadPool pool(1);
        PrepareOptions options = place.options;
        options.inputs = {other_text.file("4.jsonl")};
        options.output = place.part(4);
        prepare(tokenizer, options, pool);
    };
    make_part_4(place.tokenizer);
    CHECK_THAT(place.message(), ContainsSubstring("00004.h5 is not the part that"));
    {
        TokenizerSpec spec = place.tokenizer.spec();
        spec.added_tokens.push_back({1000, "whale", false, false});
        make_part_4(Tokenizer(spec));
    }
    CHECK_THAT(place.message(), ContainsSubstring("00004.h5 (tokenizer "));
    for (size_t cut = 0; cut < good.size(); cut += good.size() / 20) {
        put_bytes(place.part(4), good.substr(0, cut));
        CHECK_THAT(place.message(), ContainsSubstring("00004.h5"));
    }
    put_bytes(place.part(4), good);
    std::vector<int32_t> ids(20);  // a token's bit: seen when everything is read
    Hdf5Tokens(place.part(4)).read(0, 20, ids.data());
    const std::vector<uint16_t> stored(ids.begin(), ids.end());
    std::string flipped = good;
    const size_t at = good.find(std::string(reinterpret_cast<const char*>(stored.data()), 40));
    REQUIRE(at != std::string::npos);
    flipped[at + 6] = static_cast<char>(flipped[at + 6] ^ 1);
    put_bytes(place.part(4), flipped);
    CHECK_THAT(place.message(), ContainsSubstring("00004.h5"));
    put_bytes(place.part(4), good);
    const auto change = [&](const std::string& from, const std::string& to) {
        std::string bad = index;
        REQUIRE(bad.find(from) != std::string::npos);
        put_bytes(place.options.output, bad.replace(bad.find(from), from.size(), to));
        return place.message();
    };
    CHECK_THAT(change("ballast-token-parts", "something"), ContainsSubstring("not an index of token stores"));
    CHECK_THAT(change("\"parts\"", "\"part\""), ContainsSubstring("not an index of token stores"));
    CHECK_THAT(change("\"tokens\": ", "\"tokens\": 1"), ContainsSubstring("is not the part that"));
    CHECK_THAT(change("\"documents\": ", "\"documents\": 7"), ContainsSubstring("is not the part that"));
    CHECK_THAT(change("00003.h5", "00002.h5"), ContainsSubstring("00002.h5 is not the part that"));
    CHECK_THAT(change("}", ""), ContainsSubstring("pile.json"));
    for (size_t cut = 0; cut < index.size(); cut += 13) {
        put_bytes(place.options.output, index.substr(0, cut));
        CHECK_THAT(place.message(), ContainsSubstring("pile.json"));
    }
}

TEST_CASE("joined parts: their fingerprint is of their content, wherever they are") {
    Workplace place;
    place.shared();
    const std::string fingerprint = TokenStore(place.options.output).fingerprint();
    const test::TemporaryFolder elsewhere;
    fs::copy(place.output.path(), elsewhere.file("moved"), fs::copy_options::recursive);
    CHECK(TokenStore(elsewhere.file("moved/pile.json")).fingerprint() == fingerprint);
    put_bytes(place.input.file("4.jsonl"), json_lines(77, 9));
    place.options.output = place.output.file("other.json");
    place.shared();
    CHECK(TokenStore(place.options.output).fingerprint() != fingerprint);
}

}  // namespace ballast::data
