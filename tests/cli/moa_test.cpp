// `ballast moa` as a user runs it, from a text to a plan and what the plan costs.
#include "moa/profile_file.h"

#include <array>
#include <csignal>
#include <filesystem>
#include <map>
#include <thread>

#include "infer/span_plan.h"
#include "tests/cli/program.h"
#include "tests/cli/spoiled_model.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A model that was trained a little, and items for it.
struct MoaRun : TinyRun {
    MoaRun() { succeed(train("run", "--set train.steps=4 --set model.max_position_embeddings=64")); }
    std::string run() const { return file("run"); }

    std::string calibrate(const std::string& more) const {
        return fmt::format("moa calibrate {} --text {} --threads 1 {}", run(), file("text.txt"), more);
    }
    std::string profile(const std::string& items, const std::string& out) const {
        return fmt::format("moa profile {} {} --lengths 32,48 --block 4 --threads 1 -o {}", run(), file(items),
                           file(out));
    }
};

}  // namespace

TEST_CASE("moa: calibrate, profile, optimise, validate and a plan's perplexity") {
    const MoaRun t;
    write_file(t.file("ask.txt"), "{passage} So");
    succeed(t.calibrate(fmt::format("--lengths 32,48 --count 2 --answer-tokens 4 --kind model --instruction {} -o {}",
                                    t.file("ask.txt"), t.file("model.jsonl"))));
    CHECK_THAT(read_file(t.file("model.jsonl")), ContainsSubstring("\"kind\":\"model\""));
    for (const std::string kind : {"plain", "human_context", "human"})
        succeed(t.calibrate(fmt::format("--lengths 32,48,64 --count 3 --answer-tokens 4 --kind {} -o {}", kind,
                                        t.file("items.jsonl"))));
    const std::string out = succeed(t.profile("items.jsonl", "profile.h5"));
    CHECK_THAT(out, ContainsSubstring("32 positions: 3 items") && ContainsSubstring("48 positions: 3 items"));

    // A profile that was stopped after some items goes on and ends with the same bits.
    succeed(t.profile("items.jsonl", "again.h5") + " --count 1");
    succeed(t.profile("items.jsonl", "again.h5"));
    CHECK(moa::read_profile(t.file("again.h5")) == moa::read_profile(t.file("profile.h5")));
    refuse(t.profile("model.jsonl", "profile.h5"), {"profile.h5 is a profile of another model, other items"});

    const std::string said =
        succeed(fmt::format("moa optimise {} --density 0.5 --alphas 1 --betas 5 --sinks 4 -o {} --all {}",
                            t.file("profile.h5"), t.file("plan.json"), t.file("plans")));
    CHECK_THAT(said, ContainsSubstring("10/10 loss at 48") && ContainsSubstring("10 programs, largest gap"));
    for (const auto& [to, all, why] : std::vector<std::array<std::string, 3>>{
             {"other.json", "text.txt/plans", "cannot make the folder " + t.file("text.txt/plans")},
             {"plans/best.json", "plans", "plans/best.json lies in the folder of --all"},
             {"other.json", "run", "is in a folder of plans, which is replaced as a whole"},
             {"other.tsv", "plans", "choose a name that ends in .json"}}) {
        const Outcome refused =
            ballast_with(fmt::format("moa optimise {} -o {} --all {}", t.file("profile.h5"), t.file(to), t.file(all)));
        CHECK(refused.code == 2);
        CHECK_THAT(refused.err, ContainsSubstring(why));
        CHECK(refused.out.empty());  // before the search
    }
    CHECK_FALSE(std::filesystem::exists(t.file("other.json")));
    // A folder of plans holds those of the last search.
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(t.file("plans"))) names.push_back(entry.path());
    for (size_t i = names.size(); i < names.size() + 2; ++i)
        std::filesystem::copy(t.file("plan.json"), t.file(fmt::format("plans/plan_{:02}.json", i)));
    succeed(fmt::format("moa optimise {} --density 0.5 --alphas 1 --betas 5 --sinks 4 -o {} --all {}",
                        t.file("profile.h5"), t.file("plan.json"), t.file("plans")));
    CHECK(std::distance(std::filesystem::directory_iterator(t.file("plans")), std::filesystem::directory_iterator()) ==
          std::ssize(names));
    const infer::SpanPlan plan = infer::read_span_plan(t.file("plan.json"));
    for (const int64_t N : {32, 48, 64}) CHECK(infer::memory_density(plan, 2, N) <= 0.5);
    CHECK_THAT(succeed(fmt::format("moa show {} --model {}", t.file("plan.json"), t.run())),
               ContainsSubstring("layer   1") && ContainsSubstring("dense 0.0 MB"));
    const std::string best =
        succeed(fmt::format("moa validate {} {} {}/*.json --length 64 --threads 1 -o {} --json {}", t.run(),
                            t.file("items.jsonl"), t.file("plans"), t.file("best.json"), t.file("validation.json")));
    CHECK_THAT(best, ContainsSubstring("3 items of at most 64"));
    CHECK(t.json("validation.json")["dense"].get<double>() > 0);

    const auto streaming = [&](const std::string& more, const std::string& file) {
        return fmt::format("eval streaming {} --text {} --threads 1 --json {} {}", t.run(), t.file("text.txt"),
                           t.file(file), more);
    };
    succeed(streaming("--policy moa --max-tokens 64 --plan " + t.file("best.json"), "moa.json"));
    const auto cell = t.json("moa.json")["results"][0];
    CHECK(cell["policy"] == "moa");
    CHECK(cell["plan"] == "best");
    CHECK(cell["density"].get<double>() == infer::memory_density(infer::read_span_plan(t.file("best.json")), 2, 64));
    CHECK(cell["kv_bytes"].get<double>() == cell["density"].get<double>() * 2 * 64 * 2 * 32 * 4);
    // All of the text in every head is the dense model.
    write_file(t.file("all.json"), R"({"alphas": [[0,0],[0,0]], "betas": [[1,1],[1,1]], "block": 4})");
    succeed(streaming("--max-tokens 64 --plan " + t.file("all.json"), "all_out.json"));  // a plan means moa
    succeed(streaming("--policy dense --max-tokens 64", "dense.json"));
    CHECK(t.json("all_out.json")["results"][0]["loss"].get<double>() ==
          Approx(t.json("dense.json")["results"][0]["loss"].get<double>()).epsilon(1e-6));
    CHECK(t.json("dense.json")["results"][0]["density"] == 1.0);
    refuse(streaming("--policy moa --plan " + t.file("best.json"), "x.json"),
           {"more than the 64 that the plan was made for"});
    refuse(streaming("--policy moa", "x.json"), {"--policy moa and --plan go together"});
    refuse(streaming("--policy sink --plan " + t.file("best.json"), "x.json"), {"--policy moa and --plan go together"});
    refuse(streaming("--policy moa --method cache --max-tokens 64 --plan " + t.file("best.json"), "x.json"),
           {"the method masked"});
}

