// Reads documents from text files, in order and in constant memory.
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
/// The endings of file names, in the order of the enumerators.
inline constexpr std::array<std::string_view, 4> kTextFormatNames{"", "txt", "jsonl", "jsonl.zst"};

/// What to do with a JSON line whose text is missing or null.
enum class MissingText : uint8_t { error, skip };

struct CorpusOptions {
    std::string text_key = "text";                  ///< the field of a JSON line that holds the document
    InvalidUtf8 invalid_utf8 = InvalidUtf8::error;  ///< for JSON lines; the text of .txt files is passed on unchanged
    MissingText missing_text = MissingText::error;
    TextFormat format = TextFormat::unknown;  ///< of paths whose names do not tell: "-", /dev/stdin, a pipe
    size_t piece_bytes = size_t{1} << 20;     ///< .txt files longer than this are read in pieces of about this size
    /// A line, or text without a place to cut it, that is longer is an error: it would not fit in memory much longer.
    size_t longest_piece = size_t{1} << 30;

    /// Returns the last place where a piece may end, 0 when there is none: Tokenizer::last_safe_cut or last_word_cut.
    /// Text without such a place is held as a whole.
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
    bool is_json_line = false;  ///< `text` is a whole line, for Corpus::take_text()
};

/// Reads .txt (one document per file), .jsonl and .jsonl.zst (one document per line: {"text": …}) files. A folder
/// stands for all such files below it, in the byte order of their paths. "-" is standard input. Blank JSON lines are
/// skipped, and so is the byte order mark at the beginning of a file.
class Corpus {
  public:
    /// Warns of the entries of a folder that it skips: files with another ending, links to folders. UserError for a
    /// missing path, a path with an unknown format, or a folder without any such file.
    Corpus(const std::vector<std::string>& paths, CorpusOptions options);

    const std::vector<std::string>& files() const { return files_; }
    /// The total size of the input files; 0 when it is unknown because an input is a pipe or a device.
    int64_t total_file_bytes() const { return total_file_bytes_; }
    /// JSON lines without text so far, under MissingText::skip.
    int64_t lines_without_text() const { return lines_without_text_; }
    int64_t file_bytes_read() const { return finished_bytes_ + (stream_ ? stream_->file_bytes_read() : 0); }

    /// Reads the next piece; false at the end. An empty document is an empty piece. UserError, with file and line, for
    /// invalid JSON, a line without text, or damaged compression.
    bool next(TextPiece& piece);

    /// The next pieces, with about `bytes` of text in total; none at the end.
    std::vector<TextPiece> next_batch(size_t bytes);

    /// The same without parsing JSON lines; take_text() parses them. So one thread reads and all threads parse.
    std::vector<TextPiece> next_raw_batch(size_t bytes);
    /// Replaces a piece's JSON line by its text; leaves other pieces unchanged. False, and no text, for a line without
    /// text under MissingText::skip. UserError as for next(). Any thread may call this while another one reads.
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
    [[noreturn]] void fail_long_piece(size_t bytes) const;
    void finish_file();
    std::string_view unread() const { return std::string_view(buffer_).substr(begin_); }

    CorpusOptions options_;
    std::vector<std::string> files_;
    int64_t total_file_bytes_ = 0, finished_bytes_ = 0, lines_without_text_ = 0;

    size_t file_index_ = 0;
    std::unique_ptr<ByteStream> stream_;  // of files_[file_index_], null between files
    std::string buffer_;                  // bytes read from the file; used up to begin_
    size_t begin_ = 0;
    int64_t offset_ = 0, line_number_ = 0;
};

}  // namespace ballast::data
