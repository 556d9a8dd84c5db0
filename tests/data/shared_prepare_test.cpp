// Token stores that several processes make, one an input file.
#include <sys/syscall.h>

#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "tests/base/refused_calls.h"
#include "tests/base/standard_error.h"
#include "tests/data/shared_prepare_fixture.h"

namespace ballast::data {

TEST_CASE("shared prepare: the documents of one process, in their order, and every way of reading them") {
    const Workplace place;
    const PrepareResult result = place.shared();
    const TokenStore joined(place.options.output), whole = place.alone();
    joined.verify();
    CHECK(all_tokens(joined) == all_tokens(whole));
    CHECK(test::offsets_of(joined) == test::offsets_of(whole));
    CHECK(result.num_tokens == whole.num_tokens());
    CHECK(result.num_documents == whole.num_documents());
    CHECK(joined.tokenizer_hash() == whole.tokenizer_hash());
    CHECK(joined.info().end_of_text_id == whole.info().end_of_text_id);
    CHECK(joined.info().begin_of_text_id == whole.info().begin_of_text_id);
    CHECK(joined.info().sources == whole.info().sources);
    CHECK(joined.dtype() == whole.dtype());
    const auto tokens = all_tokens(whole);
    std::vector<int32_t> some(30);
    for (int64_t first = 0; first + 30 <= joined.num_tokens(); ++first) {  // across every border of parts
        joined.read(first, 30, some.data());
        REQUIRE(std::equal(some.begin(), some.end(), tokens.begin() + first));
    }
    const Sampler a(joined, test::neox_order(joined, 16, 1, 300)), b(whole, test::neox_order(whole, 16, 1, 300));
    REQUIRE(a.size() == b.size());
    for (int64_t i = 0; i < a.size(); ++i) {
        std::vector<int32_t> of_a(17), of_b(17);
        a.sample(i, of_a.data());
        b.sample(i, of_b.data());
        REQUIRE(of_a == of_b);
    }
}

TEST_CASE("shared prepare: documents held out by hash, and counts, are those of one process") {
    Workplace place;
    put_bytes(place.input.file("7.jsonl"), "{\"text\": \"a\", \"meta\": {\"pile_set_name\": \"Books3\"}}\n");
    place.options.validation_output = place.output.file("val.json");
    place.options.validation_fraction = 0.3;
    place.options.validation_by = ValidationBy::hash;
    const PrepareResult shared = place.shared();
    ThreadPool pool(1);
    PrepareOptions one = place.options;
    one.output = place.output.file("train.h5");
    one.validation_output = place.output.file("val.h5");
    const PrepareResult alone = prepare(place.tokenizer, one, pool);
    for (const auto& [json, h5] :
         {std::pair{place.options.output, one.output}, {place.options.validation_output, one.validation_output}}) {
        const TokenStore joined(json), whole(h5);
        CHECK(joined.num_documents() > 10);
        CHECK(all_tokens(joined) == all_tokens(whole));
        CHECK(test::offsets_of(joined) == test::offsets_of(whole));
        CHECK(joined.info().groups == whole.info().groups);
    }
    CHECK(shared.num_documents == alone.num_documents);
    CHECK(shared.num_tokens == alone.num_tokens);
    CHECK(shared.num_validation_tokens == alone.num_validation_tokens);

    const std::string lost = place.output.file("val.parts/00003.h5"), bytes = bytes_of(lost);
    const auto written = fs::last_write_time(place.part(5));
    fs::remove(lost);  // made again, like a part of the training text
    place.shared();
    CHECK(bytes_of(lost) == bytes);
    CHECK(fs::last_write_time(place.part(5)) == written);
}

TEST_CASE("shared prepare: processes share the files, and whoever comes later finds them done") {
    Workplace place;
    place.shared();
    const std::string index = bytes_of(place.options.output);
    std::vector<std::string> parts;
    for (int i = 0; i < 6; ++i) parts.push_back(bytes_of(place.part(i)));
    fs::remove_all(place.output.file("pile.parts"));
    fs::remove(place.options.output);
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) children.push_back(start([&] { place.shared(); }));
    for (const pid_t child : children) CHECK(wait_for(child) == 0);
    CHECK(bytes_of(place.options.output) == index);
    for (int i = 0; i < 6; ++i) CHECK(bytes_of(place.part(i)) == parts[static_cast<size_t>(i)]);
    for (const auto& entry : fs::recursive_directory_iterator(place.output.path()))
        CHECK(entry.path().string().find(".tmp-") == std::string::npos);

