// ballast generate, as a user runs it: one prompt, many, a stream. chat_test.cpp has conversations.
#include <cmath>
#include <fmt/format.h>

#include "base/json_file.h"
#include "tests/cli/spoiled_model.h"
#include "tests/cli/terminal.h"
#include "tests/cli/trained_run.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("generate: narrower weights change log-probabilities a little, and files say which there were") {
    const TrainedRun run;
    const std::string prompt = "\"Permission is hereby\" --max-tokens 4 --temperature 0 --dtype f32 --weights ";
    const auto first_logprob = [&](const std::string& weights) {
        return run.generate(prompt + weights)["logprobs"][0].get<double>();
    };
    const double full = first_logprob("f32");
    CHECK(first_logprob("same") == full);
    for (const char* narrow : {"bf16", "int8"}) {
        INFO(narrow);
        CHECK(first_logprob(narrow) != full);
        CHECK(std::fabs(first_logprob(narrow) - full) < 0.1);
    }
    const std::string streaming =
        fmt::format("eval streaming {} --text {} --max-tokens 60 --cache 8 --threads 1 --json {}", run.file("run"),
                    run.file("text.txt"), run.file("eval.json"));
    const auto loss = [&](const std::string& weights) {
        succeed(streaming + " --weights " + weights);
        return run.json("eval.json")["results"][0]["loss"].get<double>();
    };
    const double exact = loss("same");
    CHECK_FALSE(run.json("eval.json").contains("weights"));
    CHECK(loss("int8") != exact);
    CHECK(loss("int8") == Approx(exact).margin(0.1));
    CHECK(run.json("eval.json")["weights"] == "int8");
    refuse(streaming + " --dtype bf16 --weights f32", {"--weights", "f32", "bf16"});
}

TEST_CASE("generate: a text goes on, and its file says how") {
    const TrainedRun run;
    const auto greedy = run.generate("\"Permission is hereby\" --max-tokens 9 --temperature 0 --logprobs 3");
    CHECK(greedy["ids"].size() == 9);
    CHECK(greedy["logprobs"].size() == 9);
    CHECK(greedy["finish"] == "length");
    CHECK(greedy["prompt_ids"].size() >= 3);
    for (size_t i = 0; i < 9; ++i) {
        CHECK(greedy["logprobs"][i] < 0.0);
        CHECK(greedy["top_logprobs"][i].size() == 3);
        CHECK(greedy["top_logprobs"][i][0]["id"] == greedy["ids"][i]);  // greedy takes the most likely
        CHECK(greedy["top_logprobs"][i][0]["logprob"] == greedy["logprobs"][i]);
    }
    // What it prints is the text of the file.
    const std::string shown =
        succeed(fmt::format("generate {} \"Permission is hereby\" --max-tokens 9 --temperature 0", run.file("run")));
    CHECK(shown == greedy["text"].get<std::string>() + "\n");

    const auto draw = [&](int seed) {
        return run.generate(fmt::format("\"Permission\" --max-tokens 12 --top-p 0.9 --seed {}", seed))["ids"];
    };
    CHECK(draw(1) == draw(1));
    CHECK(draw(1) != draw(2));

    // Two letters of it end it before the place where they first stand.
    const std::string text = greedy["text"];
    const auto letters = [&](size_t at) { return std::isalpha(text[at]) && std::isalpha(text[at + 1]); };
    size_t at = text.size() / 2;
    while (at + 1 < text.size() && !letters(at)) ++at;
    if (at + 1 >= text.size())
        for (at = 0; at + 1 < text.size() && !letters(at); ++at) {
        }
    REQUIRE(at + 1 < text.size());
    const std::string stop = text.substr(at, 2);
    const auto stopped =
        run.generate(fmt::format("\"Permission is hereby\" --max-tokens 9 --temperature 0 --stop {}", stop));
    CHECK(stopped["text"] == text.substr(0, text.find(stop)));
    CHECK(stopped["finish"] == "stop");
}

