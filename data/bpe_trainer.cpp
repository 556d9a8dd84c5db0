#include "data/bpe_trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <queue>
#include <set>

#include "base/error.h"
#include "base/thread_pool.h"
#include "data/byte_level.h"
#include "data/integer_map.h"
#include "data/pre_tokenizer.h"
#include "data/unicode.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

/// One distinct word as it stands after the merges so far.
struct Word {
    std::vector<uint32_t> ids;
    int64_t count = 0;
};

struct PairStatistics {
    int64_t count = 0;             // occurrences, weighted by the words' counts
    std::vector<uint32_t> words;   // that hold or once held the pair; may repeat
};

/// A pair as it stood when queued. Counts only shrink between two additions to a pair, and an addition queues it anew,
/// so an entry whose count is out of date is corrected when it comes up.
struct QueuedPair {
    int64_t count;
    uint64_t pair;
    bool operator<(const QueuedPair& other) const {
        return count != other.count ? count < other.count : pair > other.pair;
    }
};

uint32_t left_of(uint64_t pair) { return static_cast<uint32_t>(pair >> 32); }
uint32_t right_of(uint64_t pair) { return static_cast<uint32_t>(pair); }

/// The vocabulary under construction and the statistics of the text written in it.
class Learner {
  public:
    Learner(std::vector<std::string> spellings, std::vector<Word> words)
        : spellings_(std::move(spellings)), words_(std::move(words)) {
        for (uint32_t id = 0; id < spellings_.size(); ++id) ids_.emplace(spellings_[id], id);
        for (uint32_t w = 0; w < words_.size(); ++w) {
            const auto& ids = words_[w].ids;
            for (size_t i = 1; i < ids.size(); ++i) change(pair_key(ids[i - 1], ids[i]), w, words_[w].count);
        }
        queue_grown_pairs();
    }

    size_t vocab_size() const { return spellings_.size(); }
    const std::vector<std::string>& spellings() const { return spellings_; }
    const std::vector<MergeRule>& merges() const { return merges_; }

    /// Merges the most frequent pair; false when none occurs at least `min_frequency` times.
    bool merge_next(int64_t min_frequency) {
        while (!queue_.empty()) {
            const QueuedPair top = queue_.top();
            queue_.pop();
            const int64_t count = pairs_[top.pair].count;
            if (count != top.count) {
                if (count > 0 && count < top.count) queue_.push({count, top.pair});
                continue;
            }
            if (count < std::max<int64_t>(1, min_frequency)) return false;
            merge(top.pair);
            return true;
        }
        return false;
    }

  private:
    void merge(uint64_t pair) {
        const uint32_t joined = id_of(spellings_[left_of(pair)] + spellings_[right_of(pair)]);
        merges_.push_back({left_of(pair), right_of(pair), joined});
        const std::vector<uint32_t> holders = std::move(pairs_[pair].words);
        pairs_[pair].words.clear();
        for (uint32_t w : holders) merge_in_word(w, pair, joined);
        pairs_[pair].count = 0;
        queue_grown_pairs();
    }

    /// A spelling may exist already: "aaa" is both a|aa and aa|a.
    uint32_t id_of(const std::string& spelling) {
        const auto [it, is_new] = ids_.emplace(spelling, static_cast<uint32_t>(spellings_.size()));
        if (is_new) spellings_.push_back(spelling);
        return it->second;
    }

    void merge_in_word(uint32_t w, uint64_t pair, uint32_t joined) {
        auto& ids = words_[w].ids;
        const int64_t count = words_[w].count;
        size_t out = 0;
        for (size_t in = 0; in < ids.size();) {
            if (in + 1 == ids.size() || pair_key(ids[in], ids[in + 1]) != pair) {
                ids[out++] = ids[in++];
                continue;
            }
            if (out > 0) {
                change(pair_key(ids[out - 1], ids[in]), w, -count);
                change(pair_key(ids[out - 1], joined), w, count);
            }
            if (in + 2 < ids.size()) {
                change(pair_key(ids[in + 1], ids[in + 2]), w, -count);
                change(pair_key(joined, ids[in + 2]), w, count);
            }
            in += 2;
            ids[out++] = joined;
        }
        ids.resize(out);
    }

    void change(uint64_t pair, uint32_t w, int64_t by) {
        PairStatistics& statistics = pairs_[pair];
        statistics.count += by;
        if (by <= 0) return;
        if (statistics.words.empty() || statistics.words.back() != w) statistics.words.push_back(w);
        grown_.push_back(pair);
    }