    const auto written = fs::last_write_time(place.part(5));
    CHECK(place.shared().text_bytes == 0);
    CHECK(fs::last_write_time(place.part(5)) == written);
    fs::remove(place.part(3));  // what is missing is made again, alone
    CHECK(place.shared().text_bytes > 0);
    CHECK(fs::last_write_time(place.part(5)) == written);
    CHECK(bytes_of(place.part(3)) == parts[3]);
}

TEST_CASE("shared prepare: a file that another process is at is waited for, and taken over when that ends") {
    Workplace place;
    fs::create_directories(place.output.file("pile.parts"));
    std::optional<FileLock> held = FileLock::take(place.output.file("pile.parts/00001.lock"));
    int waits = 0;
    bool others_first = false;
    place.options.interrupted = [&] {
        if (!fs::exists(place.part(0))) return false;  // asked within a file
        if (++waits == 2) {
            others_first = !fs::exists(place.part(1)) && !fs::exists(place.options.output);
            for (int i : {0, 2, 3, 4, 5}) others_first = others_first && fs::exists(place.part(i));
            held.reset();
        }
        return false;
    };
    place.shared();
    CHECK(others_first);
    CHECK(fs::exists(place.part(1)));
    CHECK(all_tokens(TokenStore(place.options.output)) == all_tokens(place.alone()));

    fs::remove(place.part(1));
    place.options.interrupted = [] { return true; };
    held = FileLock::take(place.output.file("pile.parts/00001.lock"));
    CHECK_THROWS_AS(place.shared(), RunError);
}

TEST_CASE("shared prepare: progress counts a part when it is done, and looks at it no more") {
    Workplace place;
    const std::string away = place.output.file("away.h5");
    std::string moved;
    int64_t last = 0;
    place.options.progress = [&](int64_t done, int64_t total) {
        CHECK(done >= last);
        last = done;
        for (int i = 0; i < 6 && moved.empty(); ++i)
            if (fs::exists(place.part(i))) fs::rename(moved = place.part(i), away);
        if (done == total && fs::exists(away)) fs::rename(away, moved);  // it is joined with the others
    };
    place.shared();
    CHECK(fs::exists(moved));
}

TEST_CASE("shared prepare: an input that is changed meanwhile is named, and gives no part") {
    for (const int changed : {4, 1}) {  // the largest, so it is being read; one that nobody has begun
        Workplace place;
        const std::string input = place.input.file(std::to_string(changed) + ".jsonl");
        bool done = false, was_first = false;
        place.options.interrupted = [&] {
            if (!std::exchange(done, true)) {
                was_first = !fs::exists(place.part(5));
                put_bytes(input, bytes_of(input) + "{\"text\": \"more\"}\n");
            }
            return false;
        };
        CAPTURE(changed);
        CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring(input + " was changed while"));
        CHECK(was_first);
        CHECK(!fs::exists(place.part(changed)));
        CHECK(fs::exists(place.part(5)) == (changed == 1));  // what was done before stays
        CHECK(!fs::exists(place.options.output));
        fs::remove_all(place.output.file("pile.parts"));
        place.shared();
        CHECK(all_tokens(TokenStore(place.options.output)) == all_tokens(place.alone()));
    }
}