TEST_CASE("generate: a file of prompts is one batch, in order, and each what it is alone") {
    const TrainedRun run;
    const std::vector<std::string> prompts{"Permission", "of this software and associated", "THE", "a copy of"};
    std::string lines;
    for (const std::string& prompt : prompts) lines += nlohmann::json{{"prompt", prompt}}.dump() + "\n\n";
    write_file(run.file("prompts"), lines);
    for (const char* policy :
         {"--policy dense", "--policy sink --sinks 2 --cache 8", "--policy h2o --heavy 3 --recent 4"}) {
        INFO(policy);
        const std::string more =
            fmt::format("--max-tokens 10 --temperature 0 --prefill-chunk 4 --gemm reference {}", policy);
        auto batch = run.generate(fmt::format("--prompts {} --max-batch 3 {}", run.file("prompts"), more));
        REQUIRE(batch.size() == prompts.size());
        for (size_t i = 0; i < prompts.size(); ++i) {
            const auto alone = run.generate(fmt::format("\"{}\" {}", prompts[i], more));
            batch[i].erase("settings");
            CHECK(batch[i] == alone);
        }
    }
    const std::string shown =
        succeed(fmt::format("generate {} --prompts {} --max-tokens 3", run.file("run"), run.file("prompts")));
    CHECK(lines_of(shown) == 4);
    CHECK(nlohmann::json::parse(shown.substr(0, shown.find('\n')))["prompt"] == "Permission");
}

TEST_CASE("generate: standard input is read for as long as it lasts, in the cache of the policy") {
    const TrainedRun run;
    std::string text;
    while (text.size() < 3000) text += read_file(run.file("text.txt")).substr(0, 1000);
    write_file(run.file("long.txt"), text);
    const std::string more =
        "--policy sink --sinks 2 --cache 20 --max-tokens 8 --temperature 0 --prefill-chunk 16 --gemm reference";
    const auto whole = run.generate(fmt::format("\"$(cat {})\" {}", run.file("long.txt"), more));
    const auto stream = run.generate(fmt::format("- {} < {}", more, run.file("long.txt")));
    CHECK(whole["prompt_ids"].size() > 500);
    CHECK(stream == whole);
    const auto through_pipe =
        ballast_with(fmt::format("generate {} - {} --json {}", run.file("run"), more, run.file("out.json")),
                     fmt::format("(head -c 10; sleep 0.1; cat) < {} |", run.file("long.txt")));
    CHECK(through_pipe.code == 0);
    CHECK(run.json("out.json") == whole);
    CHECK_THAT(through_pipe.err, Catch::Matchers::ContainsSubstring("tokens/s"));
    const Outcome dense =
        ballast_with(fmt::format("generate {} - --policy dense < {}", run.file("run"), run.file("long.txt")));
    CHECK(dense.code == 2);  // found while it is read
    CHECK_THAT(dense.err, Catch::Matchers::ContainsSubstring("choose the policy sink"));
    const std::string scored = "--policy h2o --heavy 3 --recent 4 --max-tokens 8 --temperature 0 --prefill-chunk 2";
    const Outcome too_long =
        ballast_with(fmt::format("generate {} - {} < {}", run.file("run"), scored, run.file("long.txt")));
    CHECK(too_long.code == 2);
    CHECK_THAT(too_long.err, Catch::Matchers::ContainsSubstring("the cache is for texts of 32"));
    // A plan is for the longest text of its range, which may be less than the model's.
    write_file(run.file("plan.json"), R"({"alphas": [[0,0],[0,0]], "betas": [[1,1],[1,1]], "block": 4, "sinks": 4, )"
                                      R"("length_range": [8, 24]})");
    write_file(run.file("word.txt"), "Permission");
    const std::string mixed = fmt::format("--plan {} --max-tokens 4 --temperature 0", run.file("plan.json"));
    CHECK(run.generate(fmt::format("- {} < {}", mixed, run.file("word.txt")))["ids"].size() <= 4);
    const Outcome beyond =
        ballast_with(fmt::format("generate {} - {} < {}", run.file("run"), mixed, run.file("long.txt")));
    CHECK(beyond.code == 2);
    CHECK_THAT(beyond.err, Catch::Matchers::ContainsSubstring("for texts of 24"));
    write_file(run.file("short.txt"), "Permission is hereby granted");
    CHECK(run.generate(fmt::format("- {} < {}", scored, run.file("short.txt"))) ==
          run.generate(fmt::format("\"$(cat {})\" {}", run.file("short.txt"), scored)));
}