TEST_CASE("moa profile: goes on under the settings that it was made with alone, and as before where it has none") {
    const MoaRun t;
    succeed("export " + t.run() + " " + t.file("hf"));
    succeed(t.calibrate("--lengths 32,48 --count 2 --answer-tokens 4 --kind human -o " + t.file("items.jsonl")));
    const std::string profile = fmt::format("moa profile {} {} --lengths 32,48 --block 4 --threads 1 -o {} ",
                                            t.file("hf"), t.file("items.jsonl"), t.file("profile.h5"));
    succeed(profile + "--count 1");
    const std::string before = bytes_of(t.file("profile.h5"));
    nlohmann::json other = t.json("tokenizer.json");
    other["added_tokens"].push_back({{"id", 300},
                                     {"content", "<|other|>"},
                                     {"special", true},
                                     {"single_word", false},
                                     {"lstrip", false},
                                     {"rstrip", false},
                                     {"normalized", false}});
    write_file(t.file("other.json"), other.dump());
    refuse(profile + "--dtype bf16", {"profile.h5 was made with --dtype f32, and now it is bf16", "remove it"});
    refuse(profile + "--gemm reference", {"profile.h5 was made with --gemm auto, and now it is reference"});
    refuse(profile + "--tokenizer " + t.file("other.json"), {"was made with a tokenizer of checksum", "and now it is"});
    CHECK(bytes_of(t.file("profile.h5")) == before);
    succeed(profile);
    moa::Profile old = moa::read_profile(t.file("profile.h5"));
    CHECK(old.lengths[0].sequences == 2);
    old.settings = {};
    write_profile(t.file("profile.h5"), old);
    succeed(profile + "--gemm reference");
    CHECK(moa::read_profile(t.file("profile.h5")) == old);
}