TEST_CASE("shared prepare: a part is not used for an input that replaced its own, of the same size or not") {
    Workplace place;
    const std::string input = place.input.file("3.jsonl");
    place.shared();
    const std::string plan = bytes_of(place.output.file("pile.parts/plan.json"));
    place.shared();
    CHECK(bytes_of(place.output.file("pile.parts/plan.json")) == plan);

    const auto replace_by = [&](const std::string& text) {
        put_bytes(place.input.file("new"), text);
        fs::last_write_time(place.input.file("new"), fs::last_write_time(input) - std::chrono::hours(1));
        fs::rename(place.input.file("new"), input);  // older than the part, as a copy that keeps times
    };
    const std::string old = bytes_of(input);
    std::string same_size = old;
    same_size.replace(same_size.find("whale"), 5, "shark");
    for (const std::string& text : {same_size, old + "{\"text\": \"more\"}\n"}) {
        replace_by(text);
        const auto written = fs::last_write_time(place.part(5));
        CHECK_THAT(test::message_of([&] { place.shared(); }),
                   ContainsSubstring(input + " was replaced after " + place.part(3) + " was made of it") &&
                       ContainsSubstring("remove that part"));
        fs::remove(place.part(3));
        place.shared();
        CHECK(all_tokens(TokenStore(place.options.output)) == all_tokens(place.alone()));
        CHECK(fs::last_write_time(place.part(5)) == written);
        CHECK(place.shared().text_bytes == 0);  // from now on that is its input
    }

    auto older = nlohmann::json::parse(plan);  // of a version that did not note times
    for (auto& one : older["inputs"]) one.erase("changed_ns");
    older["inputs"][3]["bytes"] = fs::file_size(input);
    put_bytes(place.output.file("pile.parts/plan.json"), older.dump());
    CHECK(place.shared().text_bytes == 0);
}

TEST_CASE("shared prepare: who waits for others says once for what, and whose it is where that is known") {
    Workplace place;
    place.shared();
    std::vector<std::string> notes;
    std::optional<FileLock> held;
    int looks_after = 0;
    place.options.note = [&](const std::string& text) { notes.push_back(text); };
    place.options.interrupted = [&] {
        if (!notes.empty() && ++looks_after == 12) held.reset();  // by then it would have been said again
        return false;
    };
    for (const std::string name : {"plan.lock", "00001.lock"}) {
        const std::string lock = place.output.file("pile.parts/" + name);
        held = FileLock::take(lock);
        const auto process = FileLock::holder(lock);
        const std::string who = process ? "process " + std::to_string(*process) : "a process elsewhere";
        notes.clear();
        looks_after = 0;
        fs::remove(place.part(1));
        place.shared();
        CHECK(looks_after >= 12);
        REQUIRE(notes.size() == 1);
        CHECK(notes[0] == (name == "plan.lock" ? "waiting for " + lock + ", which " + who + " holds"
                                               : "waiting for what other processes tokenise: " +
                                                     place.input.file("1.jsonl") + " (" + who + ")"));
    }
}

TEST_CASE("shared prepare: without locks every process does all the work, with the same bytes and one warning") {
    const Repeats place;
    place.shared(place.options);
    const auto expected = place.bytes();
    for (const char* name : {"pile.parts", "val.parts", "pile.json", "val.json"})
        fs::remove_all(place.output.file(name));
    std::vector<pid_t> children;
    for (int i = 0; i < 3; ++i)
        children.push_back(start([&] {
            const auto code = test::with_refused_calls({SYS_flock}, ENOLCK, [&] {
                int warnings = 0;
                const std::string said = test::standard_error_of([&] { place.shared(place.options); });
                for (size_t at = 0; (at = said.find("has no locks", at)) != std::string::npos; ++at) ++warnings;
                return warnings;
            });
            ::_exit(code.value_or(100));
        }));
    for (const pid_t child : children) {
        const int status = wait_for(child);
        if (WEXITSTATUS(status) == 100) {
            WARN("skipped: no system call filters here");
            continue;
        }
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 2);  // for each of the two folders
    }
    CHECK(place.bytes() == expected);
}

