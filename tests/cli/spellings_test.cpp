// The spellings, files and JSON keys that scripts rely on, from raw text to the evaluations of a trained model.
#include <cmath>
#include <set>

#include "base/safetensors.h"
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

/// The keys, whatever their order.
std::set<std::string> keys_of(const json& object) {
    std::set<std::string> keys;
    for (const auto& [key, value] : object.items()) keys.insert(key);
    return keys;
}

using Keys = std::set<std::string>;

const Keys kStreamingKeys{"policy", "sinks",      "cache",   "method", "tokens",  "of_tokens", "non_finite",
                          "loss",   "perplexity", "seconds", "curve",  "density", "kv_bytes"};

double relative(double a, double b) { return std::abs(a - b) / std::abs(b); }

}  // namespace

TEST_CASE("cli: tokenizer encode and decode are inverse, from files and through pipes") {
    const TinyRun run;
    const std::string with = " -t " + run.file("tokenizer.json") + " ", text = read_file(run.file("text.txt"));
    const std::string ids = succeed("tokenizer encode" + with + run.file("text.txt"));
    CHECK(lines_of(ids) == 1);
    CHECK(ids.find_first_not_of("0123456789 \n") == std::string::npos);
    CHECK(succeed("tokenizer encode" + with + "<" + run.file("text.txt")) == ids);
    write_file(run.file("ids"), ids);
    CHECK(succeed("tokenizer decode" + with + "<" + run.file("ids")) == text);

    write_file(run.file("broken.txt"), "good \xff bad");
    refuse("tokenizer encode" + with + run.file("broken.txt"), {"5"});  // the byte's offset
    CHECK(succeed("tokenizer encode" + with + "--invalid-utf8 replace " + run.file("broken.txt")) ==
          succeed("tokenizer encode" + with + "--invalid-utf8 replace <" + run.file("broken.txt")));
}

TEST_CASE("cli: data prepare says what it searched for duplicates, and info what parts leave out") {
    const TinyRun run;
    const std::string one = "{\"text\": \"the same\"}\n", other = "{\"text\": \"another\"}\n";
    write_file(run.file("a.jsonl"), one + other + one);
    write_file(run.file("b.jsonl"), other + "{\"text\": \"a third\"}\n");
    const std::string prepare = "data prepare --drop-duplicates -t " + run.file("tokenizer.json") + " " +
                                run.file("a.jsonl") + " " + run.file("b.jsonl") + " -o ";
    for (const char* output : {"all.h5", "all.json"}) {
        CAPTURE(output);
        CHECK_THAT(succeed(prepare + run.file(output)),
                   ContainsSubstring("2 of 5 documents were duplicates, left out (found with 0.0 MiB"));
        CHECK_THAT(succeed("data info --verify " + run.file(output)), ContainsSubstring("documents       3\n"));
    }
    CHECK_THAT(succeed("data info " + run.file("all.json")),
               ContainsSubstring("left out        2 documents in the parts, as duplicates"));
    refuse("data prepare -t " + run.file("tokenizer.json") + " " + run.file("a.jsonl") + " " + run.file("b.jsonl") +
               " -o " + run.file("all.json"),
           {"was begun with another drop_duplicates"});
}

TEST_CASE("cli: data prepare takes files and folders, and info and show read what it wrote") {
    const TinyRun run;
    std::filesystem::create_directories(run.file("folder"));
    write_file(run.file("folder/a.txt"), "First text of the folder.");
    write_file(run.file("folder/b.jsonl"), "{\"text\": \"Second one.\"}\n{\"text\": \"Third one.\"}\n");
    const std::string with = " -t " + run.file("tokenizer.json") + " ", store = run.file("tokens.h5");
    succeed("data prepare" + with + "-o " + store + " " + run.file("folder") + " " + run.file("text.txt"));
    const std::string info = succeed("data info " + store + " --verify");
    CHECK_THAT(info, ContainsSubstring("documents       4"));
    CHECK_THAT(info, ContainsSubstring("checksums match"));
    const std::string shown =
        succeed("data show " + run.file("train.h5") + with + "--step 2 --steps 12 --batch 4 --seq 32");
    CHECK_THAT(shown, ContainsSubstring("=== step 2, sample 3 of 4"));
    CHECK_THAT(shown, ContainsSubstring("step 2, which Pythia's batch viewer counts as 1"));
    CHECK(leftovers(run.folder.path()).empty());
}