TEST_CASE("moa optimise --all: whatever kills it, the folder is the old set, the new one, or not there") {
    const MoaRun t;
    succeed(t.calibrate("--lengths 32,48 --count 2 --answer-tokens 4 --kind human -o " + t.file("items.jsonl")));
    succeed(t.profile("items.jsonl", "profile.h5"));
    const auto optimise = [&](const char* density) {
        return fmt::format("moa optimise {} --solver lagrangian --alphas 3 --density {} -o {} --all {}",
                           t.file("profile.h5"), density, t.file("plan.json"), t.file("plans/"));
    };
    const auto plans = [&] {
        std::map<std::string, std::string> files;
        std::error_code missing;
        for (const auto& entry : std::filesystem::directory_iterator(t.file("plans"), missing))
            files[entry.path().filename()] = read_file(entry.path());
        return files;
    };
    std::vector<std::map<std::string, std::string>> sets;
    for (const char* density : {"0.5", "0.7"}) {
        succeed(optimise(density));
        sets.push_back(plans());
    }
    REQUIRE(sets[0] != sets[1]);
    int killed = 0;
    for (int i = 0; i < 24; ++i) {
        const std::filesystem::path written = t.file("plan.json");  // before the others
        std::filesystem::remove(written);
        Process process(optimise(i % 2 == 0 ? "0.5" : "0.7") + " >/dev/null 2>&1");
        if (process.run_until([&] { return std::filesystem::exists(written); })) {
            std::this_thread::sleep_for(std::chrono::microseconds(i * 300));
            process.signal(SIGKILL);
        }
        killed += process.wait() == -SIGKILL;
        const auto found = plans();
        CAPTURE(i, found.size());
        CHECK((found.empty() || found == sets[0] || found == sets[1]));
    }
    CHECK(killed > 0);
    succeed(optimise("0.5"));
    CHECK(plans() == sets[0]);
    for (const char* left : {"plans.part", "plans.old"}) CHECK_FALSE(std::filesystem::exists(t.file(left)));
}

TEST_CASE("moa profile and search: more memory than there is is refused before anything is read or taken") {
    const TinyRun t;
    succeed(t.train("run", "--set train.steps=1 --set model.max_position_embeddings=1048576"));
    const std::vector<std::string> what{"are needed for the profile", "weights", "are there", "larger --block"};
    const std::string shape = " --lengths 1048576 --threads 1 ";
    refuse(fmt::format("moa profile {} {} {} --block 1 -o {}", t.file("run"), t.file("nothing.jsonl"), shape,
                       t.file("profile.h5")),
           what);
    refuse(fmt::format("moa search {} --text {} {} --block 1 -o {}", t.file("run"), t.file("text.txt"), shape,
                       t.file("search")),
           what);
    CHECK_FALSE(std::filesystem::exists(t.file("search")));
    refuse(fmt::format("moa profile {} {} --lengths 32 --draws 1048577 -o {}", t.file("run"), t.file("nothing.jsonl"),
                       t.file("profile.h5")),
           {"--draws"});
}

