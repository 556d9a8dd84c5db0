#include "data/corpus.h"

#include <sys/stat.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "base/error.h"
#include "data/pre_tokenizer.h"
#include "tests/base/message_of.h"
#include "tests/base/standard_error.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

namespace ballast::data {
namespace {

using test::put_bytes;

std::string compress(const std::string& text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
}

CorpusOptions options(size_t piece_bytes = 1 << 20) {
    CorpusOptions out;
    out.piece_bytes = piece_bytes;
    out.last_cut = &last_word_cut;
    return out;
}

std::vector<TextPiece> read_all(const std::vector<std::string>& paths, const CorpusOptions& how = options()) {
    Corpus corpus(paths, how);
    std::vector<TextPiece> pieces;
    for (TextPiece piece; corpus.next(piece);) pieces.push_back(piece);
    CHECK(corpus.file_bytes_read() == corpus.total_file_bytes());
    return pieces;
}

std::vector<std::string> texts(const std::vector<TextPiece>& pieces) {
    std::vector<std::string> out;
    for (const auto& piece : pieces) out.push_back(piece.text);
    return out;
}

std::string message_for(const std::vector<std::string>& paths, const CorpusOptions& how = options()) {
    return test::message_of([&] { read_all(paths, how); });
}

}  // namespace

TEST_CASE("corpus: files of a folder in the order of their paths") {
    const test::TemporaryFolder folder;
    std::filesystem::create_directories(folder.file("sub/deeper"));
    put_bytes(folder.file("b.txt"), "text b");
    put_bytes(folder.file("a.jsonl"), "{\"text\": \"line 1\", \"meta\": {}}\n\n{\"text\": \"line\\n3 \\u00e9\"}");
    put_bytes(folder.file("sub/c.jsonl.zst"), compress("{\"text\":\"packed\"}\n") + compress("{\"text\":\"twice\"}\n"));
    put_bytes(folder.file("sub/deeper/d.txt"), "");
    put_bytes(folder.file("notes.md"), "not this");
    const auto pieces = read_all({folder.path()});
    CHECK(texts(pieces) == std::vector<std::string>{"line 1", "line\n3 \u00e9", "text b", "packed", "twice", ""});
    CHECK(pieces[1].source == folder.file("a.jsonl") + ":3");
    for (const auto& piece : pieces) CHECK((piece.ends_document && piece.offset == 0));
    CHECK(texts(read_all({folder.file("b.txt"), folder.file("b.txt")})).size() == 2);
}

TEST_CASE("corpus: long text comes in pieces") {
    const test::TemporaryFolder folder;
    std::string text;
    std::mt19937 random(31);
    while (text.size() < 3000000) text += std::string(1 + random() % 12, 'x') + (random() % 20 ? " " : "\n");
    text += std::string(700000, 'y') + " end";  // nothing to cut for a while
    put_bytes(folder.file("a.txt"), text);
    put_bytes(folder.file("b.txt"), "short");
    const auto pieces = read_all({folder.path()}, options(100000));
    std::string joined;
    for (size_t i = 0; i + 1 < pieces.size(); ++i) {
        REQUIRE(pieces[i].offset == static_cast<int64_t>(joined.size()));
        joined += pieces[i].text;
        REQUIRE(pieces[i].ends_document == (i + 2 == pieces.size()));
        if (!pieces[i].ends_document) REQUIRE(is_word_cut(text, joined.size()));
    }
    CHECK(joined == text);
    CHECK(pieces.size() > 8);
    CHECK(pieces.back().text == "short");
}

TEST_CASE("corpus: compressed text that ends with a buffer of the reader") {
    const test::TemporaryFolder folder;
    const std::string line = "{\"text\": \"" + std::string(51, 'z') + "\"}\n";
    REQUIRE(line.size() == 64);
    for (const size_t buffers : {1, 2, 3}) {
        std::string lines;
        while (lines.size() < (buffers << 18)) lines += line;
        put_bytes(folder.file("a.jsonl.zst"), compress(lines));
        CHECK(read_all({folder.path()}).size() == lines.size() / line.size());
    }
}

TEST_CASE("corpus: long compressed lines") {
    const test::TemporaryFolder folder;
    std::string lines;
    for (int i = 0; i < 300; ++i) lines += "{\"text\": \"" + std::string(static_cast<size_t>(i) * 97, 'z') + "\"}\r\n";
    put_bytes(folder.file("a.jsonl.zst"), compress(lines));
    const auto pieces = read_all({folder.path()});
    REQUIRE(pieces.size() == 300);
    for (size_t i = 0; i < 300; ++i) REQUIRE(pieces[i].text.size() == i * 97);
}

TEST_CASE("corpus: lines, and text without a place to cut it, that are too long are named for what they are") {
    using Catch::Matchers::ContainsSubstring;
    const test::TemporaryFolder folder;
    CorpusOptions how = options(1000);
    how.longest_piece = 1 << 20;
    put_bytes(folder.file("a.jsonl"), "{\"text\": \"one\"}\n{\"text\": \"" + std::string(3 << 20, 'x') + "\"}\n");
    CHECK_THAT(message_for({folder.file("a.jsonl")}, how), ContainsSubstring("a.jsonl:2: a line of more than"));
    put_bytes(folder.file("word.txt"), std::string(3 << 20, 'x'));
    CHECK_THAT(message_for({folder.file("word.txt")}, how), ContainsSubstring("without a place to cut the text"));
    std::string words;
    while (words.size() < 3 << 20) words += "some words ";
    put_bytes(folder.file("words.txt"), words);
    CHECK(message_for({folder.file("words.txt")}, how) == "");
    how.last_cut = [](std::string_view) { return size_t{0}; };
    CHECK_THAT(message_for({folder.file("words.txt")}, how),
               ContainsSubstring("words.txt: ") && ContainsSubstring("where this tokenizer may be interrupted"));
    how.longest_piece = 4 << 20;
    CHECK(message_for({folder.file("words.txt")}, how) == "");
}

TEST_CASE("corpus: bad lines are named") {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("a.jsonl");
    const auto message_for_line = [&](const std::string& line) {
        put_bytes(path, "{\"text\": \"fine\"}\n" + line + "\n{\"text\": \"fine\"}\n");
        return message_for({path});
    };
    for (const char* line : {"{\"text\": \"open", "nonsense", "{\"text\": 3}", "{\"other\": \"x\"}", "[\"text\"]",
                             "{} {}", "{\"text\": \"\xFF\"}", "{\"text\": \"\\ud800\"}", "\"text\""}) {
        INFO(line);
        CHECK(message_for_line(line).find(path + ":2: ") == 0);
    }
    put_bytes(path, "{\"text\": \"a\xFF\"}\n");
    CorpusOptions replacing = options();
    replacing.invalid_utf8 = InvalidUtf8::replace;
    CHECK(texts(read_all({path}, replacing)) == std::vector<std::string>{"a\uFFFD"});
    put_bytes(path, "{\"content\": \"x\"}\n");
    CorpusOptions keyed = options();
    keyed.text_key = "content";
    CHECK(texts(read_all({path}, keyed)) == std::vector<std::string>{"x"});
}

TEST_CASE("corpus: fields nobody asked for may hold what only Python reads") {
    const test::TemporaryFolder folder;
    put_bytes(folder.file("a.jsonl"),
              "{\"text\": \"x\", \"score\": NaN}\n{\"score\": [1e999, -Infinity], \"text\": \"y\"}\n");
    CHECK(texts(read_all({folder.path()})) == std::vector<std::string>{"x", "y"});
    CorpusOptions replacing = options();
    replacing.invalid_utf8 = InvalidUtf8::replace;
    put_bytes(folder.file("a.jsonl"), "{\"text\": \"half \\ud800 pair\"}\n");
    CHECK(texts(read_all({folder.path()}, replacing)) == std::vector<std::string>{"half \uFFFD pair"});
}

TEST_CASE("corpus: lines without text are errors, or skipped and counted") {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("a.jsonl");
    for (const char* line : {"{\"text\": null}", "{\"other\": 1}", "{}"}) {
        put_bytes(path, "{\"text\": \"first\"}\n" + std::string(line) + "\n{\"text\": \"\"}\n{\"text\": \"last\"}\n");
        CHECK(message_for({path}).find(path + ":2: no text in field \"text\"") == 0);
        CHECK(message_for({path}).find("--missing-text skip") != std::string::npos);
        CorpusOptions skipping = options();
        skipping.missing_text = MissingText::skip;
        CHECK(texts(read_all({path}, skipping)) == std::vector<std::string>{"first", "", "last"});
        Corpus corpus({path}, skipping);
        while (!corpus.next_batch(1000).empty()) {
        }
        CHECK(corpus.lines_without_text() == 1);
    }
    put_bytes(path, "{\"text\": 3}\n");
    CorpusOptions skipping = options();
    skipping.missing_text = MissingText::skip;
    CHECK(message_for({path}, skipping).find("is not text") != std::string::npos);
}

TEST_CASE("corpus: a byte order mark at the start of a file is no text, anywhere else it is") {
    const test::TemporaryFolder folder;
    const std::string mark = "\uFEFF";
    put_bytes(folder.file("a.txt"), mark + "one " + mark + "two");
    put_bytes(folder.file("b.jsonl"), mark + "{\"text\": \"" + mark + "three\"}\n" + mark + "{\"text\": \"four\"}\n");
    put_bytes(folder.file("c.txt"), mark);
    put_bytes(folder.file("d.txt"), "\xEF\xBB");
    for (const size_t piece_bytes : {size_t{1}, size_t{1} << 20}) {
        const auto pieces = read_all({folder.path()}, options(piece_bytes));
        std::string joined;
        for (const auto& piece : pieces) joined += piece.text + (piece.ends_document ? "|" : "");
        CHECK(joined == "one " + mark + "two|" + mark + "three|four||\xEF\xBB|");
        CHECK(pieces.front().offset == 3);  // bytes of the file, for messages
    }
}

TEST_CASE("corpus: pipes are read when somebody says what they hold") {
    const test::TemporaryFolder folder;
    const std::string pipe = folder.file("pipe");
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    CHECK(message_for({pipe}).find("--format") != std::string::npos);
    CHECK(message_for({"-"}).find("--format") != std::string::npos);
    const auto read_through = [&](TextFormat format, const std::string& bytes) {
        CorpusOptions how = options();
        how.format = format;
        Corpus corpus({pipe}, how);
        CHECK(corpus.total_file_bytes() == 0);
        std::thread writer([&] { std::ofstream(pipe, std::ios::binary) << bytes; });
        std::vector<std::string> out;
        for (TextPiece piece; corpus.next(piece);) out.push_back(piece.text);
        writer.join();
        return out;
    };
    const std::string lines = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    const std::vector<std::string> both{"one", "two"};
    CHECK(read_through(TextFormat::text, lines) == std::vector<std::string>{lines});
    CHECK(read_through(TextFormat::lines, lines) == both);
    CHECK(read_through(TextFormat::compressed_lines, compress(lines)) == both);
}

TEST_CASE("corpus: windows of any size that zstd --long writes are read") {
    const test::TemporaryFolder folder;
    const std::string lines = "{\"text\": \"" + std::string(100000, 'x') + "\"}\n";
    ZSTD_CCtx* context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 28);  // the decoder's own limit is 27
    ZSTD_outBuffer out{nullptr, 0, 0};
    std::string packed(ZSTD_compressBound(lines.size()), '\0');
    out = {packed.data(), packed.size(), 0};
    ZSTD_inBuffer in{lines.data(), lines.size(), 0};
    REQUIRE(ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush) ==
            0);  // its size not known: the frame names the window
    REQUIRE(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end) == 0);
    ZSTD_freeCCtx(context);
    put_bytes(folder.file("a.jsonl.zst"), packed.substr(0, out.pos));
    CHECK(texts(read_all({folder.path()})).front().size() == 100000);
}