TEST_CASE("cli: data show writes the ids that Pythia's batch viewer saves") {
    const TinyRun run;  // a preshuffled set of 12 samples of 5 + 1 ids, in NAME.idx and NAME.bin
    std::string index("MMIDIDX\0\0", 9), tokens;
    const auto add = [](std::string& to, auto value) { to.append(reinterpret_cast<char*>(&value), sizeof value); };
    add(index, uint64_t{1});
    add(index, uint8_t{8});
    add(index, uint64_t{12});
    add(index, uint64_t{13});
    for (int i = 0; i < 12; ++i) add(index, int32_t{6});
    for (int i = 0; i < 12; ++i) add(index, int64_t{12 * i});
    for (int i = 0; i <= 12; ++i) add(index, int64_t{i});
    for (int i = 0; i < 72; ++i) add(tokens, static_cast<uint16_t>(i));
    write_file(run.file("document.idx"), index);
    write_file(run.file("document.bin"), tokens);
    const std::string with = " -t " + run.file("tokenizer.json") + " --batch 4 --seq 5 ",
                      set = run.file("document.idx");
    succeed("data show " + set + with + "--order preshuffled --step 2 --npy " + run.file("batch.npy"));
    const std::string file = read_file(run.file("batch.npy"));  // dataset[1 * 4 : 2 * 4], shape (4, 6)
    CHECK_THAT(file, ContainsSubstring("{'descr': '<u2', 'fortran_order': False, 'shape': (4, 6), }"));
    CHECK(file.substr(128) == tokens.substr(2 * 24, 2 * 24));
    CHECK_THAT(succeed("data show " + set + with + "--order stable --step 1000000"), ContainsSubstring("without end"));
    refuse("data show " + set + " -t " + run.file("tokenizer.json") +
               " --order stable --step 1000000000000 --batch 1000000000000 --seq 5",
           {"more than the 1e18"});
    refuse("data show " + set + with + "--order preshuffled --step 4", {"past the last of 3 steps"});
    refuse("data show " + set + with + "--order npy", {"--index"});
    refuse("data show " + set + with + "--order npy --index " + run.file("none"), {"none_doc_idx.npy"});
}

TEST_CASE("cli: data show takes an order from a config or from its options, not from both") {
    const TinyRun run;
    const std::string show = "data show " + run.file("train.h5") + " --config " + run.file("config.toml");
    CHECK_THAT(succeed(show + " --step 2 --count 1"), ContainsSubstring("=== step 2, sample 0 of 4"));
    for (const char* option : {"--steps 9", "--batch 2", "--seq 16", "--seed 5", "--order stable", "--sinks 1"}) {
        const std::string text = option;
        refuse(show + " " + text, {"--config", text.substr(0, text.find(' '))});
    }
}

TEST_CASE("cli: train writes the documented files, and refuses to write over them unasked") {
    const TinyRun run;
    const std::string out = succeed(run.train("run", "--set train.steps=7 --set model.normaliser=off_by_one"));
    for (const char* part : {"parameters ", "FLOPs/token ", "memory ", "step 7/7 | loss "})
        CHECK_THAT(out, ContainsSubstring(part));
    for (const char* name : {"config.toml", "tokenizer.json", "metrics.jsonl", "checkpoints/step_00000007.h5"})
        CHECK(std::filesystem::exists(run.file(std::string("run/") + name)));
    CHECK(run.json("run/status.json") == json{{"status", "finished"}, {"step", 7}});
    const auto metrics = run.metrics("run");
    REQUIRE(metrics.size() == 8);
    CHECK(keys_of(metrics.front()) == Keys{"step", "loss", "grad_norm", "lr", "tokens"});
    CHECK(metrics.front()["lr"] == 0);
    CHECK(metrics.back()["step"] == 7);
    CHECK(keys_of(metrics.back()) == Keys{"step", "validation_loss", "validation_perplexity"});
    CHECK_THAT(read_file(run.file("run/config.toml")), ContainsSubstring("normaliser = \"off_by_one\""));

    refuse(run.train("run"), {"already holds a run", "--resume", "--overwrite"});
    succeed("train " + run.file("run/config.toml") + " --out " + run.file("again"));
    CHECK(run.metrics("again") == metrics);
    succeed(run.train("run", "--set train.steps=7 --set model.normaliser=off_by_one --resume"));  // nothing left to do
    CHECK(run.metrics("run") == metrics);
    CHECK(leftovers(run.folder.path()).empty());
}

