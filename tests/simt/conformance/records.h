// What the wrappers gave on one machine, as a text file, and the comparison of two of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace ballast::test {

/// How far two machines' values may lie apart.
enum class Agreement {
    exact,     ///< every bit: data movement, conversions, integers
    relative,  ///< f32, |a - b| <= bound * the record's root mean square: sums whose order is the hardware's
    ulp,       ///< f32, at most `bound` units in the last place: functions the hardware approximates
};

struct Record {
    std::string name;
    Agreement agreement = Agreement::exact;
    double bound = 0;
    std::vector<uint32_t> words;
    std::string skipped;  ///< why this machine has no words
};

class Records {
  public:
    template <class T>
    void exact(const std::string& name, const std::vector<T>& values) {
        add({name, Agreement::exact, 0, words_of(values), ""});
    }
    void relative(const std::string& name, double bound, const std::vector<float>& values) {
        add({name, Agreement::relative, bound, words_of(values), ""});
    }
    void ulp(const std::string& name, double bound, const std::vector<float>& values) {
        add({name, Agreement::ulp, bound, words_of(values), ""});
    }
    /// What would be recorded under names that begin so is not to be had here.
    void skip(const std::string& prefix, const std::string& why) { add({prefix, Agreement::exact, 0, {}, why}); }
    /// Names of what follows begin with `prefix`.
    void begin_group(const std::string& prefix) { prefix_ = prefix; }

    const std::vector<Record>& all() const { return records_; }
    void write(const std::string& path) const;
    /// Throws std::runtime_error naming the line that cannot be read.
    static Records read(const std::string& path);

  private:
    void add(Record record) {
        record.name.insert(0, prefix_);
        records_.push_back(std::move(record));
    }
    /// The bytes, padded with zeros to whole words.
    template <class T>
    static std::vector<uint32_t> words_of(const std::vector<T>& values) {
        const size_t bytes = values.size() * sizeof(T);
        std::vector<uint32_t> words((bytes + 3) / 4);
        if (bytes > 0) std::memcpy(words.data(), static_cast<const void*>(values.data()), bytes);
        return words;
    }

    std::string prefix_;
    std::vector<Record> records_;
};

/// Prints a line a record and returns how many disagree. What either side skipped is named and does not count.
int compare(const Records& a, const Records& b);

}  // namespace ballast::test
