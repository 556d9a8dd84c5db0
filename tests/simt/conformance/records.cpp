#include "tests/simt/conformance/records.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "base/larger_or_nan.h"

namespace ballast::test {
namespace {

constexpr const char* kHeader = "ballast-conformance 2";
constexpr const char* kRunning = "running\t";  // and the name of the record that runs now
constexpr const char* kNames[] = {"exact", "relative", "ulp"};

Agreement agreement_of(const std::string& name) {
    for (int i = 0; i < 3; ++i)
        if (name == kNames[i]) return static_cast<Agreement>(i);
    throw std::runtime_error("no such agreement: " + name);
}

/// Neighbouring floats, of either sign, are neighbouring numbers.
int64_t order_of(uint32_t bits) {
    const auto magnitude = static_cast<int64_t>(bits & 0x7fffffffu);
    return (bits & 0x80000000u) != 0 ? -magnitude : magnitude;
}

double root_mean_square(const std::vector<uint32_t>& words) {
    double sum = 0;
    for (const uint32_t word : words) sum += std::pow(static_cast<double>(std::bit_cast<float>(word)), 2);
    return std::sqrt(sum / static_cast<double>(words.size()));
}

/// The distance of two words in the units of the record's bound.
double distance(const Record& record, uint32_t a, uint32_t b, double scale) {
    if (a == b) return 0;
    const double x = std::bit_cast<float>(a), y = std::bit_cast<float>(b);
    switch (record.agreement) {
        case Agreement::exact: return INFINITY;
        case Agreement::relative: return std::abs(x - y) / scale;
        case Agreement::ulp:
            if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y) ? 0 : INFINITY;
            return static_cast<double>(std::abs(order_of(a) - order_of(b)));
    }
    return INFINITY;
}

void say(const std::string& name, const std::string& what) { std::printf("%-58s %s\n", name.c_str(), what.c_str()); }

/// One line about two records of one name; whether they agree.
bool agree(const Record& a, const Record& b) {
    if (a.words.size() != b.words.size() || a.agreement != b.agreement || a.bound != b.bound) {
        say(a.name, "DIFFERS: other sizes or bounds; the files come from different versions");
        return false;
    }
    const double scale = a.agreement == Agreement::relative ? root_mean_square(a.words) : 1;
    size_t beyond = 0, first = 0;
    double worst = 0;
    for (size_t i = 0; i < a.words.size(); ++i) {
        const double d = distance(a, a.words[i], b.words[i], scale);
        worst = larger_or_nan(worst, d);
        if (!(d <= a.bound)) {
            if (beyond == 0) first = i;
            ++beyond;
        }
    }
    char text[200];
    if (beyond == 0)
        std::snprintf(text, sizeof text, "agrees  %6zu words, %s, worst %.3g of %.3g", a.words.size(),
                      kNames[static_cast<int>(a.agreement)], worst, a.bound);
    else
        std::snprintf(text, sizeof text,
                      "DIFFERS %zu of %zu words, first %zu: %08x and %08x (worst %.3g, %s bound %.3g)", beyond,
                      a.words.size(), first, a.words[first], b.words[first], worst,
                      kNames[static_cast<int>(a.agreement)], a.bound);
    say(a.name, text);
    return beyond == 0;
}

/// A record's first line: name, agreement, bound, number of words, why it was skipped; tabs between them.
Record read_head(const std::string& line, size_t& count) {
    std::istringstream fields(line);
    Record record;
    std::string agreement, bound, words;
    std::getline(fields, record.name, '\t');
    std::getline(fields, agreement, '\t');
    std::getline(fields, bound, '\t');
    std::getline(fields, words, '\t');
    std::getline(fields, record.skipped);
    record.agreement = agreement_of(agreement);
    record.bound = std::strtod(bound.c_str(), nullptr);
    count = std::strtoul(words.c_str(), nullptr, 10);
    return record;
}

std::string text_of(const Record& record) {
    // A name has no tabs; a bound is written to its last bit.
    char bound[40];
    std::snprintf(bound, sizeof bound, "%.17g", record.bound);
    std::string text = record.name + '\t' + kNames[static_cast<int>(record.agreement)] + '\t' + bound + '\t' +
                       std::to_string(record.words.size()) + '\t' + record.skipped + '\n';
    for (size_t i = 0; i < record.words.size(); ++i) {
        char word[12];
        std::snprintf(word, sizeof word, "%08x%c", record.words[i],
                      i % 12 == 11 || i + 1 == record.words.size() ? '\n' : ' ');
        text += word;
    }
    return text;
}

/// Appends the whole words of one line.
void read_words(const std::string& line, std::vector<uint32_t>& words) {
    std::istringstream in(line);
    for (std::string word; in >> word;)
        if (word.size() == 8) words.push_back(static_cast<uint32_t>(std::stoul(word, nullptr, 16)));
}

}  // namespace

