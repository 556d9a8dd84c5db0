#include "cli/command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <utility>

namespace ballast {

Option Option::required() {
    option_->required();
    return *this;
}

Option Option::capture_default_str() {
    option_->capture_default_str();
    return *this;
}

Option Option::default_str(const std::string& text) {
    option_->default_str(text);
    return *this;
}

Option Option::description(const std::string& text) {
    option_->description(text);
    return *this;
}

Option Option::type_name(const std::string& name) {
    option_->type_name(name);
    return *this;
}

Option Option::group(const std::string& name) {
    option_->group(name);
    return *this;
}

Option Option::delimiter(char character) {
    option_->delimiter(character);
    return *this;
}

Option Option::one_value_each() {
    option_->allow_extra_args(false);
    return *this;
}

Option Option::needs(const Option& other) {
    option_->needs(other.option_);
    return *this;
}

Option Option::excludes(const Option& other) {
    option_->excludes(other.option_);
    return *this;
}

Option Option::positive() {
    option_->check(CLI::PositiveNumber);
    return *this;
}

Option Option::non_negative() {
    option_->check(CLI::NonNegativeNumber);
    return *this;
}

Option Option::in_range(int64_t smallest, int64_t largest) {
    option_->check(CLI::Range(smallest, largest));
    return *this;
}

Option Option::in_range_of_reals(double smallest, double largest) {
    option_->check(CLI::Range(smallest, largest));
    return *this;
}

Option Option::one_of(const std::vector<std::string>& values) {
    option_->check(CLI::IsMember(values));
    return *this;
}

Option Option::check(const std::function<std::string(std::string&)>& why_not, const std::string& type_name) {
    option_->check(CLI::Validator(why_not, type_name));
    return *this;
}

Command Command::add_subcommand(const std::string& name, const std::string& help) const {
    return Command(*app_->add_subcommand(name, help));
}

void Command::require_subcommand() const { app_->require_subcommand(1); }

void Command::footer(const std::string& text) const { app_->footer(text); }

void Command::callback(std::function<void()> run) const { app_->callback(std::move(run)); }

size_t Command::count(const std::string& name) const { return app_->count(name); }

std::string Command::settings(const std::vector<std::string>& except) const {
    std::string out;
    for (const CLI::Option* option : app_->get_options()) {
        const std::string name = option->get_name();
        if (option->count() == 0 || std::ranges::find(except, name) != except.end()) continue;
        const std::string value = CLI::detail::join(option->results(), " ");
        if (value == option->get_default_str()) continue;
        out += (out.empty() ? "" : " ") + name + " " + value;
    }
    return out;
}

template <class T>
Option Command::add_option(const std::string& names, T& value, const std::string& help) const {
    return Option(app_->add_option(names, value, help));
}

Option Command::add_flag(const std::string& names, bool& value, const std::string& help) const {
    return Option(app_->add_flag(names, value, help));
}

Option Command::add_option_function(const std::string& names, const std::function<void(const std::string&)>& set,
                                    const std::string& help) const {
    return Option(app_->add_option_function<std::string>(names, set, help));
}

template Option Command::add_option(const std::string&, std::string&, const std::string&) const;
template Option Command::add_option(const std::string&, int&, const std::string&) const;
template Option Command::add_option(const std::string&, int64_t&, const std::string&) const;
template Option Command::add_option(const std::string&, uint64_t&, const std::string&) const;
template Option Command::add_option(const std::string&, double&, const std::string&) const;
template Option Command::add_option(const std::string&, std::vector<std::string>&, const std::string&) const;
template Option Command::add_option(const std::string&, std::vector<int>&, const std::string&) const;
template Option Command::add_option(const std::string&, std::vector<int64_t>&, const std::string&) const;

}  // namespace ballast
