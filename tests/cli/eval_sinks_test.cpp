// `ballast eval sinks` of ids and of encoders, and `ballast eval plot`.
#include "base/safetensors.h"
#include "tests/cli/program.h"
#include "tests/model/bert_fixture.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string write_ids(const std::string& path, int64_t rows, int64_t length) {
    std::vector<int32_t> ids(static_cast<size_t>(rows * length));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(1 + i % 7);
    SafetensorsWriter writer(path);
    writer.add("input_ids", Dtype::i32, std::vector<int64_t>{rows, length}, ids.data());
    writer.commit();
    return path;
}

}  // namespace

TEST_CASE("cli: eval sinks of an encoder's folder shows where attention goes") {
    const TemporaryFolder folder;
    const std::string bert = bert_folder(folder, random_bert()), ids = write_ids(folder / "ids.safetensors", 3, 4);
    const std::string sinks = "eval sinks " + bert + " --threads 1 ", json = folder / "out.json";
    const std::string out =
        succeed(sinks + "--ids " + ids + " --json " + json + " --maps " + (folder / "maps.safetensors"));
    CHECK_THAT(out, ContainsSubstring("3 sequences") && ContainsSubstring("[CLS]") && ContainsSubstring("layer  1"));
    const auto file = nlohmann::json::parse(read_file(json));
    CHECK(file["step"] == -1);
    CHECK(file["encoder_sinks"]["length"] == 4);
    for (const auto& layer : file["encoder_sinks"]["layers"])
        for (size_t head = 0; head < 2; ++head)
            CHECK(layer["cls"][head].get<double>() + layer["sep"][head].get<double>() +
                      layer["rest"][head].get<double>() ==
                  Approx(1));
    const SafetensorsReader maps(folder / "maps.safetensors");
    for (const char* name : {"attention", "attention_logits"})
        CHECK(maps.info(name).shape == std::vector<int64_t>{2, 2, 4, 4});

    refuse(sinks + "--text " + json, {bert, "no tokenizer.json"});
    refuse(sinks + "--ids " + ids + " --text " + json, {"--text"});
    refuse(sinks + "--ids " + ids + " --last-query 4", {"--last-query"});
    refuse(sinks + "--ids " + ids + " --length 4", {"--length"});
    refuse(sinks + "--ids " + ids + " --begin-of-text", {"--begin-of-text"});
    refuse(sinks, {"--text or --ids"});
    refuse(sinks + "--ids " + ids + " --epsilon 0.5", {"--epsilon is for decoders", bert});
    refuse(sinks + "--text " + json + " --begin-of-text --positions 2",
           {"--begin-of-text, --positions are for decoders"});
    refuse(sinks + "--text " + json + " --last-query 4", {"--last-query is for decoders"});
    refuse(sinks + "--ids " + ids + " --dtype bf16", {"--dtype", "encoders are computed in f32"});
    const TinyRun run;  // whose tokenizer has more tokens than the encoder
    refuse(sinks + "--text " + json + " --tokenizer " + run.file("tokenizer.json"), {bert, "a vocabulary of 11"});
    refuse(sinks + "--ids " + ids + " --json " + ids, {ids});
    refuse(sinks + "--ids " + write_ids(folder / "long.safetensors", 1, 7), {"6 positions"});
    refuse("eval streaming " + bert + " --text " + json, {bert});
}

TEST_CASE("cli: eval sinks takes ids in place of a text, and sentences in place of pieces") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1 --set model.num_sink_tokens=2"));
    const std::string sinks = "eval sinks " + run.file("run") + " --threads 1 --json " + run.file("out.json") + " ";
    succeed(sinks + "--ids " + write_ids(run.file("ids.safetensors"), 5, 6));
    CHECK(run.json("out.json")["sinks"]["length"] == 8);  // two sink tokens before the ids
    CHECK(run.json("out.json")["sinks"]["sequences"] == 5);
    const std::string out = succeed(sinks + "--sentences --length 12 --sequences 4 --text " + run.file("text.txt"));
    CHECK_THAT(out, ContainsSubstring("4 sequences of 12 tokens, each begins with a sentence"));
    const auto sequences = [&](const std::string& limit) {
        succeed(sinks + "--sentences --length 12 --sequences 1000 --text " + run.file("text.txt") + limit);
        return run.json("out.json")["sinks"]["sequences"].get<int64_t>();
    };
    CHECK(sequences(" --max-tokens 100000") == sequences(""));
    CHECK(sequences(" --max-tokens 200") < 50);  // none has fewer than four tokens
    CHECK(sequences("") > 50);
    refuse(sinks + "--length 12 --sentences --max-tokens 9 --text " + run.file("text.txt"),
           {"the text's first 9 tokens"});
    refuse(sinks + "--length 2 --sentences --text " + run.file("text.txt"), {"2 sink tokens"});
    write_file(run.file("short.txt"), "A sentence. Another one.");
    refuse(sinks + "--length 300 --sentences --text " + run.file("short.txt"), {"no sentence"});
    refuse(sinks + "--last-query 30000 --text " + run.file("text.txt"), {"fewer than one sequence"});
}

TEST_CASE("cli: eval plot draws what streaming measured, and a table of it") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    const std::string text = " --threads 1 --max-tokens 200 --text " + run.file("text.txt") + " ";
    const std::string streaming = "eval streaming " + run.file("run") + text;
    succeed(streaming + "--cache 16 --sinks 0,4 --json " + run.file("caches.json"));
    succeed(streaming + "--policy dense --json " + run.file("dense.json"));
    const std::string plot = "eval plot " + run.file("caches.json") + " " + run.file("dense.json") + " ";
    const std::string table = succeed(plot + "-o " + run.file("all.svg") + " --table " + run.file("table.md"));
    CHECK(table == read_file(run.file("table.md")));
    CHECK_THAT(table, ContainsSubstring("| 16 ") && ContainsSubstring("4 + y"));
    const std::string svg = read_file(run.file("all.svg"));
    for (const char* name : {">0+16<", ">4+12<", ">dense<"}) CHECK_THAT(svg, ContainsSubstring(name));
    succeed(plot + "--curves 4+12,dense --title Two -o " + run.file("two.svg"));
    CHECK_THAT(read_file(run.file("two.svg")), !ContainsSubstring(">0+16<") && ContainsSubstring(">Two<"));

    succeed(streaming + "--policy dense --weights int8 --json " + run.file("int8.json"));
    refuse(plot + run.file("int8.json") + " -o " + run.file("x.svg"), {" in int8, but", "one model"});
    refuse(plot + "--curves 9+9 -o " + run.file("x.svg"), {"9+9", "4+12"});
    refuse(plot + "-o " + run.file("dense.json"), {run.file("dense.json")});
    refuse(plot + "-o " + run.file("x.svg") + " --table " + run.file("x.svg"), {"same file"});
    succeed("eval sinks " + run.file("run") + text + "--length 8 --json " + run.file("sinks.json"));
    refuse("eval plot " + run.file("sinks.json") + " -o " + run.file("x.svg"), {"no perplexity"});
    CHECK_FALSE(std::filesystem::exists(run.file("x.svg")));
}