TEST_CASE("cli: eval streaming says the same by every name of a model and by both methods") {
    const TinyRun run;
    for (const std::string model :
         {"--set model.num_sink_tokens=2", "--set model.normaliser=sink_logit", "--set model.position=alibi"}) {
        CAPTURE(model);
        succeed(run.train("run", "--overwrite " + model));
        const auto evaluate = [&](const std::string& name, const std::string& more) {
            succeed("eval streaming " + run.file(name) + " --text " + run.file("text.txt") +
                    " --max-tokens 150 --threads 1 --json " + run.file("out.json") + " " + more);
            return run.json("out.json");
        };
        const json masked = evaluate("run", "--policy sink --sinks 0,1,2,4 --cache 16,24 --method masked");
        const json cached = evaluate("run", "--policy sink --sinks 0,1,2,4 --cache 16,24 --method cache");
        REQUIRE(masked["results"].size() == 8);
        REQUIRE(cached["results"].size() == 8);
        for (size_t i = 0; i < 8; ++i) {
            const json &a = masked["results"][i], &b = cached["results"][i];
            CAPTURE(a.dump(), b.dump());
            CHECK(keys_of(a) == kStreamingKeys);
            CHECK(keys_of(b) == kStreamingKeys);
            for (const char* key : {"sinks", "cache", "tokens", "of_tokens"}) CHECK(a[key] == b[key]);
            CHECK(a["method"] == "masked");
            CHECK(b["method"] == "cache");
            CHECK(relative(a["perplexity"], b["perplexity"]) <= 1e-4);
            CHECK(relative(a["perplexity"], std::exp(a["loss"].get<double>())) <= 1e-12);
        }
        const Outcome warned = ballast_with("eval streaming " + run.file("run") + " --text " + run.file("text.txt") +
                                            " --max-tokens 50 --policy dense --cache 16 --sinks 4");
        CHECK(warned.code == 0);
        CHECK_THAT(warned.err,
                   ContainsSubstring("dense has no setting sinks") && ContainsSubstring("dense has no setting cache"));
        const auto warnings = [&](const std::string& options) {
            return ballast_with("eval streaming " + run.file("run") + " --text " + run.file("text.txt") +
                                " --max-tokens 12 " + options)
                .err;
        };
        CHECK_THAT(warnings("--policy recompute --cache 8 --method masked --chunk 4"),
                   ContainsSubstring("recompute has no setting method") &&
                       ContainsSubstring("recompute has no setting chunk"));
        CHECK_THAT(warnings("--cache 8 --sinks 4 --method cache --chunk 4"),
                   ContainsSubstring("only the method masked has a setting chunk"));
        CHECK_THAT(warnings("--cache 8 --sinks 4 --chunk 4"), !ContainsSubstring("chunk"));
        for (const char* policy : {"dense", "window", "recompute"}) {
            const json result = evaluate("run", fmt::format("--policy {} --cache 16", policy));
            REQUIRE(result["results"].size() == 1);
            CHECK(keys_of(result["results"][0]) == kStreamingKeys);
        }
        CHECK(evaluate("run/checkpoints/step_00000012.h5", "--cache 16 --sinks 4")["results"][0]["perplexity"] ==
              masked["results"][3]["perplexity"]);
        if (model.find("alibi") != std::string::npos) continue;
        succeed("export " + run.file("run") + " " + run.file("hf"));
        CHECK(evaluate("hf", "--cache 16 --sinks 4")["results"][0]["perplexity"] == masked["results"][3]["perplexity"]);
    }
    CHECK(leftovers(run.folder.path()).empty());
}

