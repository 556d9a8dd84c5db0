// Token stores of several processes, read as one.
#include "data/joined_parts.h"

#include "tests/data/shared_prepare_fixture.h"

namespace ballast::data {

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
