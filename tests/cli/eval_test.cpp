// `ballast eval`: what can never work is refused before anything is computed, and figures that are not finite say so.
#include "base/safetensors.h"
#include "tests/cli/program.h"
#include "tests/cli/spoiled_model.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

std::string with_text(const TinyRun& run, int tokens = 100) {
    return fmt::format(" --max-tokens {} --threads 1 --text {} ", tokens, run.file("text.txt"));
}

/// A refusal before the first cell was computed.
void refuse_at_once(const std::string& command, const std::vector<std::string>& parts) {
    const Outcome outcome = ballast_with(command);
    CAPTURE(command, outcome.out, outcome.err);
    CHECK(outcome.code == 2);
    CHECK(outcome.out.empty());  // not even the table's head
    CHECK(outcome.err.starts_with("ballast: error: "));
    for (const std::string& part : parts) CHECK_THAT(outcome.err, ContainsSubstring(part));
}

}  // namespace

TEST_CASE("cli: eval checks every cell, model and output before it computes the first") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    succeed(run.train("sinks", "--set train.steps=1 --set model.num_sink_tokens=4"));
    const std::string text = with_text(run), json = " --json " + run.file("out.json");
    const std::string streaming = "eval streaming " + run.file("run") + text;
    refuse_at_once(streaming + "--cache 8,16,33" + json, {"33", "32"});
    refuse_at_once(streaming + "--cache 16,4 --sinks 0,4" + json, {"4+0"});
    refuse_at_once("eval streaming " + run.file("run") + " --text " + run.file("text.txt") + " --threads 4294967297",
                   {"--threads", "4096"});  // 1, in 32 bits
    refuse_at_once(streaming + "--policy h2o --heavy 8,30 --recent 4" + json, {"34 positions", "32"});
    refuse_at_once(streaming + "--policy h2o --heavy 8 --recent 4" + json, {"texts of 100 positions", "32"});
    refuse_at_once(streaming + "--policy h2o --method masked" + json, {"method cache"});
    refuse_at_once(streaming + "--policy h2o --sinks 4" + json, {"h2o has no setting sinks"});
    refuse_at_once(streaming + "--policy h2o --cache 8" + json, {"h2o has no setting cache", "--heavy"});
    refuse_at_once(streaming + "--heavy 4" + json, {"--heavy", "h2o"});
    refuse_at_once(streaming + "--policy infllm" + json, {"a cache of 64 positions", "32"});
    refuse_at_once(streaming + "--policy infllm --recent 60" + json, {"60 recent positions", "multiples of 64"});
    refuse_at_once("eval streaming " + run.file("sinks") + text + "--policy recompute --cache 16,4" + json,
                   {"4 sink tokens"});
    const std::string table = "eval table " + run.file("run") + " ";
    refuse_at_once(table + run.file("none") + text + json, {"no model at"});
    refuse_at_once(table + run.file("sinks") + text + "--cache 4 --sinks 0" + json,
                   {run.file("sinks"), "4 sink tokens"});
    refuse_at_once(table + run.file("run/../run/") + text + json, {"given twice"});
    CHECK_FALSE(fs::exists(run.file("out.json")));

    fs::create_directories(run.file("folder"));
    const std::vector<int32_t> ids(8, 5);
    SafetensorsWriter writer(run.file("ids.safetensors"));
    writer.add("input_ids", Dtype::i32, std::vector<int64_t>{1, 8}, ids.data());
    writer.commit();
    for (const std::string& command :
         {streaming + "--cache 16 --json ", table + text + "--cache 16 --json ",
          "eval sinks " + run.file("run") + text + "--length 16 --json ",
          "eval sinks " + run.file("run") + text + "--length 16 --maps ",
          "eval logits " + run.file("run") + " --ids " + run.file("ids.safetensors") + " --out ",
          "report " + run.file("run") + " -o "})
        for (const char* target : {"folder", "no/such/file", "text.txt/inside"})
            refuse_at_once(command + run.file(target), {run.file(target)});
    CHECK(leftovers(run.folder.path()).empty());
}

