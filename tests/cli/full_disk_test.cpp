// Disks that fill up: every command that writes ends with code 2 and one line, the file that was there stays whole, and
// no temporary remains.
#include <sys/mount.h>

#include "base/safetensors.h"
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A file system of a few kilobytes at a folder, when this process may mount one.
class TinyDisk {
  public:
    explicit TinyDisk(std::string path) : path_(std::move(path)) {
        std::filesystem::create_directories(path_);
        mounted_ = ::mount("none", path_.c_str(), "tmpfs", 0, "size=16k") == 0;
    }
    ~TinyDisk() {
        if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
    }
    TinyDisk(const TinyDisk&) = delete;
    TinyDisk& operator=(const TinyDisk&) = delete;
    bool mounted() const { return mounted_; }

  private:
    std::string path_;
    bool mounted_ = false;
};

/// Every way to write into `folder`, and the file each would make there.
std::vector<std::pair<std::string, std::string>> writers(const TinyRun& run, const std::string& folder) {
    const std::string text = run.file("text.txt"), model = run.file("run");
    const std::string evaluate = model + " --text " + text + " --max-tokens 200 --threads 1 ";
    return {
        {"tokenizer train --vocab-size 600 --threads 1 " + text + " -o ", folder + "/tokenizer.json"},
        {"data prepare --threads 1 -t " + run.file("tokenizer.json") + " " + text + " " + text + " " + text + " -o ",
         folder + "/tokens.h5"},
        {"eval streaming --cache 8,9,10,11,12,13,14,15,16 " + evaluate + "--json ", folder + "/streaming.json"},
        {"eval sinks --length 32 --sequences 1 " + evaluate + "--maps ", folder + "/maps.safetensors"},
        {"eval logits " + model + " --grads --ids " + run.file("ids.safetensors") + " --out ",
         folder + "/logits.safetensors"},
        {"export " + model + " ", folder + "/hf"},
        {"train " + run.file("config.toml") + " --out ", folder + "/run"}};
}

/// Everything a writer may leave of a file when its disk is full: what was there.
void check_writers(const TinyRun& run, const std::string& folder, const std::string& before, const char* reason) {
    const std::string old = "what was there\n";
    for (const auto& [command, target] : writers(run, folder)) {
        CAPTURE(command);
        const bool is_file = target.find('.', folder.size()) != std::string::npos;
        if (is_file) put_bytes(target, old);
        const Outcome outcome = ballast_with(command + target, before);
        CAPTURE(outcome.err);
        CHECK(outcome.code == 2);
        const std::string last_line = outcome.err.substr(outcome.err.rfind('\n', outcome.err.size() - 2) + 1);
        CHECK(last_line.starts_with("ballast: error: "));
        CHECK_THAT(last_line, ContainsSubstring(reason));
        CHECK_THAT(last_line, ContainsSubstring(folder));
        CHECK(leftovers(folder).empty());
        if (is_file)
            CHECK(bytes_of(target) == old);
        else
            CHECK_FALSE(std::filesystem::exists(target + "/model.safetensors"));
        std::filesystem::remove_all(target);
    }
}

/// A trained model and ids, on a disk with room.
void prepare_inputs(const TinyRun& run) {
    succeed(run.train("run", "--set train.steps=1"));
    const std::vector<int32_t> ids(64, 5);
    SafetensorsWriter writer(run.file("ids.safetensors"));
    writer.add("input_ids", Dtype::i32, std::vector<int64_t>{2, 32}, ids.data());
    writer.commit();
}

}  // namespace

TEST_CASE("cli: a full disk") {
    const TinyRun run;
    prepare_inputs(run);
    const TinyDisk disk(run.file("disk"));
    if (!disk.mounted()) {
        WARN("skipped: this user cannot mount a small tmpfs");
        return;
    }
    check_writers(run, run.file("disk"), "", "No space left on device; free some space");
}

TEST_CASE("cli: an output that cannot be written is noticed before the work, and a run it ends has failed") {
    const TinyRun run;
    prepare_inputs(run);
    const std::string nowhere = run.file("no/such/folder");
    for (const auto& [command, target] : writers(run, nowhere)) {
        if (command.starts_with("export") || command.starts_with("train")) continue;  // these make folders
        CAPTURE(command);
        const Outcome outcome = ballast_with(command + target);
        CHECK(outcome.code == 2);
        CHECK(outcome.out.empty());
        CHECK(outcome.err.starts_with("ballast: error: cannot "));
        CHECK_THAT(outcome.err, ContainsSubstring(nowhere));
        CHECK(lines_of(outcome.err) == 1);
    }
    CHECK(ballast_with(run.train("stopped"), "ulimit -f 100;").code == 2);  // room for the first files
    CHECK(run.json("stopped/status.json")["status"] == "failed");
}

TEST_CASE("cli: a limit on the size of files") {
    const TinyRun run;
    prepare_inputs(run);
    std::filesystem::create_directories(run.file("disk"));
    check_writers(run, run.file("disk"), "ulimit -f 16;", "File too large");  // 8 kB
}
