#include "tests/simt/conformance/records.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

namespace ballast::test {
namespace {

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

/// One line about two records of one name; whether they agree.
bool agree(const Record& a, const Record& b) {
    const auto line = [&](const std::string& what) { std::printf("%-58s %s\n", a.name.c_str(), what.c_str()); };
    if (a.words.size() != b.words.size() || a.agreement != b.agreement || a.bound != b.bound) {
        line("DIFFERS: other sizes or bounds; the files come from different versions");
        return false;
    }
    const double scale = a.agreement == Agreement::relative ? root_mean_square(a.words) : 1;
    size_t beyond = 0, first = 0;
    double worst = 0;
    for (size_t i = 0; i < a.words.size(); ++i) {
        const double d = distance(a, a.words[i], b.words[i], scale);
        if (!(d <= worst)) worst = d;
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
    line(text);
    return beyond == 0;
}

}  // namespace

void Records::write(const std::string& path) const {
    std::ofstream out(path);
    out << "ballast-conformance 1\n";
    for (const Record& r : records_) {
        // A name has no tabs; a bound is written to its last bit.
        char bound[40];
        std::snprintf(bound, sizeof bound, "%.17g", r.bound);
        out << r.name << '\t' << kNames[static_cast<int>(r.agreement)] << '\t' << bound << '\t' << r.words.size()
            << '\t' << r.skipped << '\n';
        for (size_t i = 0; i < r.words.size(); ++i) {
            char word[12];
            std::snprintf(word, sizeof word, "%08x%c", r.words[i],
                          i % 12 == 11 || i + 1 == r.words.size() ? '\n' : ' ');
            out << word;
        }
    }
    if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

Records Records::read(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    if (!std::getline(in, line) || line != "ballast-conformance 1")
        throw std::runtime_error(path + " is no file of simt_conformance");
    Records records;
    while (std::getline(in, line)) {
        std::istringstream fields(line);
        Record r;
        std::string agreement, bound, count;
        std::getline(fields, r.name, '\t');
        std::getline(fields, agreement, '\t');
        std::getline(fields, bound, '\t');
        std::getline(fields, count, '\t');
        std::getline(fields, r.skipped);
        r.agreement = agreement_of(agreement);
        r.bound = std::strtod(bound.c_str(), nullptr);
        r.words.resize(std::strtoul(count.c_str(), nullptr, 10));
        for (uint32_t& word : r.words)
            if (!(in >> std::hex >> word)) throw std::runtime_error(path + " ends within " + r.name);
        if (!r.words.empty()) in.ignore(2, '\n');
        records.add(std::move(r));
    }
    return records;
}

int compare(const Records& a, const Records& b) {
    std::vector<std::string> skipped;
    const auto is_skipped = [&](const Record& r) {
        for (const std::string& prefix : skipped)
            if (r.name.starts_with(prefix)) return true;
        return false;
    };
    std::map<std::string, const Record*> others;
    for (const Records* side : {&a, &b})
        for (const Record& r : side->all())
            if (!r.skipped.empty()) {
                std::printf("%-58s skipped: %s\n", r.name.c_str(), r.skipped.c_str());
                skipped.push_back(r.name);
            }
    for (const Record& r : b.all())
        if (!is_skipped(r)) others[r.name] = &r;
    int differing = 0;
    for (const Record& r : a.all()) {
        if (is_skipped(r)) continue;
        const auto other = others.find(r.name);
        if (other == others.end()) {
            std::printf("%-58s DIFFERS: only in the first file\n", r.name.c_str());
            ++differing;
            continue;
        }
        if (!agree(r, *other->second)) ++differing;
        others.erase(other);
    }
    for (const auto& [name, record] : others) {
        std::printf("%-58s DIFFERS: only in the second file\n", name.c_str());
        ++differing;
    }
    return differing;
}

}  // namespace ballast::test
