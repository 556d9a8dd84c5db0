// What users get wrong: one clear line, code 2, nothing half-written under a final name.
#include "base/safetensors.h"
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// A file cut to a third, then one of another kind under the same name.
void with_damaged(const std::string& path, const std::function<void()>& attempt) {
    const std::string whole = bytes_of(path);
    for (const std::string& bytes :
         {whole.substr(0, whole.size() / 3), std::string("GIF89a, or something else\n"), std::string()}) {
        CAPTURE(path, bytes.size());
        put_bytes(path, bytes);
        attempt();
    }
    put_bytes(path, whole);
}

bool runs_as_root() { return ::geteuid() == 0; }

}  // namespace

TEST_CASE("cli: missing, unreadable and empty text") {
    const TinyRun run;
    const std::string with = " -t " + run.file("tokenizer.json") + " -o " + run.file("new.h5") + " ";
    refuse("data prepare" + with + run.file("none.txt"), {"no file or folder", "none.txt"});
    refuse("tokenizer train -o " + run.file("new.json") + " --vocab-size 300 " + run.file("none.txt"),
           {"no file or folder", "none.txt"});
    refuse("tokenizer encode -t " + run.file("none.json") + " " + run.file("text.txt"), {"none.json", "No such file"});
    write_file(run.file("empty.txt"), "");
    std::filesystem::create_directories(run.file("empty"));
    refuse("data prepare" + with + run.file("empty.txt"), {"no text"});
    refuse("data prepare" + with + run.file("empty"), {"empty"});
    refuse("tokenizer train -o " + run.file("new.json") + " --vocab-size 300 " + run.file("empty.txt"), {"no text"});
    if (!runs_as_root()) {
        write_file(run.file("secret.txt"), "text");
        std::filesystem::permissions(run.file("secret.txt"), std::filesystem::perms::none);
        refuse("data prepare" + with + run.file("secret.txt"), {"secret.txt", "Permission denied"});
    }
    for (const char* name : {"new.h5", "new.json"}) CHECK_FALSE(std::filesystem::exists(run.file(name)));
    CHECK(leftovers(run.folder.path()).empty());
}

TEST_CASE("cli: truncated and foreign files are named, whoever reads them") {
    const TinyRun run;
    succeed(run.train("run"));
    succeed("export " + run.file("run") + " " + run.file("hf"));
    const std::string text = " --cache 16 --text " + run.file("text.txt");
    with_damaged(run.file("train.h5"), [&] {
        refuse(run.train("new"), {"train.h5"});
        refuse("data info " + run.file("train.h5"), {"train.h5"});
    });
    with_damaged(run.file("tokenizer.json"), [&] {
        refuse(run.train("new"), {"tokenizer.json"});
        refuse("tokenizer encode -t " + run.file("tokenizer.json") + " " + run.file("text.txt"), {"tokenizer.json"});
    });
    CHECK_FALSE(std::filesystem::exists(run.file("new")));
    with_damaged(run.file("run/checkpoints/step_00000012.h5"), [&] {
        refuse("eval streaming " + run.file("run/checkpoints/step_00000012.h5") + text, {"step_00000012.h5"});
    });
    for (const char* name : {"model.safetensors", "config.json"})
        with_damaged(run.file(std::string("hf/") + name),
                     [&] { refuse("eval streaming " + run.file("hf") + text, {name}); });
    refuse("eval streaming " + run.file("train.h5") + text, {"train.h5", "not a Ballast checkpoint"});
    refuse("data info " + run.file("run/checkpoints/step_00000012.h5"), {"not a token store"});
    refuse("eval streaming " + run.file("none") + text, {"no model at"});
    refuse("eval streaming " + run.folder.path() + text, {"holds no model"});
    refuse("export " + run.folder.path() + " " + run.file("new"), {"holds no model"});
    CHECK_FALSE(std::filesystem::exists(run.file("new")));
}

TEST_CASE("cli: a damaged newest checkpoint is passed over with a warning") {
    const TinyRun run;
    succeed(run.train("run"));
    const std::string newest = run.file("run/checkpoints/step_00000012.h5"), whole = bytes_of(newest);
    put_bytes(newest, whole.substr(0, whole.size() / 2));
    const Outcome outcome = ballast_with("eval streaming " + run.file("run") + " --cache 16 --max-tokens 50 --text " +
                                         run.file("text.txt") + " --json " + run.file("out.json"));
    CHECK(outcome.code == 0);
    CHECK_THAT(outcome.err, Catch::Matchers::ContainsSubstring("passing over a damaged checkpoint"));
    CHECK(run.json("out.json")["step"] == 10);
}

