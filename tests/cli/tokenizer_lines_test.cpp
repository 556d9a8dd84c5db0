// ballast tokenizer encode and decode, by lines of JSON and plain.
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// GPT-2's bytes, no merges, and one special token that the template puts first: "a" is 67.
struct ByteTokenizer {
    TemporaryFolder folder;

    ByteTokenizer() {
        write_file(file("text.txt"), "some text");
        succeed(fmt::format("tokenizer train -o {0}/t.json --vocab-size 258 {0}/text.txt --threads 1", folder.path()));
        nlohmann::json json = nlohmann::json::parse(read_file(file("t.json")));
        json["post_processor"] = nlohmann::json::parse(
            R"({"type": "TemplateProcessing", "pair": [], "special_tokens": {"E": {"id": "E", "ids": [0], "tokens": ["<|endoftext|>"]}},
                "single": [{"SpecialToken": {"id": "E", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]})");
        write_file(file("t.json"), json.dump());
    }
    std::string file(const std::string& name) const { return folder.file(name); }
};

}  // namespace

TEST_CASE("cli: tokenizer encode and decode take a JSON object a line and give one") {
    const ByteTokenizer t;
    write_file(t.file("in.jsonl"),
               "{\"text\": \"a\", \"add_special\": true}\n\n{\"add_special\": false, \"text\": "
               "\"\\u00e9\\n\"}\r\n{\"text\": \"\"}");
    const std::string encoded =
        succeed(fmt::format("tokenizer encode -t {} --jsonl {}", t.file("t.json"), t.file("in.jsonl")));
    std::istringstream lines(encoded);
    std::vector<std::vector<uint32_t>> ids;
    for (std::string line; std::getline(lines, line);) ids.push_back(nlohmann::json::parse(line).at("ids"));
    REQUIRE(ids.size() == 3);
    REQUIRE(ids[0].size() == 2);
    CHECK(ids[0][0] == 0);
    CHECK(ids[1].size() == 3);
    CHECK(ids[2].empty());

    const auto line = [](std::vector<uint32_t> list, bool skip) {
        return nlohmann::json{{"ids", list}, {"skip_special", skip}}.dump() + "\n";
    };
    write_file(t.file("ids.jsonl"),
               line(ids[0], false) + line(ids[0], true) + line(ids[1], true) + line({ids[1][0]}, true));
    CHECK(succeed(fmt::format("tokenizer decode --jsonl -t {} - <{}", t.file("t.json"), t.file("ids.jsonl"))) ==
          "{\"text\":\"<|endoftext|>a\"}\n{\"text\":\"a\"}\n{\"text\":\"\u00E9\\n\"}\n{\"text\":\"\uFFFD\"}\n");
    CHECK(succeed(fmt::format("tokenizer decode --jsonl -t {} <{}", t.file("t.json"), t.file("ids.jsonl"))) ==
          succeed(fmt::format("tokenizer decode --jsonl -t {} {}", t.file("t.json"), t.file("ids.jsonl"))));
}

TEST_CASE("cli: tokenizer encode --add-special and decode --skip-special do the same for plain text") {
    const ByteTokenizer t;
    write_file(t.file("a.txt"), "a");
    const std::string with =
        succeed(fmt::format("tokenizer encode --add-special -t {} {}", t.file("t.json"), t.file("a.txt")));
    CHECK(with == "0 " + succeed(fmt::format("tokenizer encode -t {} {}", t.file("t.json"), t.file("a.txt"))));
    write_file(t.file("ids.txt"), with);
    CHECK(succeed(fmt::format("tokenizer decode -t {} {}", t.file("t.json"), t.file("ids.txt"))) == "<|endoftext|>a");
    CHECK(succeed(fmt::format("tokenizer decode --skip-special -t {} {}", t.file("t.json"), t.file("ids.txt"))) == "a");
}

TEST_CASE("cli: a bad line is named by file and number, and the lines before it are answered") {
    const ByteTokenizer t;
    const auto refuse_line = [&](const char* command, const std::string& line, const std::string& part) {
        const std::string good = std::string(command) == "encode" ? "{\"text\": \"a\"}\n" : "{\"ids\": [0]}\n";
        write_file(t.file("bad.jsonl"), good + line + "\n" + good);
        const std::string arguments =
            fmt::format("tokenizer {} -t {} --jsonl {}", command, t.file("t.json"), t.file("bad.jsonl"));
        refuse(arguments, {t.file("bad.jsonl") + ":2: ", part});
        CHECK(lines_of(ballast_with(arguments).out) == 1);
    };
    refuse_line("encode", "{", "not valid JSON");
    refuse_line("encode", "{\"text\": \"\\ud800\"}", "not valid JSON");
    refuse_line("encode", "[\"a\"]", "must be a JSON object");
    refuse_line("encode", "{\"txt\": \"a\"}", "field \"text\" must be a string");
    refuse_line("encode", "{\"text\": 7}", "field \"text\" must be a string");
    refuse_line("encode", "{\"text\": \"a\", \"add_special\": 1}", "field \"add_special\" must be true or false");
    refuse_line("encode", "{\"text\": \"\xFF\"}", "invalid UTF-8 at byte 10");
    refuse_line("decode", "{\"ids\": 7}", "field \"ids\" must be a list");
    refuse_line("decode", "{\"ids\": [-1]}", "holds -1");
    refuse_line("decode", "{\"ids\": [1.5]}", "holds 1.5");
    refuse_line("decode", "{\"ids\": [4294967296]}", "holds 4294967296");
    refuse_line("decode", "{\"ids\": [9999]}", "token id 9999");
    refuse_line("decode", "{\"ids\": [], \"skip_special\": null}", "field \"skip_special\" must be true or false");
    refuse(fmt::format("tokenizer encode -t {} --jsonl {}", t.file("t.json"), t.file("none.jsonl")), {"none.jsonl"});
    refuse(fmt::format("tokenizer encode -t {} --jsonl {}", t.file("t.json"), t.folder.path()), {t.folder.path()});
    write_file(t.file("broken.model"), "\x0A\x7F");
    refuse(fmt::format("tokenizer encode -t {} --jsonl {}", t.file("broken.model"), t.file("bad.jsonl")),
           {"broken.model", "damaged"});
}