TEST_CASE("cli: eval and report do not write over what they read") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    fs::create_symlink(run.file("text.txt"), run.file("link"));
    fs::copy(run.file("run/checkpoints/step_00000001.h5"), run.file("model.h5"));
    const std::string text = with_text(run) + "--cache 16 ", before = bytes_of(run.file("text.txt"));
    const std::string model = run.file("model.h5") + " --tokenizer " + run.file("tokenizer.json") + text;
    for (const std::string& command : {"eval streaming " + model + "--json ", "eval table " + model + "--json "})
        for (const char* name : {"text.txt", "link", "model.h5", "tokenizer.json"})
            refuse_at_once(command + run.file(name), {run.file(name)});
    refuse_at_once("report " + run.file("run") + text + "-o " + run.file("text.txt"), {"text.txt"});
    const std::string sinks = "eval sinks " + run.file("run") + with_text(run) + "--length 16 ";
    refuse_at_once(sinks + "--json " + run.file("out") + " --maps " + run.file("link"), {"link"});
    refuse_at_once(sinks + "--json " + run.file("out") + " --maps " + run.file("out"), {"the same file"});
    refuse_at_once("eval logits " + run.file("run") + " --ids " + run.file("text.txt") + " --out " + run.file("link"),
                   {"link"});
    CHECK(bytes_of(run.file("text.txt")) == before);
}

TEST_CASE("cli: each policy keeps what its name says") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    const auto cells = [&](const std::string& options, int tokens = 100) {
        succeed("eval streaming " + run.file("run") + with_text(run, tokens) + options + " --json " +
                run.file("out.json"));
        const auto file = run.json("out.json");
        std::vector<std::string> out;
        for (const auto& cell : file["results"])
            out.push_back(fmt::format("{} {} {}", cell["policy"].get<std::string>(), cell["sinks"].get<int64_t>(),
                                      cell["cache"].get<int64_t>()));
        return out;
    };
    const auto plans = [&] {
        std::vector<std::string> out;
        const auto file = run.json("out.json");
        for (const auto& cell : file["results"])
            out.push_back(fmt::format("{} {} {:.3f}", cell["plan"].get<std::string>(),
                                      cell["method"].get<std::string>(), cell["density"].get<double>()));
        return out;
    };
    using Cells = std::vector<std::string>;
    CHECK(cells("--policy h2o --heavy 4,7 --recent 8", 30) == Cells{"h2o 0 12", "h2o 0 15"});
    CHECK(plans() == Cells{"h2o 4+8 cache 0.400", "h2o 7+8 cache 0.500"});
    const std::string shown =
        succeed("eval streaming " + run.file("run") + with_text(run, 30) + "--policy h2o --heavy 4,8 --recent 8,4");
    for (const char* cell : {"h2o 4+8 ", "h2o 4+4 ", "h2o 8+8 ", "h2o 8+4 "})  // two of them have 12 positions
        CHECK_THAT(shown, ContainsSubstring(cell));
    CHECK(cells("--policy dense") == Cells{"dense 0 0"});
    CHECK(cells("--policy dense --chunk 1000000000000000") == Cells{"dense 0 0"});  // the text in one pass
    CHECK(cells("--policy window --cache 8,16") == Cells{"window 0 8", "window 0 16"});
    CHECK(cells("--policy recompute") == Cells{"recompute 0 16"});  // half the trained context
    CHECK(cells("--cache 8 --sinks 0,2") == Cells{"window 0 8", "sink 2 8"});
    CHECK(cells("--cache 8") == Cells{"window 0 8", "sink 1 8", "sink 2 8", "sink 4 8"});
    succeed(run.train("run", "--overwrite --set train.steps=1 --set model.max_position_embeddings=64"));
    CHECK(cells("--policy infllm --sinks 0 --recent 64 --blocks 1,2", 160) == Cells{"infllm 0 128", "infllm 0 192"});
    CHECK(plans() == Cells{"infllm 0+64+1x64 cache 1.800", "infllm 0+64+2x64 cache 1.800"});
    CHECK(cells("--policy infllm --sinks 64 --recent 64 --blocks 1", 200) == Cells{"infllm 64 192"});
}

