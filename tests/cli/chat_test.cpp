// ballast generate --chat, as a user has it.
#include <algorithm>
#include <cctype>
#include <fmt/format.h>

#include "base/json_file.h"
#include "tests/cli/terminal.h"
#include "tests/cli/trained_run.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// The run as a Hugging Face folder with a tokenizer that has ChatML's tokens.
std::string chat_folder(const TrainedRun& run, const std::string& chat_template) {
    const std::string folder = run.file("chat");
    succeed(fmt::format("export {} {}", run.file("run"), folder));
    nlohmann::json tokenizer = run.json("chat/tokenizer.json");
    int id = 300;
    for (const char* token : {"<|im_start|>", "<|im_end|>"})
        tokenizer["added_tokens"].push_back({{"id", id++},
                                             {"content", token},
                                             {"special", true},
                                             {"single_word", false},
                                             {"lstrip", false},
                                             {"rstrip", false},
                                             {"normalized", false}});
    write_json_file(folder + "/tokenizer.json", tokenizer);
    nlohmann::json settings = run.json("chat/tokenizer_config.json");
    settings["chat_template"] = chat_template;
    write_json_file(folder + "/tokenizer_config.json", settings);
    return folder;
}

constexpr const char* kChatMl =
    "{% for m in messages %}{% if loop.first %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}";

}  // namespace

TEST_CASE("chat: a line is a message, and other templates than ChatML are refused by name") {
    const TrainedRun run;
    const std::string folder = chat_folder(run, kChatMl);
    const std::string more = "--max-tokens 6 --seed 3 --policy sink --sinks 2 --cache 30";
    const auto talk = [&](const std::string& messages) {
        write_file(run.file("messages"), messages);
        return ballast_with(fmt::format("generate {} --chat {} < {}", folder, more, run.file("messages")));
    };
    const Outcome one = talk("hello\n"), two = talk("hello\n\nand again\n");
    CHECK(one.code == 0);
    CHECK(two.code == 0);
    CHECK(two.out.starts_with(one.out));
    CHECK(two.out.size() > one.out.size());
    // Without its system message the conversation is another.
    const Outcome other =
        ballast_with(fmt::format("generate {} hello --chat --system \"Be rude.\" {} < /dev/null", folder, more));
    CHECK(other.code == 0);
    CHECK(other.out != one.out);
    // Other ways to write the same template: an expression first, and line breaks as Jinja escapes them.
    nlohmann::json settings = run.json("chat/tokenizer_config.json");
    for (const char* first : {R"('<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n')",
                              R"("<|im_start|>system\n" + content + "<|im_end|>\n")"}) {
        settings["chat_template"] =
            "{{ " + std::string(first) + R"( }}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }})";
        write_json_file(folder + "/tokenizer_config.json", settings);
        CHECK(talk("hello\n").out == one.out);
    }
    const nlohmann::json named{{{"name", 1}, {"template", "x"}}, {{"name", "default"}, {"template", kChatMl}}};
    settings["chat_template"] = named;
    write_json_file(folder + "/tokenizer_config.json", settings);
    CHECK(talk("hello\n").out == one.out);
    // The model's own template counts where its tokenizer lies elsewhere, not that of the folder one happens to be in.
    std::filesystem::rename(folder + "/tokenizer.json", run.file("its_tokenizer.json"));
    CHECK(ballast_with(fmt::format("generate {} hello --chat {} --tokenizer {} < /dev/null", folder, more,
                                   run.file("its_tokenizer.json")))
              .out == one.out);
    std::filesystem::rename(run.file("its_tokenizer.json"), folder + "/tokenizer.json");
    const Outcome too_long = ballast_with(fmt::format("generate {} hello --chat --policy dense < /dev/null", folder));
    CHECK(too_long.code == 2);
    CHECK_THAT(too_long.err, Catch::Matchers::ContainsSubstring("for texts of 32"));

    settings["chat_template"] = "{{ '[INST] ' + messages[0]['content'] + ' [/INST]' }}";
    write_json_file(folder + "/tokenizer_config.json", settings);
    refuse(fmt::format("generate {} --chat", folder), {"Llama 2's or Mistral's", "ChatML"});
    // A file of its own, which newer folders have, goes before tokenizer_config.json.
    test::put_bytes(folder + "/chat_template.jinja", kChatMl);
    CHECK(talk("hello\n").out == one.out);
    test::put_bytes(folder + "/chat_template.jinja", "{{ '<|start_header_id|>user' }}");
    refuse(fmt::format("generate {} --chat", folder), {"Llama 3's", "ChatML"});
}

TEST_CASE("chat: Ctrl-C ends the answer, not the chat") {
    const TrainedRun run;
    const std::string folder = chat_folder(run, kChatMl);
    const std::string more = "--temperature 0 --policy sink --cache 20";
    const std::string answer =
        ballast_with(fmt::format("generate {} hi --chat {} --max-tokens 30 < /dev/null", folder, more)).out;
    const auto letter = std::find_if(answer.begin(), answer.end(), [](unsigned char c) { return std::isgraph(c); });
    REQUIRE(letter != answer.end());
    Terminal terminal({"generate", folder, "--chat", "--temperature", "0", "--policy", "sink", "--cache", "20",
                       "--max-tokens", "1000000000"});
    REQUIRE(terminal.shows("> "));
    for (const char key : std::string("hi\n")) terminal.type(key);
    REQUIRE(terminal.shows("hi"));
    REQUIRE(terminal.shows(std::string(1, *letter)));  // the answer is under way
    terminal.type('\x03');
    REQUIRE(terminal.shows("again, after a second, to stop at once"));
    REQUIRE(terminal.shows("> "));
    terminal.type('\x04');
    CHECK(terminal.wait() == 0);
}
