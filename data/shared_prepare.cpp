#include "data/shared_prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file_lock.h"
#include "base/json_file.h"
#include "data/joined_parts.h"
#include "data/left_out.h"

namespace ballast::data {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr auto kLook = std::chrono::milliseconds(200);  // between looks at what other processes do
constexpr int kSilentLooks = 10;                        // then it is said what is waited for

/// An input file, and where its tokens go.
struct Part {
    std::string input, store, validation_store, lock;  // no validation_store: nothing is held out
    int64_t bytes;
    fs::file_time_type written;

    bool is_there() const { return fs::exists(store) && (validation_store.empty() || fs::exists(validation_store)); }
    bool input_is_as_it_was() const {
        return static_cast<int64_t>(fs::file_size(input)) == bytes && fs::last_write_time(input) == written;
    }
    /// As the plan keeps it.
    ordered_json described() const {
        const auto since_1970 = fs::file_time_type::clock::to_sys(written).time_since_epoch();
        return {{"path", input},
                {"bytes", bytes},
                {"changed_ns", std::chrono::duration_cast<std::chrono::nanoseconds>(since_1970).count()}};
    }
};

/// "process 4711" where the system knows who holds the lock.
std::string holder_of(const std::string& lock) {
    const auto process = FileLock::holder(lock);
    return process ? fmt::format("process {}", *process) : "a process elsewhere";
}

class SharedWork {
  public:
    SharedWork(const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool)
        : tokenizer_(tokenizer), options_(options), pool_(pool) {
        folder_ = folder_of(options.output);
        list_parts();
        require_writable(options.output);
        make_folders(folder_);
        if (!options.validation_output.empty()) {
            require_writable(options.validation_output);
            make_folders(folder_of(options.validation_output));
        }
        agree_on_plan();
    }

    PrepareResult run() {
        tokenise_all();
        std::vector<std::string> stores, validation_stores;
        for (const Part& part : parts_) {
            stores.push_back(part.store);
            validation_stores.push_back(part.validation_store);
        }
        if (!options_.validation_output.empty()) {
            const JoinedParts validation = join(options_.validation_output, validation_stores);
            result_.num_validation_tokens = validation.num_tokens();
            result_.num_documents += validation.num_documents();
        }
        const JoinedParts joined = join(options_.output, stores);
        result_.num_documents += joined.num_documents();
        result_.num_tokens = joined.num_tokens() + result_.num_validation_tokens;
        result_.num_searched = options_.drop_duplicates ? result_.num_documents + result_.num_duplicates : 0;
        return result_;
    }

  private:
    static std::string folder_of(const std::string& output) {
        const fs::path path(output);
        return (path.parent_path() / path.stem()).string() + ".parts";
    }

    /// All processes do this, with the same result; all copies of a text are held out or none, so the training and the
    /// validation documents are searched for duplicates by themselves.
    JoinedParts join(const std::string& output, const std::vector<std::string>& stores) {
        std::string left_out;
        if (options_.drop_duplicates) {
            left_out = folder_of(output) + "/left_out.h5";
            const FileLock lock = wait_for_lock(folder_of(output) + "/left_out.lock");  // the search once, not by all
            find_left_out(left_out, stores, [this] { stop_if_interrupted(); });
        }
        join_parts(output, stores, describe_sources(options_), left_out);
        JoinedParts joined(output);
        const int64_t documents = joined.num_documents() + joined.documents_left_out();
        result_.num_duplicates += joined.documents_left_out();
        result_.duplicates_memory =
            std::max(result_.duplicates_memory, options_.drop_duplicates ? duplicates_memory(documents) : 0);
        return joined;
    }

