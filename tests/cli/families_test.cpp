// configs/families, from training to an export that computes the same.
#include "base/safetensors.h"
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

std::vector<float> logits_in(const std::string& path) {
    const SafetensorsReader file(path);
    std::vector<float> out(static_cast<size_t>(file.info("logits").numel()));
    file.read_f32("logits", out);
    return out;
}

}  // namespace

TEST_CASE("cli: every family of configs/families trains, resumes, streams and is exported") {
    const TinyRun run;
    SafetensorsFolderWriter ids(run.file("ids"), 1 << 20);
    std::vector<int32_t> values;
    for (int32_t i = 0; i < 24; ++i) values.push_back(7 * i % 300);
    ids.add("input_ids", Dtype::i32, std::vector<int64_t>{1, 24}, values.data());
    ids.commit();
    const std::string small = fmt::format(
        " --set data.train={} --set data.validation={} --set data.tokenizer={} --set model.vocab_size=384 --set "
        "model.hidden_size=32 --set model.num_layers=2 --set model.max_position_embeddings=32 --set "
        "train.sequence_length=32 --set train.global_batch=2 --set checkpoint.every=2 --set validation.every=4 --set "
        "validation.batches=1 --set sample.every=4 --set sample.tokens=4 --set train.threads=1",
        run.file("train.h5"), run.file("validation.h5"), run.file("tokenizer.json"));
    int families = 0;
    for (const auto& entry : fs::directory_iterator(std::string(BALLAST_SOURCE_DIR) + "/configs/families")) {
        const std::string name = entry.path().stem().string();
        if (name == "common") continue;
        INFO(name);
        ++families;
        for (const char* more : {"--set train.steps=4", "--set train.steps=6 --resume"})
            succeed(fmt::format("train {} --out {} {} {}", entry.path().string(), run.file(name), small, more));
        CHECK(run.json(name + "/status.json") == nlohmann::json{{"status", "finished"}, {"step", 6}});

        succeed(fmt::format("eval streaming {} --text {} --max-tokens 100 --cache 16 --sinks 0,2", run.file(name),
                            run.file("text.txt")));
        succeed(fmt::format("export {} {}", run.file(name), run.file(name + "-hf")));
        for (const std::string& model : {name, name + "-hf"})
            succeed(fmt::format("eval logits {} --ids {}/model.safetensors --out {}", run.file(model), run.file("ids"),
                                run.file(model + ".safetensors")));
        const auto logits = logits_in(run.file(name + ".safetensors"));
        CHECK(logits == logits_in(run.file(name + "-hf.safetensors")));
        CHECK(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
    }
    CHECK(families >= 8);
}

TEST_CASE("cli: a family's config says what does not go with it") {
    const TinyRun run;
    refuse(run.train("run", "--set model.family=llama"), {"model.norm", "llama", "rmsnorm"});
    refuse(run.train("run", "--set model.family=lama"), {"did you mean llama"});
    refuse(run.train("run", "--set model.num_key_value_heads=1"), {"model.num_key_value_heads", "gpt_neox"});
    refuse(run.train("run", "--set model.rope_scaling.kind=yarm"), {"did you mean yarn"});
}