TEST_CASE("shared prepare: other settings, pipes and held-out ends are refused, and mistakes leave what is done") {
    Workplace place;
    put_bytes(place.input.file("6.jsonl"), "{\"text\": 7}\n");
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("6.jsonl:1: field \"text\""));
    CHECK(!fs::exists(place.options.output));
    CHECK(fs::exists(place.part(5)));  // larger, so before it
    const auto written = fs::last_write_time(place.part(5));
    put_bytes(place.input.file("6.jsonl"), "{\"text\": \"7\"}\n");  // corrected: what is done stays
    place.shared();
    CHECK(fs::last_write_time(place.part(5)) == written);
    CHECK(all_tokens(TokenStore(place.options.output)) == all_tokens(place.alone()));
    put_bytes(place.input.file("7.jsonl"), "{\"text\": \"more\"}\n");
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("was begun with another inputs"));
    fs::remove(place.input.file("7.jsonl"));
    const std::string plan = bytes_of(place.output.file("pile.parts/plan.json"));
    put_bytes(place.output.file("pile.parts/plan.json"), "[]");
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("was begun with another tokenizer_hash"));
    put_bytes(place.output.file("pile.parts/plan.json"), plan);
    place.options.append_end_of_text = false;
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("another append_end_of_text"));
    place.options.append_end_of_text = true;
    place.options.validation_output = place.output.file("v.json");
    place.options.validation_fraction = 0.1;
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("--validation-by hash"));
    place.options.validation_by = ValidationBy::hash;
    place.options.validation_output = place.output.file("v.h5");
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("name it .json"));
    place.options.validation_output = place.output.path() + "/./pile.json";
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("name the same file"));
    place.options.validation_output = "";
    place.options.validation_fraction = 0;
    place.options.drop_duplicates = true;
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("another drop_duplicates"));
    place.options.drop_duplicates = false;
    place.options.inputs = {"-"};
    place.options.format = TextFormat::lines;
    CHECK_THAT(test::message_of([&] { place.shared(); }), ContainsSubstring("processes share files"));
    put_bytes(place.input.file("empty.jsonl"), "");
    place.options.inputs = {place.input.file("empty.jsonl")};
    place.options.output = place.output.file("none.json");
    put_bytes(place.options.output, "an older index");
    CHECK_THAT(test::message_of([&] { place.shared(); }),
               ContainsSubstring("no text for " + place.options.output + "; name other files"));
    CHECK(bytes_of(place.options.output) == "an older index");
    fs::remove_all(place.output.file("none.parts"));
    place.options.inputs = {place.input.file("6.jsonl")};  // one document, which is not held out
    place.options.validation_output = place.output.file("v.json");
    place.options.validation_fraction = 1e-9;
    CHECK_THAT(test::message_of([&] { place.shared(); }),
               ContainsSubstring("no text for " + place.options.validation_output) &&
                   ContainsSubstring("raise --validation-fraction"));
    CHECK(!fs::exists(place.options.validation_output));
    CHECK(bytes_of(place.options.output) == "an older index");
}