TEST_CASE("cli: the first tokens may be line breaks") {
    const TinyRun run;
    succeed(run.train("run"));
    const auto losses = [&](const std::string& text, const std::string& more) {
        const std::string json = run.file("streaming.json");
        succeed(fmt::format("eval streaming {} --text {} --max-tokens 40 --policy dense --json {} {}", run.file("run"),
                            text, json, more));
        const auto cell = run.json("streaming.json")["results"][0];
        CHECK(cell["tokens"] == 39);
        return cell["loss"].get<double>();
    };
    const std::string text = run.file("text.txt"), lines = run.file("lines.txt");
    write_file(lines, std::string(400, '\n'));
    const double plain = losses(text, "");
    CHECK(losses(text, "--newline-start 0") == plain);
    CHECK(losses(text, "--newline-start 4") != plain);
    // With nothing left of the text, all texts are the same.
    CHECK(losses(text, "--newline-start 100") == losses(lines, "--newline-start 100"));
}

TEST_CASE("cli: a table tells models of one name apart") {
    const TinyRun run;
    succeed(run.train("a/run", "--set train.steps=1"));
    succeed(run.train("b/run", "--set train.steps=1"));
    const std::string out =
        succeed("eval table " + run.file("a/run") + " " + run.file("b/run/") + with_text(run) + "--cache 16");
    CHECK_THAT(out, ContainsSubstring("a/run ") && ContainsSubstring("b/run "));
}

TEST_CASE("cli: losses that are not finite are named, kept in the file and measured once") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    succeed("export " + run.file("run") + " " + run.file("hf"));
    spoil_embedding(run.file("hf"));
    const std::string text = with_text(run);
    const Outcome streaming = ballast_with("eval streaming " + run.file("hf") + text + "--cache 16 --sinks 1 --json " +
                                           run.file("run/eval.json"));
    CHECK(streaming.code == 0);
    CHECK_THAT(streaming.out, ContainsSubstring(" nan") && !ContainsSubstring("-nan"));
    CHECK_THAT(streaming.err, ContainsSubstring("1+15: 99 of 99 losses are not finite"));
    const auto cell = run.json("run/eval.json")["results"][0];
    CHECK(cell["perplexity"] == "NaN");
    CHECK(cell["non_finite"] == 99);
    CHECK(cell["of_tokens"] == 99);

    const std::string table = succeed("eval table " + run.file("hf") + text + "--cache 16");
    CHECK_THAT(table, ContainsSubstring("recompute: scored on 7 of 99 tokens") &&
                          ContainsSubstring("recompute: 7 of 7 losses are not finite") && !ContainsSubstring("-nan"));

    fs::create_directories(run.file("run/eval"));
    succeed("eval table " + run.file("hf") + text + "--cache 16 --json " + run.file("run/eval/table.json"));
    const Outcome report = ballast_with("report " + run.file("run") + " -o " + run.file("report.html"));
    CHECK(report.code == 0);
    CHECK_THAT(read_file(run.file("report.html")), !ContainsSubstring("passed over") && ContainsSubstring("\"NaN\""));
}

TEST_CASE("cli: a report measures nothing that it could not write") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    put_bytes(run.file("run/eval"), "in the way");  // as a folder of another owner is
    refuse_at_once("report " + run.file("run") + " -o " + run.file("r.html") + with_text(run), {"run/eval"});
    CHECK_FALSE(fs::exists(run.file("r.html")));
}

TEST_CASE("cli: paths that cannot be looked at are the user's mistake") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    fs::create_symlink("loop", run.file("loop"));
    const std::string text = with_text(run);
    for (const std::string& path : {run.file("loop"), run.file(std::string(300, 'x'))})
        for (const std::string& command : {"eval streaming " + path + text, "eval table " + path + text,
                                           "report " + path + " -o " + run.file("r.html"), "watch " + path}) {
            const Outcome outcome = ballast_with(command);
            CAPTURE(command, outcome.out, outcome.err);
            CHECK(outcome.code == 2);
            CHECK_THAT(outcome.err, !ContainsSubstring("a fault of Ballast"));
        }
}