    void queue_grown_pairs() {
        std::sort(grown_.begin(), grown_.end());
        grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
        for (uint64_t pair : grown_)
            if (const int64_t count = pairs_[pair].count; count > 0) queue_.push({count, pair});
        grown_.clear();
    }

    std::vector<std::string> spellings_;  // by id
    std::unordered_map<std::string, uint32_t> ids_;
    std::vector<Word> words_;
    std::vector<MergeRule> merges_;
    IntegerMap<PairStatistics> pairs_;
    std::priority_queue<QueuedPair> queue_;
    std::vector<uint64_t> grown_;  // pairs that gained occurrences since the queue was last fed; may repeat
};

/// Special tokens first, then the 256 bytes in the order of their characters, as the package numbers them.
std::vector<std::string> initial_spellings(const std::vector<std::string>& special_tokens) {
    std::set<char32_t> alphabet;
    for (int byte = 0; byte < 256; ++byte) alphabet.insert(byte_level_character(static_cast<uint8_t>(byte)));
    std::vector<std::string> spellings = special_tokens;
    for (char32_t c : alphabet) {
        std::string spelling;
        append_utf8(spelling, c);
        spellings.push_back(std::move(spelling));
    }
    return spellings;
}

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options) : options_(std::move(options)) {
    const auto smallest = static_cast<int64_t>(options_.special_tokens.size()) + 256;
    if (options_.vocab_size < smallest || options_.vocab_size > int64_t{kMaxTokenId} + 1) {
        throw UserError(fmt::format("--vocab-size {} must be from {} (256 bytes and {} special tokens) to {}",
                                    options_.vocab_size, smallest, options_.special_tokens.size(), kMaxTokenId + 1));
    }
    const auto spellings = initial_spellings(options_.special_tokens);
    if (std::set<std::string>(spellings.begin(), spellings.end()).size() != spellings.size() ||
        std::find(spellings.begin(), spellings.end(), "") != spellings.end())
        throw UserError("special tokens must differ from each other and from single bytes, and not be empty");
}

void BpeTrainer::count_words(const TextPiece& piece, WordCounts& counts) const {
    std::string repaired, normalized;
    std::string_view text = piece.text;
    try {
        text = checked_utf8(text, options_.invalid_utf8, repaired, piece.offset);
    } catch (const UserError& e) {
        throw UserError(fmt::format("{}: {}", piece.source, e.what()));
    }
    text = normalize_nfc(text, normalized);
    for (size_t at = 0; at < text.size();) {
        const size_t end = next_word_end(text, at);
        const std::string_view word = text.substr(at, end - at);
        if (const auto it = counts.find(word); it != counts.end()) {
            ++it->second;
        } else {
            counts.emplace(word, 1);
        }
        at = end;
    }
}

void BpeTrainer::add_texts(const std::vector<TextPiece>& texts, ThreadPool& pool) {
    const auto lanes = static_cast<size_t>(pool.num_threads());
    if (counts_.size() < lanes) counts_.resize(lanes);
    std::atomic<size_t> next{0};
    pool.parallel_for(pool.num_threads(), [&](int64_t lane) {
        for (size_t i; (i = next.fetch_add(1)) < texts.size();)
            count_words(texts[i], counts_[static_cast<size_t>(lane)]);
    });
}

TokenizerSpec BpeTrainer::train() const {
    WordCounts counts;
    for (const WordCounts& part : counts_)
        for (const auto& [word, count] : part) counts[word] += count;
    const std::vector<std::string> spellings = initial_spellings(options_.special_tokens);
    std::unordered_map<std::string, uint32_t> byte_ids;
    for (size_t id = options_.special_tokens.size(); id < spellings.size(); ++id)
        byte_ids.emplace(spellings[id], static_cast<uint32_t>(id));
    std::vector<Word> words;
    for (const auto& [text, count] : counts) {
        Word word{{}, count};
        for (char byte : text) word.ids.push_back(byte_ids.at(to_byte_level(std::string_view(&byte, 1))));
        words.push_back(std::move(word));
    }
    Learner learner(spellings, std::move(words));
    bool grew = true;
    while (grew && static_cast<int64_t>(learner.vocab_size()) < options_.vocab_size)
        grew = learner.merge_next(options_.min_frequency);
    TokenizerSpec spec;
    spec.normalizers = {NfcStep{}};
    for (uint32_t id = 0; id < learner.vocab_size(); ++id) spec.vocabulary.emplace_back(learner.spellings()[id], id);
    spec.merges = learner.merges();
    for (uint32_t id = 0; id < options_.special_tokens.size(); ++id)
        spec.added_tokens.push_back({id, options_.special_tokens[id], true, false});
    return spec;
}

}  // namespace ballast::data