TEST_CASE("moa search: validates on text that was not profiled, and refuses one that is too short for that") {
    const MoaRun t;
    const auto search = [&](const std::string& more) {
        return fmt::format(
            "moa search {} --text {} --lengths 32,48 --count 4 --answer-tokens 4 --kind human --block 4 --alphas 1 "
            "--betas 3 --measure absolute --solver lagrangian --threads 1 -o {} {}",
            t.run(), t.file("text.txt"), t.file("search"), more);
    };
    refuse(search("--validation-length 64 --validation-count 1000"),
           {"1000 items", "take 64048 tokens, in one document or in several of at least 64", "--validation-count"});
    succeed(search("--validation-length 64 --validation-count 4"));
    const std::string text = read_file(t.file("text.txt"));
    const auto places = [&](const std::string& name) {  // where each item begins and ends in the text
        std::vector<std::pair<size_t, size_t>> out;
        std::istringstream lines(read_file(t.file("search/" + name)));
        for (std::string line; std::getline(lines, line);) {
            const nlohmann::json item = nlohmann::json::parse(line);
            const std::string all = item["prompt"].get<std::string>() + item["answer"].get<std::string>();
            REQUIRE(text.find(all) != std::string::npos);
            out.emplace_back(text.find(all), text.find(all) + all.size());
        }
        return out;
    };
    const auto profiled = places("items.jsonl"), validated = places("validation.jsonl");
    CHECK(profiled.size() == 8);
    CHECK(validated.size() == 4);
    for (const auto& item : profiled)
        for (const auto& other : validated) CHECK(item.second <= other.first);
}

TEST_CASE("moa search: all stages, and again from where it was stopped") {
    const MoaRun t;
    const std::string search = fmt::format(
        "moa search {} --text {} --lengths 32,48 --count 2 --answer-tokens 4 --kind human --block 4 --alphas 1 --betas "
        "5 "
        "--density 0.5 --validation-length 64 --validation-count 2 --threads 1 -o {}",
        t.run(), t.file("text.txt"), t.file("search"));
    CHECK_THAT(succeed(search), ContainsSubstring("measure: second-order") && ContainsSubstring("measure: absolute"));
    const auto plan = read_file(t.file("search/plan.json"));
    for (const char* gone : {"plan.json", "plans", "profile.h5"}) {
        std::filesystem::remove_all(t.file(std::string("search/") + gone));
        succeed(search);
        CHECK(read_file(t.file("search/plan.json")) == plan);
    }
    for (const char* other : {" --measure signed", " --gap 2", " --dtype bf16"})
        refuse(search + other, {"a search with other settings"});
    CHECK(leftovers(t.file("search")).empty());
}

TEST_CASE("moa calibrate: a model that says nothing or no numbers, and a length that no document has, are refused") {
    const MoaRun t;
    succeed("export " + t.run() + " " + t.file("hf"));
    silence(t.file("hf"));
    write_file(t.file("ask.txt"), "{passage} So");
    const auto calibrate = [&](const std::string& more) {
        return ballast_with(
            fmt::format("moa calibrate {} --text {} --count 2 --answer-tokens 4 --instruction {} -o {} "
                        "--threads 1 {}",
                        t.file("hf"), t.file("text.txt"), t.file("ask.txt"), t.file("items.jsonl"), more));
    };
    const Outcome silent = calibrate("--lengths 32");
    CHECK(silent.code == 2);
    CHECK_THAT(silent.err, ContainsSubstring("ends every answer of 32 positions"));
    const Outcome too_long = calibrate("--lengths 32,64 --max-tokens 40");
    CHECK(too_long.code == 2);
    CHECK_THAT(too_long.err, ContainsSubstring("of an item of 64 positions"));  // before the first is answered
    spoil_embedding(t.file("hf"));
    const Outcome spoiled = calibrate("--lengths 32");
    CHECK(spoiled.code == 1);
    CHECK_THAT(spoiled.err, ContainsSubstring("token 1 of the answer to item 1 are not finite; look for NaN"));
    CHECK_FALSE(std::filesystem::exists(t.file("items.jsonl")));
}