TEST_CASE("cli: a vocabulary that does not match is refused everywhere") {
    const TinyRun run;
    succeed(run.train("run"));
    succeed("tokenizer train -o " + run.file("other.json") + " --vocab-size 280 " + run.file("text.txt"));
    succeed("tokenizer train -o " + run.file("large.json") + " --vocab-size 500 " + run.file("text.txt"));
    refuse(run.train("new", "--set data.tokenizer=" + run.file("other.json")), {"train.h5", "another tokenizer"});
    refuse(run.train("new", "--set model.vocab_size=280"), {"model.vocab_size", "384"});
    refuse(run.train("new", "--set model.num_sink_tokens=1 --set model.sink_token_id=3"), {"model.sink_token_id"});
    refuse("data show " + run.file("train.h5") + " -t " + run.file("other.json") + " --steps 9 --batch 2 --seq 32",
           {"another tokenizer"});
    refuse("eval streaming " + run.file("run") + " --cache 16 --tokenizer " + run.file("large.json") + " --text " +
               run.file("text.txt"),
           {"another tokenizer", "large.json"});
    succeed("export " + run.file("run") + " " + run.file("hf"));
    refuse("eval streaming " + run.file("hf") + " --cache 16 --tokenizer " + run.file("large.json") + " --text " +
               run.file("text.txt"),
           {"large.json has 500 tokens", "vocabulary of 384", "--tokenizer"});
    CHECK_FALSE(std::filesystem::exists(run.file("new")));
    std::filesystem::copy_file(run.file("other.json"), run.file("run/tokenizer.json"),
                               std::filesystem::copy_options::overwrite_existing);
    refuse("export " + run.file("run") + " " + run.file("mixed"), {"another tokenizer"});
    CHECK_FALSE(std::filesystem::exists(run.file("mixed/config.json")));
}

TEST_CASE("cli: a corpus of more parts than a shell lets files be open") {
    const TinyRun run;
    std::filesystem::create_directory(run.file("books"));
    for (int i = 0; i < 60; ++i) write_file(run.file(fmt::format("books/{:02}.txt", i)), fmt::format("Book {}.\n", i));
    const std::string few = "ulimit -Sn 40; ";
    for (const std::string& command :
         {"data prepare -t " + run.file("tokenizer.json") + " -o " + run.file("all.json") + " " + run.file("books"),
          "data info " + run.file("all.json") + " --verify"}) {
        const Outcome outcome = ballast_with(command, few);
        CAPTURE(command, outcome.err);
        CHECK(outcome.code == 0);
    }
}

TEST_CASE("cli: a run is not written over files that are not a run's") {
    const TinyRun run;
    const std::string config = read_file(run.file("config.toml")), tokenizer = read_file(run.file("tokenizer.json"));
    refuse(run.train("."), {"cannot write", "config.toml", "the input"});
    CHECK(read_file(run.file("config.toml")) == config);
    CHECK(read_file(run.file("tokenizer.json")) == tokenizer);
    succeed(run.train("run"));
    succeed("export " + run.file("run") + " " + run.file("hf"));
    refuse(run.train("hf"), {"model's folder", "--out"});
    refuse(run.train("hf", "--resume"), {"model's folder", "--out"});
}

