// Documents out of text files, in order and in constant memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_stream.h"
#include "data/utf8.h"

namespace ballast::data {

struct CorpusOptions {
    std::string text_key = "text";                  ///< the field of a JSON line that holds the document
    InvalidUtf8 invalid_utf8 = InvalidUtf8::error;  ///< for JSON lines; the text of .txt files is passed on as it is
    size_t piece_bytes = size_t{1} << 20;           ///< .txt files longer than this come in pieces of about this size

    /// The last place where a piece may end, 0 when there is none: Tokenizer::last_safe_cut or last_word_cut. A
    /// stretch without such a place is held whole.
    std::function<size_t(std::string_view)> last_cut;
};

/// A document, or consecutive bytes of one.
struct TextPiece {
    std::string text;
    std::string source;  ///< "folder/a.txt" or "pile.jsonl:17"
    int64_t offset = 0;  ///< of the first byte within the document
    bool ends_document = true;
};

/// Reads .txt (one document a file), .jsonl and .jsonl.zst (one a line: {"text": …}) files; folders stand for all such
/// files below them, in the order of their paths' bytes. Blank JSON lines are skipped.
class Corpus {
  public:
    /// UserError for a path that is missing, has another ending, or is a folder without any of these files.
    Corpus(const std::vector<std::string>& paths, CorpusOptions options);

    const std::vector<std::string>& files() const { return files_; }
    int64_t total_file_bytes() const { return total_file_bytes_; }
    int64_t file_bytes_read() const { return finished_bytes_ + (stream_ ? stream_->file_bytes_read() : 0); }

    /// The next piece; false at the end. An empty document is an empty piece. UserError, with file and line, for bad
    /// JSON, a line without the text, damaged compression.
    bool next(TextPiece& piece);

    /// The pieces that follow, about `bytes` of text in all; none at the end.
    std::vector<TextPiece> next_batch(size_t bytes);

  private:
    void add_path(const std::string& path);
    void add_folder(const std::string& path);
    void next_of_text(TextPiece& piece);
    bool next_of_lines(TextPiece& piece);
    bool read_line(std::string& line);
    bool fill();
    void finish_file();
    std::string_view unread() const { return std::string_view(buffer_).substr(begin_); }

    CorpusOptions options_;
    std::vector<std::string> files_;
    int64_t total_file_bytes_ = 0, finished_bytes_ = 0;

    size_t file_index_ = 0;
    std::unique_ptr<ByteStream> stream_;  // of files_[file_index_], null between files
    std::string buffer_;                  // read from the file; handed out up to begin_
    size_t begin_ = 0;
    int64_t offset_ = 0, line_number_ = 0;
};

}  // namespace ballast::data