TEST_CASE("shared prepare: duplicates within and across files are left out as one process leaves them out") {
    const Repeats place;
    const PrepareResult alone = place.alone();
    CHECK(place.shared(place.options) == std::pair{alone.num_duplicates, alone.num_searched});
    CHECK(alone.num_duplicates > 100);
    place.compare();
    const TokenStore train(place.options.output), held(place.options.validation_output);
    CHECK(train.documents_left_out() + held.documents_left_out() == alone.num_duplicates);
    CHECK(held.documents_left_out() > 0);
    const auto tokens = all_tokens(train);
    for (const int64_t length : {1, 7, 200})  // across every gap
        for (int64_t first = 0; first + length <= train.num_tokens(); ++first) {
            std::vector<int32_t> some(static_cast<size_t>(length));
            train.read(first, length, some.data());
            REQUIRE(std::equal(some.begin(), some.end(), tokens.begin() + first));
        }
    const TokenStore whole(place.output.file("train.h5"));
    const Sampler a(train, test::neox_order(train, 16, 1, 300)), b(whole, test::neox_order(whole, 16, 1, 300));
    for (int64_t i = 0; i < a.size(); ++i) {
        std::vector<int32_t> of_a(17), of_b(17);
        a.sample(i, of_a.data());
        b.sample(i, of_b.data());
        REQUIRE(of_a == of_b);
    }
    // The same text in another order of the files keeps other copies, but as many.
    PrepareOptions reversed = place.options;
    std::reverse(reversed.inputs.begin(), reversed.inputs.end());
    reversed.output = place.output.file("reversed.json");
    reversed.validation_output = place.output.file("reversed-val.json");
    place.shared(reversed);
    CHECK(TokenStore(reversed.output).num_tokens() == train.num_tokens());
    CHECK(all_tokens(TokenStore(reversed.output)) != tokens);
    CHECK(TokenStore(reversed.output).fingerprint() != train.fingerprint());
}

TEST_CASE("shared prepare: what is left out does not depend on who made which part, when, or who was killed") {
    const Repeats place;
    place.alone();
    place.shared(place.options);
    const auto expected = place.bytes();
    const auto clear = [&] {
        for (const char* name : {"pile.parts", "val.parts", "pile.json", "val.json"})
            fs::remove_all(place.output.file(name));
    };
    const auto run = [&](const std::function<bool()>& interrupted) {
        PrepareOptions options = place.options;
        options.interrupted = interrupted;
        place.shared(options);
    };
    const auto parts_there = [&] {
        int count = 0;
        for (int i = 0; i < Repeats::kFiles; ++i) count += fs::exists(place.part(i)) ? 1 : 0;
        return count;
    };
    const auto never = [] { return false; };

    clear();  // three at once
    std::vector<pid_t> children;
    for (int i = 0; i < 3; ++i) children.push_back(start([&] { run(never); }));
    for (const pid_t child : children) CHECK(wait_for(child) == 0);
    CHECK(place.bytes() == expected);

    for (int parts = 0; parts <= Repeats::kFiles; ++parts) {  // killed when so many are there; the last: searching
        clear();
        const int status = wait_for(start([&] {
            run([&] {
                if (parts_there() >= parts) ::raise(SIGKILL);
                return false;
            });
        }));
        REQUIRE(WIFSIGNALED(status));
        CHECK(!fs::exists(place.options.output));
        CHECK(wait_for(start([&] { run(never); })) == 0);
        CHECK(place.bytes() == expected);
    }

    clear();  // the largest part last, by a process of its own
    {
        const auto held = FileLock::take([&] {
            fs::create_directories(place.output.file("pile.parts"));
            return place.output.file("pile.parts/00003.lock");
        }());
        CHECK_THROWS_AS(run([&] { return parts_there() == Repeats::kFiles - 1; }), RunError);
        CHECK(!fs::exists(place.part(3)));
    }
    run(never);
    CHECK(place.bytes() == expected);

    const auto written = fs::last_write_time(place.output.file("pile.parts/left_out.h5"));
    run(never);  // nothing is searched again
    CHECK(fs::last_write_time(place.output.file("pile.parts/left_out.h5")) == written);
    put_bytes(place.output.file("pile.parts/left_out.h5"), "nonsense");  // a list of other parts, or none
    run(never);
    CHECK(place.bytes() == expected);
    const std::string of_validation = bytes_of(place.output.file("val.parts/left_out.h5"));
    put_bytes(place.output.file("pile.parts/left_out.h5"), of_validation);
    run(never);
    CHECK(place.bytes() == expected);
    CHECK_THROWS_AS((fs::remove(place.output.file("pile.parts/left_out.h5")), run([] { return true; })), RunError);
}

}  // namespace ballast::data
