// A byte flipped or a file cut anywhere in what a run is made of: it is named, or nothing that is read has changed.
#include <random>

#include "base/config_toml.h"
#include "data/token_store.h"
#include "tests/base/message_of.h"
#include "tests/faults/kill_trials.h"
#include "train/checkpoint.h"
#include "train/run_directory.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Every dataset's name, type, shape and bytes.
std::string datasets_of(const std::string& path) {
    const Hdf5Reader file(path);
    std::string all;
    for (const auto& name : file.names()) {
        file.verify(name);
        const Hdf5Dataset dataset = file.dataset(name);
        std::string bytes(static_cast<size_t>(dataset.numel()) * size_of(dataset.dtype), '\0');
        file.read(name, bytes.data(), 0, dataset.numel());
        all += fmt::format("{} {} {}: ", name, name_of(dataset.dtype), fmt::join(dataset.shape, "x")) + bytes;
    }
    return all;
}

/// All that a resume takes from a checkpoint, as RunDirectory::newest_valid_checkpoint() and Trainer::resume() read it.
std::string checkpoint_content(const std::string& path) {
    train::verify_checkpoint(path);
    train::CheckpointInfo info = train::read_checkpoint_info(path);
    return fmt::format("{} {} {} {} {} {} ", info.step, info.steps_skipped, info.tokenizer_hash, to_toml(info.config),
                       info.data_order.to_json(), info.lanes.value_or(0)) +
           datasets_of(path);
}

std::string store_content(const std::string& path) {
    const data::TokenStore store(path);
    store.verify();
    const auto& info = store.info();
    return fmt::format("{} {} {} {} {} ", info.tokenizer_hash, info.vocab_size, info.end_of_text_id,
                       info.begin_of_text_id, info.sources) +
           datasets_of(path);
}

/// What is wrong with a damaged file at `path`, as its reader tells it; empty when it reads as before.
std::string told(const std::string& path, const std::string& content,
                 const std::function<std::string(const std::string&)>& read) {
    std::string now;
    const std::string message = message_of([&] { now = read(path); });
    if (message.empty()) CHECK((now == content));
    if (!message.empty()) CHECK(message.find(path) != std::string::npos);
    return message;
}

void damage_everywhere(const std::string& what, const std::string& path, int flips, int cuts,
                       const std::function<std::string(const std::string&)>& read) {
    const std::string whole = bytes_of(path), content = read(path);
    std::mt19937_64 random(fault_seed());
    CAPTURE(what, fault_seed());
    int named = 0;
    for (int i = 0; i < flips; ++i) {  // one in each of as many equal parts of the file, so everywhere
        const size_t begin = whole.size() * static_cast<size_t>(i) / static_cast<size_t>(flips),
                     end = whole.size() * static_cast<size_t>(i + 1) / static_cast<size_t>(flips);
        const size_t at = begin + random() % std::max<size_t>(1, end - begin);
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
        put_bytes(path, damaged);
        CAPTURE(at);
        if (!told(path, content, read).empty()) ++named;
    }
    for (int i = 0; i < cuts; ++i) {
        const size_t length = whole.size() * static_cast<size_t>(i) / static_cast<size_t>(cuts);
        put_bytes(path, whole.substr(0, length));
        CAPTURE(length);
        CHECK(told(path, content, read) != "");
    }
    put_bytes(path, whole);
    fmt::print("{}: {} bytes flipped one at a time, {} named, {} that nobody reads; cut at {} lengths, all named\n",
               what, flips, named, flips - named, cuts);
    std::fflush(stdout);
    CHECK(named >= flips * 9 / 10);  // HDF5 leaves gaps between its objects, and a reserve after its links
}

}  // namespace

TEST_CASE("damage: checkpoints and token stores, flipped and cut anywhere") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=2"));
    damage_everywhere("a checkpoint", run.file("run/checkpoints/step_00000002.h5"), 1000, 100, checkpoint_content);
    damage_everywhere("a token store", run.file("train.h5"), 1000, 100, store_content);
}
