// What the wrappers gave on one machine, as a text file that grows record by record, and the comparison of two of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>
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

/// What files of simt_conformance hold.
struct Records {
    std::vector<Record> whole;
    std::set<std::string> interrupted;  ///< records that were begun, and whose end is not there

    /// Adds a file's records. Throws std::runtime_error when it is none of simt_conformance's.
    void read(const std::string& path);
};

/// Runs what is recorded and writes it at once: the record's name before it runs, its values when they are there. So a
/// program that is killed by what it runs leaves every record before, and the name of the one that killed it.
class Recorder {
  public:
    /// Goes on with the file at `path`: records that it holds, and those that ended the program, are not run again.
    explicit Recorder(const std::string& path);

    /// `values` is a function that runs kernels and returns a vector.
    template <class Values>
    void exact(const std::string& name, const Values& values) {
        run({name, Agreement::exact, 0, {}, ""}, [&] { return words_of(values()); });
    }
    template <class Values>
    void relative(const std::string& name, double bound, const Values& values) {
        run({name, Agreement::relative, bound, {}, ""}, [&] { return words_of(values()); });
    }
    template <class Values>
    void ulp(const std::string& name, double bound, const Values& values) {
        run({name, Agreement::ulp, bound, {}, ""}, [&] { return words_of(values()); });
    }
    /// Nothing of the group that has begun is to be had here.
    void skip(const std::string& why);
    /// Names of what follows begin with `group` and a colon.
    void begin_group(const std::string& group) { prefix_ = group + ": "; }

    size_t written() const { return written_; }
    /// The record that runs, empty between records.
    const std::string& running() const { return running_; }

  private:
    using Words = std::vector<uint32_t>;

    void run(Record record, const std::function<Words()>& words);
    void write(const std::string& text);
    /// The bytes, padded with zeros to whole words.
    template <class T>
    static Words words_of(const std::vector<T>& values) {
        const size_t bytes = values.size() * sizeof(T);
        Words words((bytes + 3) / 4);
        if (bytes > 0) std::memcpy(words.data(), static_cast<const void*>(values.data()), bytes);
        return words;
    }

    std::string path_, prefix_, running_;
    std::set<std::string> known_;
    std::ofstream out_;
    size_t written_ = 0;
};

/// Prints a line a record of `expected`, those that `got` lacks as MISSING, and a summary. Returns how many do not
/// agree; what either side skipped is named and does not count.
int compare(const Records& expected, const Records& got);

}  // namespace ballast::test