    void list_parts() {
        const Corpus corpus(options_.inputs,
                            {.format = options_.format, .last_cut = [](auto text) { return text.size(); }});
        for (const std::string& output : {options_.output, options_.validation_output})
            if (!output.empty()) require_not_an_input(output, corpus.files());
        for (const std::string& input : corpus.files()) {
            if (!fs::is_regular_file(input))
                throw UserError(fmt::format("{} is no file, and processes share files; write an .h5 store", input));
            const std::string name = fmt::format("/{:05}", parts_.size());
            const std::string& held_out = options_.validation_output;
            parts_.push_back({input, folder_ + name + ".h5", held_out.empty() ? "" : folder_of(held_out) + name + ".h5",
                              folder_ + name + ".lock", static_cast<int64_t>(fs::file_size(input)),
                              fs::last_write_time(input)});
            total_bytes_ += parts_.back().bytes;
        }
        order_.resize(parts_.size());
        std::iota(order_.begin(), order_.end(), size_t{0});
        std::stable_sort(order_.begin(), order_.end(),
                         [this](size_t a, size_t b) { return parts_[a].bytes > parts_[b].bytes; });
    }

    /// Everything that decides what the stores hold.
    ordered_json plan() const {
        auto inputs = ordered_json::array();
        for (const Part& part : parts_) inputs.push_back(part.described());
        return {{"tokenizer_hash", tokenizer_.hash()},
                {"append_end_of_text", options_.append_end_of_text},
                {"text_key", options_.text_key},
                {"invalid_utf8", options_.invalid_utf8 == InvalidUtf8::error ? "error" : "replace"},
                {"missing_text", options_.missing_text == MissingText::error ? "error" : "skip"},
                {"format", kTextFormatNames[static_cast<size_t>(options_.format)]},
                {"validation_output", options_.validation_output},
                {"validation_fraction", options_.validation_fraction},
                {"group_key", options_.group_key},
                {"drop_duplicates", options_.drop_duplicates},
                {"inputs", inputs}};
    }

    /// The first process writes the plan, the others hold theirs against it.
    void agree_on_plan() {
        const std::string path = folder_ + "/plan.json";
        const ordered_json mine = plan();
        const FileLock lock = wait_for_lock(folder_ + "/plan.lock");
        if (!fs::exists(path)) return write_json_file(path, mine);
        const nlohmann::json theirs = read_json_file(path);
        require_same_plan(theirs, mine);
        if (theirs != nlohmann::json(mine)) write_json_file(path, mine);
    }

    void require_same_plan(nlohmann::json theirs, const ordered_json& mine) const {
        if (!theirs.is_object()) theirs = nlohmann::json::object();
        theirs.emplace("drop_duplicates", false);  // which older plans do not say
        for (const auto& [key, value] : mine.items()) {
            const bool same = theirs.contains(key) &&
                              (key == "inputs" ? has_inputs(theirs[key]) : theirs[key] == nlohmann::json(value));
            if (!same)
                throw UserError(fmt::format(
                    "{} was begun with another {}; finish it as it was begun, remove the folder {}, or choose "
                    "another --output",
                    options_.output, key, folder_));
        }
    }

    /// True when `planned` are the same files. They may have changed where there is no part of them; UserError when
    /// there is, because it was made of something else.
    bool has_inputs(const nlohmann::json& planned) const {
        if (!planned.is_array() || planned.size() != parts_.size()) return false;
        for (size_t i = 0; i < parts_.size(); ++i) {
            const Part& part = parts_[i];
            const nlohmann::json is = part.described();
            nlohmann::json was = planned[i];
            if (!was.is_object() || was.value("path", nlohmann::json()) != is["path"]) return false;
            was.emplace("changed_ns", is["changed_ns"]);  // which older plans do not say
            if (was != is && part.is_there())
                throw UserError(
                    fmt::format("{} was replaced after {} was made of it; remove that part to have it made again, or "
                                "put the old input back with the time of its last change",
                                part.input, part.store));
        }
        return true;
    }

    void tokenise_all() {
        std::vector<size_t> left = order_;
        for (int looks = 0;;) {
            const size_t before = left.size();
            std::erase_if(left, [this](size_t i) { return tokenise_if_free(parts_[i]); });
            if (left.empty()) return;
            if (left.size() == before) wait(looks, [this] { return describe_missing(); });
        }
    }