void Records::read(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    if (!std::getline(in, line) || line != kHeader)
        throw std::runtime_error(path + " is no file of simt_conformance, or one of another version");
    Record record;
    size_t count = 0;
    const auto keep = [&] {
        if (record.name.empty() || record.words.size() != count) return;  // it was killed while it wrote
        interrupted.erase(record.name);
        whole.push_back(std::move(record));
        record = {};
    };
    while (std::getline(in, line)) {
        if (line.starts_with(kRunning)) {
            keep();
            record = {};
            interrupted.insert(line.substr(std::strlen(kRunning)));
        } else if (std::count(line.begin(), line.end(), '\t') == 4) {
            keep();
            record = read_head(line, count);
        } else {
            read_words(line, record.words);
        }
    }
    keep();
}

Recorder::Recorder(const std::string& path) : path_(path) {
    const bool goes_on = std::ifstream(path).peek() != std::ifstream::traits_type::eof();
    if (goes_on) {
        Records before;
        before.read(path);
        for (const Record& record : before.whole) known_.insert(record.name);
        known_.merge(before.interrupted);
    }
    out_.open(path, std::ios::app);
    write(goes_on ? "" : std::string(kHeader) + '\n');
}

void Recorder::write(const std::string& text) {
    out_ << text << std::flush;
    if (!out_) throw std::runtime_error("cannot write " + path_);
}

void Recorder::run(Record record, const std::function<Words()>& words) {
    record.name.insert(0, prefix_);
    if (!known_.insert(record.name).second) return;
    running_ = record.name;
    write('\n' + (kRunning + record.name) + '\n');  // whatever the line before was cut to
    record.words = words();
    write(text_of(record));
    running_.clear();
    ++written_;
}

void Recorder::skip(const std::string& why) { write(text_of({prefix_, Agreement::exact, 0, {}, why})); }

int compare(const Records& expected, const Records& got) {
    std::set<std::string> skipped;  // beginnings of names
    for (const Records* side : {&expected, &got})
        for (const Record& r : side->whole)
            if (!r.skipped.empty() && skipped.insert(r.name).second) say(r.name, "skipped: " + r.skipped);
    const auto is_skipped = [&](const std::string& name) {
        for (const std::string& prefix : skipped)
            if (name.starts_with(prefix)) return true;
        return false;
    };
    std::map<std::string, const Record*> others;
    for (const Record& r : got.whole)
        if (!is_skipped(r.name)) others[r.name] = &r;
    int agreeing = 0, differing = 0, missing = 0;
    for (const Record& r : expected.whole) {
        if (is_skipped(r.name)) continue;
        const auto other = others.find(r.name);
        if (other != others.end()) {
            ++(agree(r, *other->second) ? agreeing : differing);
            others.erase(other);
        } else {
            const bool begun = got.interrupted.contains(r.name);
            say(r.name, begun ? "MISSING: the program ended while it ran" : "MISSING: it was not run");
            ++missing;
        }
    }
    for (const auto& [name, record] : others) {
        say(name, "DIFFERS: only the second side has it");
        ++differing;
    }
    std::printf("%d records agree, %d differ, %d are missing\n", agreeing, differing, missing);
    return differing + missing;
}

}  // namespace ballast::test