TEST_CASE("generate: what cannot be is refused before any work") {
    const TrainedRun run;
    const std::string model = run.file("run");
    const auto refused = [&](const std::string& more, const std::vector<std::string>& parts) {
        refuse(fmt::format("generate {} {}", model, more), parts);
    };
    refused("", {"no prompt", "--prompts"});
    refused("a --prompts b", {"not both"});
    refused("a --max-tokens 40", {"the answer up to 40", "at most 32"});
    refused("\"$(head -c 400 " + run.file("text.txt") + ")\"", {"the prompt has", "for texts of 32"});
    refused("a --max-tokens 4 --cache-blocks 1", {"blocks of the cache, which has 1"});
    refused("a --policy sink --cache 33", {"a cache of 33 positions", "at most 32"});
    refused("a --policy sink --cache 4", {"keeps no recent key"});
    refused("a --policy sink --cache 20 --max-positions 8 --max-tokens 9", {"for texts of 8", "allow more positions"});
    refused("a --policy dense --cache 8", {"the policy dense has no setting cache"});
    refused("a --policy moa", {"needs a plan"});
    refused("a --policy h2o --heavy 30 --recent 3", {"a cache of 33 positions", "at most 32"});
    refused("a --policy h2o --heavy 4611686018427387904 --recent 4611686018427387904", {"more than any text has"});
    refused("a --backend cpu --cache-dtype fp16", {"fp16 is computed on a GPU only"});
    refused("a --dtype bf16 --cache-dtype f32", {"a model in bf16 cannot read a cache in f32"});
    refused("a --cache-blocks 9223372036854775807", {"can be numbered"});
    // A length that was asked for is not cut to the model's.
    for (const char* policy : {"dense", "h2o"})
        refused(fmt::format("a --policy {} --max-positions 33 --max-tokens 4", policy),
                {"texts of 33 positions", "choose at most 32"});
    refused("a --policy sink --max-positions 1073741825", {"--max-positions"});
    refused("a --policy h2o --max-tokens 40", {"the answer up to 40"});
    refused("a --policy h2o --cache 8", {"the policy h2o has no setting cache"});
    refused("a --policy sink --heavy 8", {"the policy sink has no setting heavy"});
    refused("a --policy infllm", {"a cache of 64 positions", "at most 32"});
    refused("a --policy infllm --recent 65", {"65 recent positions", "multiples of 64"});
    refused("a --policy infllm --heavy 1", {"the policy infllm has no setting heavy"});
    refused("a --plan nowhere.json", {"nowhere.json"});
    refused("a --temperature -1", {"temperature"});
    refused("a --stop \"\"", {"stop string is empty"});
    refused("a --json " + run.file("no/where.json"), {"no/where.json"});
    refused("--chat", {"no chat template"});
    refused("a --chat --json x.json", {"--chat"});
    write_file(run.file("bad"), "{\"prompt\": \"a\"}\n{\"text\": \"b\"}\n");
    refused("--prompts " + run.file("bad"), {"bad:2", "no \"prompt\""});
    write_file(run.file("long"), nlohmann::json{{"prompt", "a"}}.dump() + "\n" +
                                     nlohmann::json{{"prompt", read_file(run.file("text.txt")).substr(0, 400)}}.dump() +
                                     "\n");
    refused("--max-tokens 4 --prompts " + run.file("long"), {"long: prompt 2: the prompt has", "for texts of 32"});
    refused("a --max-tokens 9223372036854775807", {"the answer up to 9223372036854775807", "for texts of 32"});
    refused("a --stop '\xa9'", {"stop string", "UTF-8"});
    write_file(run.file("empty"), "\n");
    refused("--prompts " + run.file("empty"), {"holds no prompt"});
    write_file(run.file("plan.json"), R"({"alphas": [[0,0,0,0]], "betas": [[1,1,1,1]]})");
    refused("a --plan " + run.file("plan.json"), {"the plan is for 1 layers of 4 heads"});
}

TEST_CASE("generate -: Ctrl-C ends a wait for text that was not typed yet") {
    const TrainedRun run;
    Terminal terminal({"generate", run.file("run"), "-", "--policy", "sink", "--cache", "20"});
    REQUIRE(terminal.shows("memory beside the model's weights"));
    REQUIRE(terminal.shows("\n"));
    terminal.type('\x03');
    CHECK(terminal.wait() == -SIGINT);
}

TEST_CASE("generate: of logits that are not finite nothing is drawn, and the message says where and what to do") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    succeed("export " + run.file("run") + " " + run.file("hf"));
    spoil_embedding(run.file("hf"));
    for (const char* sampling : {"--temperature 0", "--top-p 0.5", "--top-k 3 --min-p 0.1"}) {
        const Outcome one = ballast_with(fmt::format("generate {} abc --max-tokens 2 {} --json {} --threads 1",
                                                     run.file("hf"), sampling, run.file("out.json")));
        CAPTURE(sampling, one.err);
        CHECK(one.code == 1);
        CHECK(one.out == "\n");
        CHECK_THAT(one.err, Catch::Matchers::ContainsSubstring("logits for token 1 of the answer, at position ") &&
                                Catch::Matchers::ContainsSubstring("look for NaN in the weights"));
        CHECK_FALSE(std::filesystem::exists(run.file("out.json")));
    }
}