TEST_CASE("cli: lists and repeated options leave the arguments after them alone") {
    const TinyRun run;
    succeed("train --set train.steps=1 --set train.seed=7 " + run.file("config.toml") + " --out " + run.file("run"));
    succeed("eval streaming --sinks 0,1 --cache 8,16 " + run.file("run") + " --max-tokens 40 --text " +
            run.file("text.txt"));
    succeed("eval table --sinks 0,1 --cache 16 " + run.file("run") + " --max-tokens 70 --text " + run.file("text.txt"));
    succeed("tokenizer train --vocab-size 300 --special-token '<a>' --special-token '<b>' " + run.file("text.txt") +
            " -o " + run.file("special.json"));
    CHECK(succeed("tokenizer encode -t " + run.file("special.json") + " " + run.file("config.toml")).size() > 0);
}

TEST_CASE("cli: an exported folder exports to itself, sink tokens included") {
    const TinyRun run;
    succeed(run.train("run", "--set model.num_sink_tokens=2 --set train.steps=1"));
    succeed("export " + run.file("run") + " " + run.file("first") + " --hidden-act gelu");
    succeed("export " + run.file("first") + " " + run.file("second") + " --max-shard-gb 0.00001");
    CHECK(run.json("first/config.json")["hidden_act"] == "gelu");
    CHECK(run.json("first/config.json") == run.json("second/config.json"));
    CHECK(run.json("first/tokenizer.json") == run.json("second/tokenizer.json"));
    CHECK(run.json("first/tokenizer.json")["added_tokens"].back()["content"] == "<|sink_1|>");
    CHECK(std::filesystem::exists(run.file("first/model.safetensors")));
    CHECK(std::filesystem::exists(run.file("second/model.safetensors.index.json")));
    refuse("export " + run.file("first") + " " + run.file("run"), {run.file("run"), "run"});
}

TEST_CASE("cli: a folder that is exported again keeps its token ids, roles and chat template") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    succeed("export " + run.file("run") + " " + run.file("first"));
    const auto change = [&](const std::string& name, const json& keys) {
        json file = run.json(name);
        file.update(keys);
        write_file(run.file(name), file.dump());
        return file;
    };
    const json config = change("first/config.json", {{"bos_token_id", 3}, {"eos_token_id", 4}, {"pad_token_id", 5}});
    const json generation = change("first/generation_config.json", {{"eos_token_id", {4, 6}}, {"bos_token_id", 3}});
    const json settings = change("first/tokenizer_config.json",
                                 {{"bos_token", "#"}, {"pad_token", {{"content", "&"}}}, {"chat_template", "{{ 1 }}"}});
    write_file(run.file("first/chat_template.jinja"), "{{ 2 }}");
    succeed("export " + run.file("first") + " " + run.file("second"));
    CHECK(run.json("second/config.json") == config);
    CHECK(run.json("second/generation_config.json") == generation);
    CHECK(run.json("second/tokenizer_config.json") == settings);
    CHECK(run.json("second/special_tokens_map.json")["pad_token"]["content"] == "&");
    CHECK(read_file(run.file("second/chat_template.jinja")) == "{{ 2 }}");
    // Phi and Qwen name an end alone.
    json without_begin = run.json("first/config.json");
    without_begin.erase("bos_token_id");
    write_file(run.file("first/config.json"), without_begin.dump());
    succeed("export " + run.file("first") + " " + run.file("third"));
    CHECK(run.json("third/config.json") == without_begin);
}

TEST_CASE("cli: an option that says more of another needs it") {
    const TinyRun run;
    refuse("data prepare -t " + run.file("tokenizer.json") + " -o " + run.file("x.h5") + " --validation-by hash " +
               run.file("text.txt"),
           {"--validation-by", "--validation-output"});
    refuse("generate " + run.file("run") + " Hello --logprobs 3", {"--logprobs", "--json"});
    CHECK_FALSE(std::filesystem::exists(run.file("x.h5")));
}