TEST_CASE("cli: caches, lengths and ids that the model cannot have") {
    const TinyRun run;
    succeed(run.train("run", "--set model.position=alibi"));
    const std::string text = " --text " + run.file("text.txt"), streaming = "eval streaming " + run.file("run") + text;
    refuse(streaming + " --cache 33", {"33", "32"});
    refuse(streaming + " --policy recompute --cache 33", {"33", "32"});
    refuse(streaming + " --cache 4 --sinks 5", {"5+-1", "more positions than sinks"});
    refuse(streaming + " --cache 0", {"--cache"});
    refuse(streaming + " --cache 16 --sinks=-1", {"--sinks"});
    refuse(streaming + " --policy sinks", {"--policy"});
    refuse("eval table " + run.file("run") + text + " --cache 33", {"33", "32"});

    const std::vector<int32_t> ids{5, 384};
    SafetensorsWriter writer(run.file("ids.safetensors"));
    writer.add("input_ids", Dtype::i32, std::vector<int64_t>{1, 2}, ids.data());
    writer.commit();
    refuse("eval logits " + run.file("run") + " --ids " + run.file("ids.safetensors") + " --out " + run.file("new"),
           {"384"});
    for (const int64_t id : {int64_t{384}, int64_t{-1}, int64_t{1} << 33}) {  // torch's ids are int64
        const std::vector<int64_t> wide{5, id};
        SafetensorsWriter torch(run.file("ids.safetensors"));
        torch.add("input_ids", Dtype::i64, std::vector<int64_t>{1, 2}, wide.data());
        torch.commit();
        refuse("eval logits " + run.file("run") + " --ids " + run.file("ids.safetensors") + " --out " + run.file("new"),
               {"ids.safetensors", std::to_string(id)});
    }
    refuse("eval logits " + run.file("run") + " --ids " + run.file("text.txt") + " --out " + run.file("new"),
           {"text.txt"});

    refuse("export " + run.file("run") + " " + run.file("new"), {"ALiBi"});
    refuse("export " + run.file("run") + " " + run.file("new") + " --hidden-act relu", {"--hidden-act", "gelu"});
    CHECK_FALSE(std::filesystem::exists(run.file("new")));
    for (const std::string& beyond :
         {streaming + " --policy dense --max-tokens 40", "eval sinks " + run.file("run") + text + " --length 33"}) {
        const Outcome outcome = ballast_with(beyond);
        CHECK(outcome.code == 0);
        CHECK_THAT(outcome.err, Catch::Matchers::ContainsSubstring("the model was trained on 32"));
    }
}

TEST_CASE("cli: configs that make no sense or do not fit") {
    const TinyRun run;
    const auto set = [&](const std::string& settings) { return run.train("new", settings); };
    refuse(set("--set model.hiden_size=64"), {"model.hiden_size", "did you mean model.hidden_size?"});
    refuse(set("--set optimiser.eps=1"), {"optimiser", "optimizer"});
    refuse(set("--set train.steps=many"), {"train.steps", "many"});
    refuse(set("--set train.steps=1.5"), {"train.steps"});
    refuse(set("--set model.parallel_residual=7"), {"model.parallel_residual"});
    refuse(set("--set model.normaliser=softmx"), {"model.normaliser", "softmax"});
    refuse(set("--set train.steps"), {"section.key=value"});
    refuse(set("--set model.num_heads=3"), {"model.num_heads"});
    refuse(set("--set train.sequence_length=64"), {"train.sequence_length", "max_position_embeddings"});
    refuse(set("--set data.train="), {"data.train"});
    refuse(set("--set model.hidden_size=1048576 --set model.num_heads=4096"), {"memory", "lower"});
    refuse(set("--set model.num_layers=10000 --set model.hidden_size=65536 --set model.num_heads=1024"),
           {"memory", "lower"});
    refuse(set("--set train.micro_batch=1073741824 --set train.global_batch=1073741824"), {"memory", "lower"});
    refuse(set("--set train.steps=1000000000000000"), {"train.h5", "fewer steps"});
    const std::string huge = "--set model.max_position_embeddings=1073741824 --set train.sequence_length=1073741824";
    refuse(set(huge), {"memory", "lower"});
    write_file(run.file("typo.toml"), "[model]\nhiden_size = 64\n");
    refuse("train " + run.file("typo.toml") + " --out " + run.file("new"),
           {"typo.toml:2", "hiden_size", "did you mean model.hidden_size?"});
    CHECK_FALSE(std::filesystem::exists(run.file("new")));
}

TEST_CASE("cli: a run warns of positions that its samples never reach") {
    const TinyRun run;
    const auto warned = [&](const std::string& settings) {
        const Outcome outcome = ballast_with(run.train("run", "--overwrite --set train.steps=1 " + settings));
        CHECK(outcome.code == 0);
        return outcome.err;
    };
    CHECK_THAT(warned("--set train.sequence_length=16"),
               Catch::Matchers::ContainsSubstring("sequence_length = 16") &&
                   Catch::Matchers::ContainsSubstring("max_position_embeddings = 32"));
    for (const char* settings :
         {"", "--set model.num_sink_tokens=4", "--set train.sequence_length=16 --set model.max_position_embeddings=16"})
        CHECK_THAT(warned(settings), !Catch::Matchers::ContainsSubstring("max_position_embeddings"));
}