TEST_CASE("generate: one prompt of a file whose logits are not finite spoils no other, and --resume tries it again") {
    const TrainedRun run;
    for (const char* folder : {"model", "whole"})
        succeed(fmt::format("export {} {}", run.file("run"), run.file(folder)));
    write_file(run.file("prompts"), "{\"prompt\": \"Permission\"}\n{\"prompt\": \"a~\"}\n{\"prompt\": \"THE\"}\n");
    const auto generate = [&](const char* file, const char* more) {
        return ballast_with(
            fmt::format("generate {} --prompts {} --max-tokens 5 --temperature 0 --logprobs 2 --json {} --threads 1 {}",
                        run.file("model"), run.file("prompts"), run.file(file), more));
    };
    const Outcome expected = generate("expected.json", "");
    CHECK(expected.code == 0);
    spoil_embedding(run.file("model"), run.json("tokenizer.json")["model"]["vocab"]["~"].get<int64_t>());
    const Outcome spoiled = generate("out.json", "");
    CAPTURE(spoiled.err);
    CHECK(spoiled.code == 1);
    CHECK_THAT(spoiled.err, Catch::Matchers::ContainsSubstring("prompts: prompt 2: the logits for token 1"));
    const nlohmann::json good = run.json("expected.json"), bad = run.json("out.json");
    size_t read = 0, written = 0;
    for (const auto& answer : bad) {
        read += answer["prompt_ids"].size();
        written += answer["ids"].size();
    }
    CHECK_THAT(spoiled.err,
               Catch::Matchers::ContainsSubstring(fmt::format(" {} tokens read and {} written", read, written)));
    CHECK(bad[0] == good[0]);
    CHECK(bad[1]["finish"] == "not_finite");
    CHECK(bad[1]["ids"].empty());
    CHECK(bad[2] == good[2]);
    CHECK(lines_of(spoiled.out) == 3);
    CHECK_THAT(spoiled.out, Catch::Matchers::ContainsSubstring("\"error\":\"the logits"));
    std::filesystem::remove_all(run.file("model"));
    std::filesystem::rename(run.file("whole"), run.file("model"));
    const Outcome again = generate("out.json", "--resume");
    CHECK(again.code == 0);
    CHECK(again.out == expected.out);
    CHECK(read_file(run.file("out.json")) == read_file(run.file("expected.json")));
}

TEST_CASE("generate: answers of an interrupted batch are kept, and --resume writes the file that was to be") {
    const TrainedRun run;
    std::string lines;
    for (int i = 0; i < 6; ++i) lines += fmt::format("{{\"prompt\": \"Permission {}\"}}\n", i);
    write_file(run.file("prompts"), lines);
    const auto command = [&](const std::string& file, int tokens) {
        return fmt::format(
            "generate {} --prompts {} --max-tokens {} --max-batch 2 --policy sink --cache 20 --seed 4 --threads 1 "
            "--json {}",
            run.file("run"), run.file("prompts"), tokens, run.file(file));
    };
    succeed(command("whole.json", 3000));
    Process process(command("out.json", 3000) + " >" + run.file("printed") + " 2>" + run.file("err"));
    const auto printed = [&] {
        return std::filesystem::exists(run.file("printed")) ? lines_of(read_file(run.file("printed"))) : 0;
    };
    REQUIRE(process.run_until([&] { return printed() >= 2; }));
    process.signal(SIGINT);
    CHECK(process.wait() == 1);
    const nlohmann::json whole = run.json("whole.json"), part = run.json("out.json");
    const std::string err = read_file(run.file("err"));
    CAPTURE(err);
    CHECK_THAT(err, Catch::Matchers::ContainsSubstring("of 6 prompts are answered, and " + run.file("out.json")) &&
                        Catch::Matchers::ContainsSubstring("--resume"));
    REQUIRE(part.size() == 6);
    CHECK(part[0] == whole[0]);
    CHECK(part[1] == whole[1]);
    CHECK(part[5]["finish"] == "unfinished");
    succeed(command("out.json", 3000) + " --resume");
    CHECK(read_file(run.file("out.json")) == read_file(run.file("whole.json")));
    const Outcome nothing_left = ballast_with(command("out.json", 3000) + " --resume");
    CHECK_THAT(nothing_left.err, Catch::Matchers::ContainsSubstring(" 0 tokens read and 0 written"));

    // What is not what the command left there is refused, and stays.
    const std::string kept = read_file(run.file("out.json"));
    refuse(command("out.json", 3) + " --resume",
           {"out.json has answers made with \"step ", "--max-tokens 3000 --seed 4", "now", "--max-tokens 3 --seed 4"});
    write_file(run.file("prompts"), lines + "{\"prompt\": \"one more\"}\n");
    refuse(command("out.json", 3) + " --resume", {"out.json has answers to other prompts", "--resume"});
    CHECK(read_file(run.file("out.json")) == kept);
    write_file(run.file("list.json"), "[{\"ids\": 3}]");
    refuse(command("list.json", 3) + " --resume", {"list.json: number 1 of the list is not an answer"});
    refuse(fmt::format("generate {} a --resume", run.file("run")), {"--resume", "give --prompts and --json"});
}