TEST_CASE("cli: an export names no end of text that its tokenizer has not") {
    const TinyRun run;
    const std::string tokenizer = run.file("own.json"), store = run.file("own.h5"), text = run.file("text.txt");
    succeed("tokenizer train -o " + tokenizer + " --vocab-size 300 --special-token '<|start|>' --threads 1 " + text);
    succeed("data prepare -t " + tokenizer + " -o " + store + " --no-append-eod --threads 1 " + text);
    succeed(run.train("run", "--set train.steps=1 --set data.validation= --set data.train=" + store +
                                 " --set data.tokenizer=" + tokenizer));
    succeed("export " + run.file("run") + " " + run.file("first"));
    succeed("export " + run.file("first") + " " + run.file("second"));
    for (const char* name : {"config.json", "generation_config.json"}) {
        const json first = run.json(std::string("first/") + name);
        for (const char* key : {"bos_token_id", "eos_token_id"}) {
            INFO(name << ": " << key);
            CHECK(first.value(key, json(0)).is_null());  // said, and not an id that some token has
        }
        CHECK(run.json(std::string("second/") + name) == first);
    }
}

TEST_CASE("cli: eval table, sinks, outliers and logits write the documented keys") {
    const TinyRun run;
    succeed(run.train("run"));
    const std::string text = " --text " + run.file("text.txt") + " --threads 1 --json " + run.file("out.json") + " ";

    succeed("eval table " + run.file("run") + text + "--max-tokens 100 --cache 16 --sinks 0,2 --every 4");
    const json table = run.json("out.json");
    CHECK(keys_of(table) == Keys{"cache", "models"});
    CHECK(keys_of(table["models"][0]) == Keys{"dtype", "model", "results", "sinks", "step"});
    CHECK(table["models"][0]["results"].size() == 4);  // 0 + C, 2 + (C - 2), dense, recompute

    succeed("eval sinks " + run.file("run") + text + "--length 16 --sequences 2 --maps " +
            run.file("maps.safetensors"));
    const json sinks = run.json("out.json");
    CHECK(keys_of(sinks) == Keys{"dtype", "model", "step", "sinks"});
    CHECK(keys_of(sinks["sinks"]) == Keys{"length", "sequences", "epsilon", "sink_rate", "layers"});
    CHECK(keys_of(sinks["sinks"]["layers"][1]) == Keys{"share", "share_std", "alpha", "logits"});
    const SafetensorsReader maps(run.file("maps.safetensors"));
    for (const char* name : {"attention", "attention_logits"})
        CHECK(maps.info(name).shape == std::vector<int64_t>{2, 2, 16, 16});

    succeed("eval sinks " + run.file("run") + text +
            "--length 8 --sentences --sequences 3 --last-query 24 "
            "--last-query-sequences 2");
    const json figures = run.json("out.json");
    CHECK(keys_of(figures) == Keys{"dtype", "model", "step", "sinks", "last_queries"});
    CHECK(keys_of(figures["sinks"]) ==
          Keys{"length", "sequences", "epsilon", "sink_rate", "layers", "whole_sentences"});
    CHECK(keys_of(figures["last_queries"][0]) == Keys{"length", "sequences", "layers"});
    CHECK(keys_of(figures["last_queries"][0]["layers"][1]) == Keys{"mean", "std", "weight"});

    succeed("eval outliers " + run.file("run") + text + "--sequences 2");
    const json outliers = run.json("out.json");
    CHECK(keys_of(outliers) == Keys{"dtype", "model", "step", "outliers"});
    CHECK(keys_of(outliers["outliers"]) == Keys{"length", "sequences", "tokens", "bits", "loss", "rounded_loss",
                                                "perplexity", "rounded_perplexity", "embedding", "head", "layers"});
    CHECK(keys_of(outliers["outliers"]["layers"][0]) == Keys{"residual", "qkv", "out", "up", "down", "value_norm"});
    CHECK(outliers["outliers"]["length"] == 32);

    const std::vector<int32_t> ids{5, 6, 7, 8, 9, 10};
    SafetensorsWriter writer(run.file("ids.safetensors"));
    writer.add("input_ids", Dtype::i32, std::vector<int64_t>{2, 3}, ids.data());
    writer.commit();
    succeed("eval logits " + run.file("run") + " --ids " + run.file("ids.safetensors") + " --out " +
            run.file("logits.safetensors") + " --grads");
    const SafetensorsReader logits(run.file("logits.safetensors"));
    CHECK(logits.info("logits").shape == std::vector<int64_t>{2, 3, 384});
    CHECK(logits.info("loss").shape.empty());
    CHECK(logits.info("grad.gpt_neox.layers.1.attention.query_key_value.weight").shape == std::vector<int64_t>{96, 32});
    CHECK(leftovers(run.folder.path()).empty());
}