    /// True when the part is there now; false while another process works on it.
    bool tokenise_if_free(const Part& part) {
        if (!part.is_there()) {
            const auto lock = FileLock::take(part.lock);
            if (!lock) return false;
            if (!part.is_there()) tokenise(part);
        }
        bytes_there_ += part.bytes;
        show_progress(0);
        return true;
    }

    /// What other processes are at, a few of them.
    std::string describe_missing() const {
        constexpr size_t kShown = 4;
        std::vector<std::string> missing;
        for (const size_t i : order_)
            if (!parts_[i].is_there())
                missing.push_back(fmt::format("{} ({})", parts_[i].input, holder_of(parts_[i].lock)));
        const size_t more = missing.size() - std::min(missing.size(), kShown);
        missing.resize(missing.size() - more);
        return fmt::format("what other processes tokenise: {}{}", fmt::join(missing, ", "),
                           more > 0 ? fmt::format(" and {} more", more) : "");
    }

    void tokenise(const Part& part) {
        PrepareOptions options = options_;
        options.inputs = {part.input};
        options.output = part.store;
        if (!options.validation_output.empty()) options.validation_output = part.validation_store;
        options.may_be_empty = true;
        options.drop_duplicates = false;  // of all parts at once, when they are joined
        options.keep_hashes = options_.drop_duplicates;
        options.progress = [&](int64_t done, int64_t) { show_progress(done); };
        require_same_input(part);
        const PrepareResult result = prepare(tokenizer_, options, pool_);
        require_same_input(part);
        result_.text_bytes += result.text_bytes;
        result_.lines_without_text += result.lines_without_text;
    }

    /// UserError, and no part, when the input was changed since the start: often a download that was not complete.
    void require_same_input(const Part& part) const {
        if (part.input_is_as_it_was()) return;
        fs::remove(part.store);
        throw UserError(fmt::format(
            "{} was changed while it was being prepared; wait until nobody writes to it, and start again", part.input));
    }

    /// `part_bytes`: of the part under way. It costs nothing, as it is called for each of very many parts; parts of
    /// other processes count once this one comes to them, and all take them in one order.
    void show_progress(int64_t part_bytes) const {
        if (options_.progress) options_.progress(std::min(bytes_there_ + part_bytes, total_bytes_), total_bytes_);
    }

    void stop_if_interrupted() const {
        if (options_.interrupted && options_.interrupted())
            throw RunError("interrupted; what is done is kept, and the same command goes on with it");
    }

    /// Until the next look. Says once, when there have been a few, what is waited for.
    void wait(int& looks, const std::function<std::string()>& what) const {
        stop_if_interrupted();
        if (++looks == kSilentLooks && options_.note) options_.note("waiting for " + what());
        std::this_thread::sleep_for(kLook);
    }

    FileLock wait_for_lock(const std::string& path) const {
        std::optional<FileLock> lock;
        for (int looks = 0; !(lock = FileLock::take(path));)
            wait(looks, [&path] { return fmt::format("{}, which {} holds", path, holder_of(path)); });
        return std::move(*lock);
    }

    const Tokenizer& tokenizer_;
    const PrepareOptions& options_;
    ThreadPool& pool_;
    std::string folder_;
    std::vector<Part> parts_;    // in the order of their documents
    std::vector<size_t> order_;  // in which they are begun
    int64_t total_bytes_ = 0, bytes_there_ = 0;
    PrepareResult result_;
};

}  // namespace

PrepareResult prepare_shared(const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool) {
    const bool holds_out = !options.validation_output.empty();
    if (holds_out && options.validation_by == ValidationBy::end)
        throw UserError(
            "processes that share the work do not know where the text's end begins; hold out with --validation-by "
            "hash");
    if (holds_out && !JoinedParts::is_name(options.validation_output))
        throw UserError(
            fmt::format("{} is made in parts, so --validation-output has to be too: name it .json", options.output));
    require_different_outputs({{"--output", options.output}, {"--validation-output", options.validation_output}});
    return SharedWork(tokenizer, options, pool).run();
}

}  // namespace ballast::data