TEST_CASE("corpus: what is passed over in a folder is said") {
    const test::TemporaryFolder folder, other;
    put_bytes(other.file("x.txt"), "linked");
    put_bytes(folder.file("a.txt"), "read");
    for (const char* name : {"c.txt.gz", "e.TXT", "f.json", ".hidden"}) put_bytes(folder.file(name), "not read");
    std::filesystem::create_directory(folder.file("sub"));
    put_bytes(folder.file("sub/d.jsonl.gz"), "not read");
    std::filesystem::create_directory_symlink(other.path(), folder.file("linked"));
    std::vector<std::string> out;
    const std::string said = test::standard_error_of([&] { out = texts(read_all({folder.path()})); });
    CHECK(out == std::vector<std::string>{"read"});
    CHECK(said.find("passing over 5 entries") != std::string::npos);
    CHECK(said.find("c.txt.gz, e.TXT, f.json, linked, sub/d.jsonl.gz") != std::string::npos);
    CHECK(test::standard_error_of([&] { read_all({other.path()}); }).empty());
}

TEST_CASE("corpus: damaged compression is named") {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("a.jsonl.zst");
    std::string lines;
    std::mt19937 random(37);
    for (int i = 0; i < 2000; ++i) lines += "{\"text\": \"number " + std::to_string(random()) + "\"}\n";
    const std::string good = compress(lines);
    for (size_t size : {size_t{1}, size_t{3}, size_t{9}, good.size() / 3, good.size() - 1}) {
        put_bytes(path, good.substr(0, size));
        INFO("first " << size << " bytes");
        CHECK(message_for({path}).find(path) == 0);
    }
    put_bytes(path, lines);
    CHECK(message_for({path}).find("damaged Zstandard data") != std::string::npos);
    for (int round = 0; round < 100; ++round) {
        std::string bad = good;
        bad[random() % bad.size()] ^= static_cast<char>(1u << random() % 8);
        put_bytes(path, bad);
        try {
            Corpus corpus({path}, options());
            for (TextPiece piece; corpus.next(piece);) {
            }
        } catch (const UserError& e) {
            REQUIRE(std::string(e.what()).find(path) == 0);
        }
    }
}

TEST_CASE("corpus: paths that are no text") {
    const test::TemporaryFolder folder;
    put_bytes(folder.file("x.pdf"), "?");
    CHECK(message_for({folder.file("none.txt")}).find("none.txt") != std::string::npos);
    CHECK(message_for({folder.file("x.pdf")}).find("unknown kind of text") != std::string::npos);
    CHECK(message_for({folder.path()}).find("below " + folder.path()) != std::string::npos);
}

}  // namespace ballast::data