TEST_CASE("cli: output folders that cannot be") {
    const TinyRun run;
    succeed(run.train("run"));
    const std::string occupied = run.file("text.txt") + "/inside";
    refuse("train " + run.file("config.toml") + " --out " + occupied, {occupied});
    refuse("export " + run.file("run") + " " + occupied, {occupied});
    refuse("data prepare -t " + run.file("tokenizer.json") + " -o " + occupied + " " + run.file("text.txt"),
           {run.file("text.txt"), "Not a directory"});
    refuse("tokenizer train -o " + occupied + " --vocab-size 300 " + run.file("text.txt"), {occupied});
    refuse("eval streaming " + run.file("run") + " --cache 16 --max-tokens 50 --text " + run.file("text.txt") +
               " --json " + occupied,
           {occupied});
}

TEST_CASE("cli: outputs that are inputs, or one another, are refused before any work") {
    const TinyRun run;
    const std::string here = run.folder.path() + "/./", with = " -t " + run.file("tokenizer.json") + " ";
    const std::string tokens = bytes_of(run.file("train.h5"));
    const std::string show = with + "--steps 9 --batch 2 --seq 32 --npy ";
    for (const std::string& npy : {run.file("train.h5"), here + "tokenizer.json"})
        refuse("data show " + run.file("train.h5") + show + npy, {"cannot write " + npy + ": it is the input"});
    refuse("data show " + run.file("train.h5") + show + run.file("no/such.npy"), {"cannot write", "no/such.npy"});
    CHECK(bytes_of(run.file("train.h5")) == tokens);
    succeed("data prepare" + with + "-o " + run.file("set.idx") + " " + run.file("text.txt"));
    refuse("data show " + run.file("set.idx") + show + run.file("set.bin"), {"it is the input"});
    succeed("data prepare" + with + "-o " + run.file("joined.json") + " " + run.file("text.txt"));
    refuse("data show " + run.file("joined.json") + show + run.file("joined.parts/00000.h5"), {"it is the input"});

    const std::string prepare = "data prepare" + with + run.file("text.txt") + " --validation-fraction 0.1 ";
    for (const auto& [output, validation] : std::vector<std::pair<std::string, std::string>>{
             {"v.h5", "v.h5"}, {"v.idx", "v.bin"}, {"v.json", "v.json --validation-by hash"}})
        refuse(prepare + "-o " + run.file(output) + " --validation-output " + here + validation, {"the same file"});
    write_file(run.file("text.bin"), "whatever");
    refuse("data prepare" + with + "--format txt -o " + run.file("text.idx") + " " + run.file("text.bin"),
           {"cannot write " + run.file("text.bin") + ": it is the input"});
    CHECK(read_file(run.file("text.bin")) == "whatever");

    write_file(run.file("plan.json"), R"({"alphas": [[0,0],[0,0]], "betas": [[1,1],[1,1]], "block": 4})");
    refuse("moa show " + run.file("plan.json") + " --length 64 -o " + run.file("new") + " --svg " + here + "new",
           {"--out and --svg name the same file"});
    write_file(run.file("result.json"), "{}");
    refuse("eval plot " + run.file("result.json") + " -o " + run.file("new") + " --table " + here + "new",
           {"--out and --table name the same file"});
    for (const char* name : {"new", "v.h5", "v.idx", "v.parts"}) CHECK_FALSE(std::filesystem::exists(run.file(name)));
    CHECK(leftovers(run.folder.path()).empty());
}

TEST_CASE("cli: fp16 on the CPU is refused before anything is written") {
    const TinyRun run;
    const std::vector<std::string> what_to_do{"fp16", "GPU only", "bf16 or f32", "--backend cuda"};
    refuse(run.train("new", "--backend cpu --set train.dtype=fp16"), what_to_do);
    CHECK_FALSE(std::filesystem::exists(run.file("new")));
    succeed(run.train("run", "--set train.steps=1"));
    succeed("export " + run.file("run") + " " + run.file("hf") + " --dtype fp16");
    const std::string text = " --cache 16 --max-tokens 50 --text " + run.file("text.txt");
    succeed("eval streaming " + run.file("hf") + text);
    refuse("eval streaming " + run.file("hf") + text + " --backend cpu --dtype fp16", what_to_do);
}