TEST_CASE("moa validate: a plan whose loss is not finite is never the best") {
    const MoaRun t;
    succeed("export " + t.run() + " " + t.file("hf"));
    // A NaN at the first position reaches the answer where caches are whole, and does not where they hold four tokens.
    spoil_embedding(t.file("hf"), t.json("tokenizer.json")["model"]["vocab"]["~"].get<int64_t>());
    write_file(t.file("items.jsonl"),
               "{\"prompt\": \"~abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNO\", \"answer\": \"PQRS\", "
               "\"kind\": \"human\"}\n");
    const auto plan = [&](const std::string& name, int alpha, int beta) {
        write_file(t.file(name), fmt::format(R"({{"alphas": [[{0},{0}],[{0},{0}]], "betas": [[{1},{1}],[{1},{1}]], )"
                                             R"("block": 4, "sinks": 0}})",
                                             alpha, beta));
        return t.file(name);
    };
    const std::string wide = plan("wide.json", 0, 1), near = plan("near.json", 4, 0);
    const auto validate = [&](const std::string& plans) {
        return ballast_with(fmt::format("moa validate {} {} {} --length 64 --threads 1 -o {} --json {}", t.file("hf"),
                                        t.file("items.jsonl"), plans, t.file("best.json"), t.file("figures.json")));
    };
    for (const std::string& plans : {wide + " " + near, near + " " + wide}) {
        const Outcome outcome = validate(plans);
        CAPTURE(outcome.out, outcome.err);
        CHECK(outcome.code == 0);
        CHECK_THAT(outcome.out, ContainsSubstring("least: " + near) && !ContainsSubstring("-nan"));
        CHECK(infer::read_span_plan(t.file("best.json")) == infer::read_span_plan(near));
    }
    const nlohmann::json figures = t.json("figures.json");
    CHECK(figures["dense"] == "NaN");
    CHECK(figures["plans"][0]["loss"].is_number());
    CHECK(figures["plans"][1]["loss"] == "NaN");

    std::filesystem::remove(t.file("best.json"));
    const Outcome none = validate(wide);
    CHECK(none.code == 1);
    CHECK_THAT(none.err, ContainsSubstring("no plan has a finite loss"));
    CHECK_FALSE(std::filesystem::exists(t.file("best.json")));
}

TEST_CASE("moa: outputs that are an input, or each other, are refused before any work") {
    const MoaRun t;
    std::filesystem::copy(t.file("run/checkpoints/step_00000004.h5"), t.file("model.h5"));
    for (const char* name : {"ask.txt", "items.jsonl", "plan.json"}) write_file(t.file(name), "{passage}");
    const auto unchanged = [&](const std::string& command, const std::string& name) {
        const std::string before = bytes_of(t.file(name));
        refuse(command, {t.file(name), "it is the input"});
        CHECK(bytes_of(t.file(name)) == before);
    };
    unchanged(t.calibrate(fmt::format("--lengths 64 --instruction {0} -o {0}", t.file("ask.txt"))), "ask.txt");
    const std::string of_file =
        fmt::format(" {} {} --tokenizer {} ", t.file("model.h5"), t.file("items.jsonl"), t.file("tokenizer.json"));
    const std::string validate = "moa validate" + of_file + t.file("plan.json") + " --length 64 ";
    for (const char* name : {"model.h5", "items.jsonl", "plan.json", "tokenizer.json"})
        for (const char* option : {"--out ", "--json "}) unchanged(validate + option + t.file(name), name);
    for (const char* name : {"model.h5", "items.jsonl", "tokenizer.json"})
        unchanged("moa profile" + of_file + "--lengths 32 -o " + t.file(name), name);
    for (const char* same : {"new.json", "./new.json"})
        refuse(validate + "--out " + t.file("new.json") + " --json " + t.file(same), {"the same file"});
}

