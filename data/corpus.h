// Documents out of text files, in order and in constant memory.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_stream.h"
#include "data/utf8.h"

namespace ballast::data {

enum class TextFormat : uint8_t { unknown, text, lines, compressed_lines };
/// As files' names end, in the order of the enumerators.
inline constexpr std::array<std::string_view, 4> kTextFormatNames{"", "txt", "jsonl", "jsonl.zst"};

/// What to do with a JSON line that has no text, or null for it.
enum class MissingText : uint8_t { error, skip };

struct CorpusOptions {
    std::string text_key = "text";                  ///< the field of a JSON line that holds the document
    InvalidUtf8 invalid_utf8 = InvalidUtf8::error;  ///< for JSON lines; the text of .txt files is passed on as it is
    MissingText missing_text = MissingText::error;
    TextFormat format = TextFormat::unknown;  ///< of paths whose names do not say: "-", /dev/stdin, a pipe
    size_t piece_bytes = size_t{1} << 20;     ///< .txt files longer than this come in pieces of about this size

    /// The last place where a piece may end, 0 when there is none: Tokenizer::last_safe_cut or last_word_cut. A
    /// stretch without such a place is held whole.
    std::function<size_t(std::string_view)> last_cut;

    std::string group_key = "";  ///< the field of a JSON line that says what its text is of, as "meta.pile_set_name"
};

/// A document, or consecutive bytes of one.
struct TextPiece {
    std::string text;
    std::string source;  ///< "folder/a.txt" or "pile.jsonl:17"
    int64_t offset = 0;  ///< of the first byte within the document
    bool begins_document = true, ends_document = true;
    std::string group = "";     ///< what CorpusOptions::group_key says, empty where it says nothing
    bool is_json_line = false;  ///< `text` is a whole line, as Corpus::take_text() takes it
};

/// Reads .txt (one document a file), .jsonl and .jsonl.zst (one a line: {"text": …}) files; folders stand for all such
/// files below them, in the order of their paths' bytes. "-" is standard input. Blank JSON lines are skipped, and so is
/// the byte order mark with which some editors begin a file.
class Corpus {
  public:
    /// Warns of what it passes over in a folder: files with another ending, links to folders. UserError for a path that
    /// is missing, whose format nobody says, or that is a folder without any of these files.
    Corpus(const std::vector<std::string>& paths, CorpusOptions options);

    const std::vector<std::string>& files() const { return files_; }
    /// 0 when it cannot be known: one of the inputs is a pipe or a device.
    int64_t total_file_bytes() const { return total_file_bytes_; }
    /// JSON lines without text so far, under MissingText::skip.
    int64_t lines_without_text() const { return lines_without_text_; }
    int64_t file_bytes_read() const { return finished_bytes_ + (stream_ ? stream_->file_bytes_read() : 0); }

    /// The next piece; false at the end. An empty document is an empty piece. UserError, with file and line, for bad
    /// JSON, a line without the text, damaged compression.
    bool next(TextPiece& piece);

    /// The pieces that follow, about `bytes` of text in all; none at the end.
    std::vector<TextPiece> next_batch(size_t bytes);

    /// The same without looking into JSON lines, whose text take_text() gets: reading takes one thread, parsing all.
    std::vector<TextPiece> next_raw_batch(size_t bytes);
    /// Puts its text in the place of a piece's JSON line, and leaves other pieces as they are. False, and no text, for
    /// a line without text under MissingText::skip. UserError as next(). Any thread may call this, while another reads.
    bool take_text(TextPiece& piece) const;

  private:
    void add_path(const std::string& path);
    void add_folder(const std::string& path);
    TextFormat format_of(const std::string& path) const;
    bool next_raw(TextPiece& piece);
    template <class Next>
    std::vector<TextPiece> collect_batch(size_t bytes, Next&& next);
    void skip_byte_order_mark();
    void next_of_text(TextPiece& piece);
    bool next_of_lines(TextPiece& piece);
    bool read_line(std::string& line);
    bool fill();
    void finish_file();
    std::string_view unread() const { return std::string_view(buffer_).substr(begin_); }

    CorpusOptions options_;
    std::vector<std::string> files_;
    int64_t total_file_bytes_ = 0, finished_bytes_ = 0, lines_without_text_ = 0;

    size_t file_index_ = 0;
    std::unique_ptr<ByteStream> stream_;  // of files_[file_index_], null between files
    std::string buffer_;                  // read from the file; handed out up to begin_
    size_t begin_ = 0;
    int64_t offset_ = 0, line_number_ = 0;
};

}  // namespace ballast::data
