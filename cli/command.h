// Sub-commands and their options. CLI11 stands behind them in command.cpp and main.cpp alone: every file that includes
// its headers takes ten seconds more to compile.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace ballast {

/// One option of a command: a handle, which CLI11's application outlives. Every method changes the option and returns
/// it.
class Option {
  public:
    explicit Option(CLI::Option* option) : option_(option) {}

    Option required();
    /// The value it has now is its default in the help.
    Option capture_default_str();
    Option default_str(const std::string& text);
    Option description(const std::string& text);
    /// What the help calls its value, e.g. FILE.
    Option type_name(const std::string& name);
    /// The heading of the help that it stands under.
    Option group(const std::string& name);
    /// Several values in one argument, parted by `character`.
    Option delimiter(char character);
    /// Of several values each comes with the option's name.
    Option one_value_each();
    Option needs(const Option& other);
    Option excludes(const Option& other);

    Option positive();
    Option non_negative();
    Option in_range(int64_t smallest, int64_t largest);
    Option in_range_of_reals(double smallest, double largest);
    Option one_of(const std::vector<std::string>& values);
    /// `why_not` says what is wrong with a value; nothing when it is right.
    Option check(const std::function<std::string(std::string&)>& why_not, const std::string& type_name);

  private:
    CLI::Option* option_;
};

/// A command or sub-command: a handle, which CLI11's application outlives.
class Command {
  public:
    explicit Command(CLI::App& app) : app_(&app) {}

    Command add_subcommand(const std::string& name, const std::string& help) const;
    /// The command line has to name a sub-command.
    void require_subcommand() const;
    /// What the help ends with: an example.
    void footer(const std::string& text) const;
    /// What the command does, once its options are read.
    void callback(std::function<void()> run) const;
    /// How often the command line has the option `name`.
    size_t count(const std::string& name) const;
    /// What the command line says that differs from the defaults, in the order of the help and spelled as there; without
    /// the options in `except`.
    std::string settings(const std::vector<std::string>& except) const;

    /// An option that sets `value`, whose type is one of those at the end of command.cpp. "-o,--out" has two names;
    /// without dashes it is a positional argument.
    template <class T>
    Option add_option(const std::string& names, T& value, const std::string& help) const;
    /// "--yes,!--no" has a name for false too.
    Option add_flag(const std::string& names, bool& value, const std::string& help) const;
    /// `set` is called with the text.
    Option add_option_function(const std::string& names, const std::function<void(const std::string&)>& set,
                               const std::string& help) const;

  private:
    CLI::App* app_;
};

}  // namespace ballast