TEST_CASE("moa: what cannot be is refused before any work") {
    const MoaRun t;
    refuse(t.calibrate("--lengths 128 -o " + t.file("a")), {"128 positions: the model was trained on 64"});
    refuse(t.calibrate("--lengths 32 --instruction /none -o " + t.file("a")), {"/none"});
    write_file(t.file("mark.txt"), "{passage}");
    for (const std::string kind : {"human", "human_context", "plain"})
        refuse(t.calibrate(
                   fmt::format("--lengths 32 --kind {} --instruction {} -o {}", kind, t.file("mark.txt"), t.file("a"))),
               {"--instruction is for --kind model", kind});
    refuse(t.calibrate("--lengths 64 --answer-tokens 60 --kind human -o " + t.file("a")), {"fewer --answer-tokens"});
    write_file(t.file("ask.txt"), "no mark");
    refuse(t.calibrate(fmt::format("--lengths 64 --instruction {} -o {}", t.file("ask.txt"), t.file("a"))),
           {"{passage}"});
    write_file(t.file("items.jsonl"), "{\"prompt\": \"a\", \"answer\": \"b\", \"kind\": \"model\"}\n");
    refuse(t.profile("items.jsonl", "p.h5"),
           {"no item of more than 24 and at most 32 positions", "calibrate --lengths 32"});
    refuse(fmt::format("moa optimise {} -o {}", t.file("items.jsonl"), t.file("a")), {"items.jsonl"});
    // What a later stage of a search would refuse.
    const auto search = [&](const std::string& more) {
        return fmt::format("moa search {} --text {} --lengths 32,48 --block 4 --threads 1 -o {} {}", t.run(),
                           t.file("text.txt"), t.file("search"), more);
    };
    refuse(search("--density 0.05"), {"a density of 0.05 at length 32 is out of reach"});
    refuse(search("--max-length 100"), {"texts of 100 positions", "the profile reaches 48, the model 64"});
    refuse(search("--max-length 48 --validation-length 64"), {"a validation at 64 positions", "--max-length"});
    refuse(search("--sinks 8"), {"second-order losses were profiled with 4 sinks"});
    refuse(search("--kind human --instruction " + t.file("mark.txt")), {"--instruction is for --kind model"});
    CHECK_FALSE(std::filesystem::exists(t.file("search")));
    refuse(fmt::format("moa show {}", t.file("items.jsonl")), {"\"alphas\" must be a list"});
    write_file(t.file("plan.json"), R"({"alphas": [[0,0,0]], "betas": [[1,1,1]]})");
    for (const char* option : {"--length ", "--lengths 64,"})
        refuse(fmt::format("moa show {} {}9223372036854775807", t.file("plan.json"), option), {"9223372036854775807"});
    write_file(t.file("heads.tsv"), "0.1\t0.9\n");
    refuse(fmt::format("moa show {} --recent 9223372036854775807", t.file("heads.tsv")), {"alpha of 9.22"});
    refuse(fmt::format("moa show {} --model {} --length 64", t.file("plan.json"), t.run()), {"1 layers of 3 heads"});
    // What would change nothing, and what could not be read again.
    for (const std::string option : {"--threshold 0.5", "--sinks 64", "--recent 256", "--block 64"}) {
        refuse(fmt::format("moa show {} {}", t.file("plan.json"), option),
               {option.substr(0, option.find(' ')), "is for DuoAttention's tables", "plan.json"});
        succeed(fmt::format("moa show {} {}", t.file("heads.tsv"), option));
    }
    refuse(fmt::format("moa show {} -o {}", t.file("plan.json"), t.file("other.tsv")), {"other.tsv", ".json"});
    refuse(fmt::format("moa validate {} {} {} --length 64 -o {}", t.run(), t.file("items.jsonl"), t.file("plan.json"),
                       t.file("other.tsv")),
           {"other.tsv", ".json"});
    CHECK_FALSE(std::filesystem::exists(t.file("other.tsv")));
}

TEST_CASE("moa show: a plan for any text is shown at no more positions than the model has") {
    const MoaRun t;
    write_file(t.file("plan.json"), R"({"alphas": [[0,0],[0,0]], "betas": [[1,1],[1,0.5]], "block": 4})");
    const auto show = [&](const std::string& more) {
        return succeed(fmt::format("moa show {} {}", t.file("plan.json"), more));
    };
    CHECK_THAT(show(""), ContainsSubstring("at 16384 positions"));
    CHECK_THAT(show("--model " + t.run()),
               ContainsSubstring("at 64 positions") && ContainsSubstring("a text of 64 positions"));
    CHECK_THAT(show("--lengths 16,48 --model " + t.run()), ContainsSubstring("at 48 positions"));
    refuse(fmt::format("moa show {} --length 65 --model {}", t.file("plan.json"), t.run()),
           {"65 positions are more than the 64"});
}