TEST_CASE("cli: texts begin as the model's tokenizer, or its training, begins them") {
    const TinyRun run;
    write_file(run.file("begun.txt"), "<|endoftext|>" + read_file(run.file("text.txt")));
    succeed(run.train("run", "--set train.steps=1"));
    const auto measure = [&](const std::string& what, const std::string& model, const std::string& text) {
        succeed(fmt::format("eval {} {} --text {} --max-tokens 200 --threads 1 --json {}", what, run.file(model),
                            run.file(text), run.file("out.json")));
        auto json = run.json("out.json");
        for (const char* key : {"model", "seconds", "step", "curve"}) {
            json.erase(key);
            for (auto& part : json)
                if (part.is_array())
                    for (auto& row : part)
                        if (row.is_object()) row.erase(key);
        }
        return json;
    };
    const std::string streaming = "streaming --sinks 1 --cache 16", sinks = "sinks --length 16";

    // A folder whose tokenizer puts the token there, as Llama's do.
    succeed(fmt::format("export {} {}", run.file("run"), run.file("folder")));
    auto tokenizer = nlohmann::json::parse(read_file(run.file("folder/tokenizer.json")));
    tokenizer["post_processor"] = nlohmann::json::parse(
        R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>",
            "ids": [0], "tokens": ["<|endoftext|>"]}}})");
    CHECK(measure(streaming, "folder", "begun.txt") == measure(streaming, "run", "begun.txt"));
    write_file(run.file("folder/tokenizer.json"), tokenizer.dump());
    CHECK(measure(streaming, "folder", "text.txt") == measure(streaming, "run", "begun.txt"));
    CHECK(measure(streaming, "run", "text.txt") != measure(streaming, "run", "begun.txt"));
    // Pieces of the text begin with it when that is asked for; a run trained without has no such token.
    CHECK(measure(sinks + " --begin-of-text", "folder", "text.txt") != measure(sinks, "folder", "text.txt"));
    refuse_at_once("eval sinks " + run.file("run") + with_text(run) + "--length 16 --begin-of-text",
                   {"--begin-of-text", "begin with no token"});
    refuse_at_once("eval sinks " + run.file("run") + " --text - --sentences --last-query 16 < " + run.file("text.txt"),
                   {"standard input can be read once"});

    // A run that was trained with it: the same weights, as its rate was 0.
    const std::string still =
        "--set train.steps=1 --set optimizer.learning_rate=0 --set optimizer.min_learning_rate=0 ";
    succeed(run.train("plain", still));
    succeed(run.train("first", still + "--set data.first_token=every_window"));
    CHECK(measure(streaming, "first", "text.txt") == measure(streaming, "plain", "begun.txt"));
    CHECK(measure(sinks, "first", "text.txt") == measure(sinks + " --begin-of-text", "first", "text.txt"));
    CHECK(measure(sinks, "first", "text.txt") != measure(sinks, "plain", "begun.txt"));

    // Line breaks take the token's place too: nothing of the text is left, nor what came before it.
    const std::string breaks = streaming + " --newline-start 200";
    CHECK(measure(breaks, "first", "text.txt") == measure(breaks, "plain", "text.txt"));

    // Sentences too begin as the model's texts do: after the token where the run was trained so, and not where a
    // tokenizer's template alone would put it.
    const std::string sentences = sinks + " --sentences";
    write_file(run.file("template.json"), tokenizer.dump());
    const std::string with_template = " --tokenizer " + run.file("template.json");
    succeed(fmt::format("export {} {}", run.file("plain"), run.file("plain_folder")));
    const auto plain = measure(sentences, "plain", "text.txt"), first = measure(sentences, "first", "text.txt");
    CHECK(first != plain);
    CHECK(measure(sentences + with_template, "plain", "text.txt") == plain);
    CHECK(measure(sentences + with_template, "first", "text.txt") == first);
    CHECK(measure(sentences + with_template, "plain_folder", "text.txt") == first);
}