TEST_CASE("generate: an answer ends with what generation_config.json names, or config.json where there is none") {
    const TrainedRun run;
    succeed(fmt::format("export {} {}", run.file("run"), run.file("hf")));
    const auto answer = [&] {
        succeed(fmt::format("generate {} Permission --max-tokens 6 --temperature 0 --threads 1 --json {}",
                            run.file("hf"), run.file("out.json")));
        return run.json("out.json");
    };
    const auto name_end = [&](const char* file, const nlohmann::json& id) {
        nlohmann::json settings = run.json(std::string("hf/") + file);
        settings["eos_token_id"] = id;
        write_file(run.file(std::string("hf/") + file), settings.dump());
    };
    const nlohmann::json all = answer();
    REQUIRE(all["finish"] == "length");
    name_end("config.json", all["ids"][0]);
    CHECK(answer() == all);  // generation_config.json says otherwise
    name_end("generation_config.json", {all["ids"][0]});
    CHECK(answer()["finish"] == "stop_id");
    std::filesystem::remove(run.file("hf/generation_config.json"));
    CHECK(answer()["finish"] == "stop_id");
}

TEST_CASE("generate: a file of one prompt prints what a file of many does") {
    const TrainedRun run;
    write_file(run.file("prompts"), "{\"prompt\": \"Permission\"}\n");
    const std::string out = succeed(
        fmt::format("generate {} --prompts {} --max-tokens 5 --temperature 0", run.file("run"), run.file("prompts")));
    CHECK(lines_of(out) == 1);
    CHECK(nlohmann::json::parse(out)["prompt"] == "Permission");
}

TEST_CASE("generate: a prompt as long as the context gets one token, and what would be more is refused") {
    const TrainedRun run;
    const std::string text = read_file(run.file("text.txt"));
    const auto tokens = [&](size_t bytes) {
        write_file(run.file("prompt"), text.substr(0, bytes));
        return run
            .generate(
                fmt::format("\"$(cat {})\" --policy sink --cache 32 --max-tokens 1", run.file("prompt")))["prompt_ids"]
            .size();
    };
    size_t bytes = 20;
    while (tokens(bytes) < 32) ++bytes;
    REQUIRE(tokens(bytes) == 32);  // the context
    const std::string prompt = "\"$(cat " + run.file("prompt") + ")\" --policy dense --temperature 0 --max-tokens ";
    CHECK(run.generate(prompt + "1")["ids"].size() == 1);
    const std::string why = "the answer up to 2, the cache is for texts of 32; ask for at most 1 (max_tokens)";
    refuse(fmt::format("generate {} {}2", run.file("run"), prompt), {"32 tokens", why, "policy sink"});
    const Outcome stream = ballast_with(
        fmt::format("generate {} - --policy dense --max-tokens 2 < {}", run.file("run"), run.file("prompt")));
    CHECK(stream.code == 2);  // found when it ends
    CHECK_THAT(stream.err, Catch::Matchers::ContainsSubstring(why));
    while (tokens(bytes) > 31) --bytes;
    REQUIRE(tokens(bytes) == 31);
    CHECK(run.generate(prompt + "2")["ids"].size() == 2);
    refuse(fmt::format("generate {} {}3", run.file("run"), prompt), {"at most 2 (max_tokens)", "shorten it to 30"});
    // What is measured is read to its last token.
    const std::string measured = fmt::format("eval streaming {} --policy h2o --threads 1 --text {} --max-tokens ",
                                             run.file("run"), run.file("text.txt"));
    succeed(measured + "32");
    refuse(measured + "33", {"texts of 33 positions", "at most 32", "--max-tokens takes only the text's beginning"});
}

TEST_CASE("generate: more memory than there is is refused by what is to be lowered") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1 --set model.hidden_size=512"));
    refuse(fmt::format("generate {} a --max-tokens 4 --cache-blocks 33554430", run.file("run")),
           {"are needed beside the model's weights (cache blocks", "are there", "--prefill-chunk", "--cache-blocks"});
}
