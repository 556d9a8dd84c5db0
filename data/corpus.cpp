#include "data/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ballast::data {
namespace {

constexpr size_t kReadBytes = size_t{1} << 18;
// Something is wrong with a line or an unbroken word of this size, and it would not fit in memory much longer.
constexpr size_t kMaxPieceBytes = size_t{1} << 30;

constexpr size_t kMaxBatchPieces = 4096;  // so that a million empty documents do not make one batch

enum class Format { unknown, text, lines };

Format format_of(const std::string& path) {
    if (path.ends_with(".txt")) return Format::text;
    if (path.ends_with(".jsonl") || path.ends_with(".jsonl.zst")) return Format::lines;
    return Format::unknown;
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

std::string text_of_line(std::string_view line, const CorpusOptions& options, const std::string& where) {
    std::string repaired;
    try {
        auto json = nlohmann::json::parse(checked_utf8(line, options.invalid_utf8, repaired));
        const auto field = json.is_object() ? json.find(options.text_key) : json.end();
        if (field == json.end() || !field->is_string())
            throw UserError(fmt::format("no string field \"{}\" in this line; name the field with --text-key",
                                        options.text_key));
        return std::move(field->get_ref<std::string&>());
    } catch (const nlohmann::json::exception& e) {
        throw UserError(fmt::format("{}: bad JSON: {}", where, e.what()));
    } catch (const UserError& e) {
        throw UserError(fmt::format("{}: {}", where, e.what()));
    }
}

}  // namespace

Corpus::Corpus(const std::vector<std::string>& paths, CorpusOptions options) : options_(std::move(options)) {
    require(static_cast<bool>(options_.last_cut), "a corpus needs a rule for cutting text");
    require(options_.piece_bytes > 0, "pieces need at least one byte");
    try {
        for (const std::string& path : paths) add_path(path);
        for (const std::string& file : files_)
            total_file_bytes_ += static_cast<int64_t>(std::filesystem::file_size(file));
    } catch (const std::filesystem::filesystem_error& e) {
        throw UserError(fmt::format("cannot read {}: {}", e.path1().string(), e.code().message()));
    }
}

void Corpus::add_path(const std::string& path) {
    const auto status = std::filesystem::status(path);
    if (!std::filesystem::exists(status)) throw UserError(fmt::format("no file or folder {}; check the path", path));
    if (std::filesystem::is_directory(status)) return add_folder(path);
    if (format_of(path) == Format::unknown)
        throw UserError(fmt::format("{}: unknown kind of text; use .txt, .jsonl or .jsonl.zst", path));
    files_.push_back(path);
}

void Corpus::add_folder(const std::string& path) {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
        if (entry.is_regular_file() && format_of(entry.path().string()) != Format::unknown)
            found.push_back(entry.path().string());
    if (found.empty()) throw UserError(fmt::format("no .txt, .jsonl or .jsonl.zst file below {}", path));
    std::sort(found.begin(), found.end());
    files_.insert(files_.end(), found.begin(), found.end());
}

bool Corpus::next(TextPiece& piece) {
    while (file_index_ < files_.size()) {
        const std::string& path = files_[file_index_];
        if (!stream_) stream_ = open_byte_stream(path);
        if (format_of(path) == Format::text) {
            next_of_text(piece);
            return true;
        }
        if (next_of_lines(piece)) return true;
        finish_file();
    }
    return false;
}

std::vector<TextPiece> Corpus::next_batch(size_t bytes) {
    std::vector<TextPiece> batch;
    TextPiece piece;
    for (size_t taken = 0; taken < bytes && batch.size() < kMaxBatchPieces && next(piece);) {
        taken += piece.text.size();
        batch.push_back(std::move(piece));
    }
    return batch;
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
    if (had > kMaxPieceBytes)
        throw UserError(fmt::format("{}: {} bytes without a line end, or a space in plain text; is this text?",
                                    files_[file_index_], had));
    buffer_.resize(had + kReadBytes);
    const size_t got = stream_->read(buffer_.data() + had, kReadBytes);
    buffer_.resize(had + got);
    return got != 0;
}

void Corpus::next_of_text(TextPiece& piece) {
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
    begin_ += cut;
    offset_ += static_cast<int64_t>(cut);
    if (!more) finish_file();
}

bool Corpus::next_of_lines(TextPiece& piece) {
    std::string line;
    while (read_line(line)) {
        if (is_blank(line)) continue;
        piece.source = fmt::format("{}:{}", files_[file_index_], line_number_);
        piece.text = text_of_line(line, options_, piece.source);
        piece.offset = 0;
        piece.ends_document = true;
        return true;
    }
    return false;
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
