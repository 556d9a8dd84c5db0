#include "data/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "data/json_line.h"

namespace ballast::data {
namespace {

constexpr size_t kReadBytes = size_t{1} << 18;
constexpr size_t kMaxBatchPieces = 4096;  // so that a million empty documents do not make one batch

constexpr const char* kStandardInput = "-";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// What the ending of a file's name says.
TextFormat format_of_name(const std::string& path) {
    for (size_t i = 1; i < kTextFormatNames.size(); ++i)
        if (path.ends_with("." + std::string(kTextFormatNames[i]))) return static_cast<TextFormat>(i);
    return TextFormat::unknown;
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

/// Where and what of the files in a folder that are not read, in one line.
void warn_of_skipped_files(const std::string& folder, std::vector<std::string> names) {
    constexpr size_t kMostNamed = 5;
    if (names.empty()) return;
    std::sort(names.begin(), names.end());
    const size_t more = names.size() - std::min(names.size(), kMostNamed), count = names.size();
    names.resize(count - more);
    log_warning(
        fmt::format("{}: passing over {} that {} not end in .txt, .jsonl or .jsonl.zst, or lead{} to a folder: {}{}",
                    folder, count == 1 ? "1 entry" : fmt::format("{} entries", count), count == 1 ? "does" : "do",
                    count == 1 ? "s" : "", fmt::join(names, ", "), more > 0 ? fmt::format(" and {} more", more) : ""));
}

}  // namespace

Corpus::Corpus(const std::vector<std::string>& paths, CorpusOptions options) : options_(std::move(options)) {
    require(static_cast<bool>(options_.last_cut), "a corpus needs a rule for cutting text");
    require(options_.piece_bytes > 0, "pieces need at least one byte");
    try {
        for (const std::string& path : paths) add_path(path);
        const bool known = std::all_of(files_.begin(), files_.end(),
                                       [](const auto& file) { return std::filesystem::is_regular_file(file); });
        for (size_t i = 0; known && i < files_.size(); ++i)
            total_file_bytes_ += static_cast<int64_t>(std::filesystem::file_size(files_[i]));
    } catch (const std::filesystem::filesystem_error& e) {
        throw UserError(fmt::format("cannot read {}: {}", e.path1().string(), e.code().message()));
    }
}

TextFormat Corpus::format_of(const std::string& path) const {
    const TextFormat named = format_of_name(path);
    return named != TextFormat::unknown ? named : options_.format;
}

void Corpus::add_path(const std::string& path) {
    if (path != kStandardInput) {
        const auto status = std::filesystem::status(path);
        if (!std::filesystem::exists(status))
            throw UserError(fmt::format("no file or folder {}; check the path", path));
        if (std::filesystem::is_directory(status)) return add_folder(path);
    }
    if (format_of(path) == TextFormat::unknown)
        throw UserError(
            fmt::format("{}: unknown kind of text; name a .txt, .jsonl or .jsonl.zst file, or say what it is "
                        "with --format where the command has it",
                        path));
    files_.push_back(path);
}

void Corpus::add_folder(const std::string& path) {
    std::vector<std::string> found, passed_over;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
        const std::string name = entry.path().lexically_relative(path).string();
        const bool hidden = entry.path().filename().string().starts_with(".");
        if (entry.is_regular_file() && format_of_name(name) != TextFormat::unknown)
            found.push_back(entry.path().string());
        else if (!hidden && (!entry.is_directory() || entry.is_symlink()))
            passed_over.push_back(name);
    }
    warn_of_skipped_files(path, std::move(passed_over));
    if (found.empty()) throw UserError(fmt::format("no .txt, .jsonl or .jsonl.zst file below {}", path));
    std::sort(found.begin(), found.end());
    files_.insert(files_.end(), found.begin(), found.end());
}

bool Corpus::next(TextPiece& piece) {
    while (next_raw(piece)) {
        if (take_text(piece)) return true;
        ++lines_without_text_;
    }
    return false;
}

bool Corpus::next_raw(TextPiece& piece) {
    while (file_index_ < files_.size()) {
        const std::string& path = files_[file_index_];
        const TextFormat format = format_of(path);
        if (!stream_)
            stream_ =
                open_byte_stream(path == kStandardInput ? "/dev/stdin" : path, format == TextFormat::compressed_lines);
        if (format == TextFormat::text) {
            next_of_text(piece);
            return true;
        }
        if (next_of_lines(piece)) return true;
        finish_file();
    }
    return false;
}

template <class Next>
std::vector<TextPiece> Corpus::collect_batch(size_t bytes, Next&& next) {
    std::vector<TextPiece> batch;
    TextPiece piece;
    for (size_t taken = 0; taken < bytes && batch.size() < kMaxBatchPieces && next(piece);) {
        taken += piece.text.size();
        batch.push_back(std::move(piece));
    }
    return batch;
}

std::vector<TextPiece> Corpus::next_batch(size_t bytes) {
    return collect_batch(bytes, [this](TextPiece& piece) { return next(piece); });
}

std::vector<TextPiece> Corpus::next_raw_batch(size_t bytes) {
    return collect_batch(bytes, [this](TextPiece& piece) { return next_raw(piece); });
}

bool Corpus::take_text(TextPiece& piece) const {
    if (!piece.is_json_line) return true;
    piece.is_json_line = false;
    const std::string line = std::exchange(piece.text, {});
    try {
        std::string repaired;
        const std::string_view valid = checked_utf8(line, options_.invalid_utf8, repaired);
        if (text_of_json_line(valid, options_.text_key, options_.invalid_utf8, piece.text, options_.group_key,
                              piece.group) == TextField::found)
            return true;
        if (options_.missing_text == MissingText::error)
            throw UserError(
                fmt::format("no text in field \"{}\" of this line; name another with --text-key, or pass "
                            "--missing-text skip",
                            options_.text_key));
    } catch (const UserError& error) {
        throw UserError(fmt::format("{}: {}", piece.source, error.what()));
    }
    piece.text.clear();
    return false;
}

void Corpus::finish_file() {
    finished_bytes_ += stream_->file_bytes_read();
    stream_.reset();
    buffer_.clear();
    begin_ = 0;
    offset_ = line_number_ = 0;
    ++file_index_;
}

/// Reads more into the buffer; false at the end of the file.
bool Corpus::fill() {
    buffer_.erase(0, begin_);
    begin_ = 0;
    const size_t had = buffer_.size();
    if (had > options_.longest_piece) fail_long_piece(had);
    buffer_.resize(had + kReadBytes);
    const size_t got = stream_->read(buffer_.data() + had, kReadBytes);
    buffer_.resize(had + got);
    return got != 0;
}

void Corpus::fail_long_piece(size_t bytes) const {
    const std::string& path = files_[file_index_];
    if (format_of(path) != TextFormat::text)
        throw UserError(fmt::format("{}:{}: a line of more than {} bytes; is this a document a line?", path,
                                    line_number_ + 1, bytes));
    throw UserError(
        fmt::format("{}: {} bytes without a place to cut the text, which has no spaces there, or none where this "
                    "tokenizer may be interrupted; divide it into documents (files, or lines of a .jsonl)",
                    path, bytes));
}

void Corpus::skip_byte_order_mark() {
    while (unread().size() < kByteOrderMark.size() && fill()) {
    }
    if (!unread().starts_with(kByteOrderMark)) return;
    begin_ += kByteOrderMark.size();
    offset_ += static_cast<int64_t>(kByteOrderMark.size());
}

void Corpus::next_of_text(TextPiece& piece) {
    piece.begins_document = offset_ == 0;
    if (offset_ == 0) skip_byte_order_mark();
    size_t cut = 0;
    bool more = true;
    for (size_t wanted = options_.piece_bytes; cut == 0 && more; wanted *= 2) {
        while (more && unread().size() <= wanted) more = fill();
        cut = more ? options_.last_cut(unread()) : unread().size();
    }
    piece.text = unread().substr(0, cut);
    piece.source = files_[file_index_];
    piece.offset = offset_;
    piece.ends_document = !more;
    piece.is_json_line = false;
    piece.group.clear();
    begin_ += cut;
    offset_ += static_cast<int64_t>(cut);
    if (!more) finish_file();
}

bool Corpus::next_of_lines(TextPiece& piece) {
    do {
        if (!read_line(piece.text)) return false;
    } while (is_blank(piece.text));
    piece.source = fmt::format("{}:{}", files_[file_index_], line_number_);
    piece.offset = 0;
    piece.begins_document = piece.ends_document = piece.is_json_line = true;
    return true;
}

bool Corpus::read_line(std::string& line) {
    size_t searched = 0, length;
    while ((length = unread().find('\n', searched)) == std::string_view::npos) {
        searched = unread().size();
        if (fill()) continue;
        if (unread().empty()) return false;
        length = unread().size();  // the last line may lack its end
        break;
    }
    line = unread().substr(0, length);
    begin_ = std::min(begin_ + length + 1, buffer_.size());
    ++line_number_;
    return true;
}

}  // namespace ballast::data
