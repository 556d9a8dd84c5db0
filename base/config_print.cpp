// The output functions of base/config_toml.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "base/config_toml.h"

namespace ballast {
namespace {

std::string toml_quoted(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f)
            out += c;
        else
            out += fmt::format("\\u{:04X}", static_cast<unsigned char>(c));
    }
    return out + '"';
}

std::string real(double value) {
    std::string text = fmt::format("{}", value);  // the shortest that reads back the same
    if (std::isfinite(value) && text.find_first_of(".e") == std::string::npos) text += ".0";
    return text;
}

/// A field's value as TOML.
struct ValueText {
    std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
    std::string operator()(const int64_t* value) const { return fmt::format("{}", *value); }
    std::string operator()(const double* value) const { return real(*value); }
    std::string operator()(const std::string* value) const { return toml_quoted(*value); }
    std::string operator()(const std::vector<int64_t>* values) const {
        return fmt::format("[{}]", fmt::join(*values, ", "));
    }
    std::string operator()(const std::vector<std::string>* values) const {
        std::vector<std::string> texts;
        std::transform(values->begin(), values->end(), std::back_inserter(texts), toml_quoted);
        return fmt::format("[{}]", fmt::join(texts, ", "));
    }
    std::string operator()(const EnumField& value) const {
        return toml_quoted(value.choices[static_cast<size_t>(value.index())]);
    }
};

struct Line {
    std::string name, value, help;
};

struct Section {
    std::string name, help;
    std::vector<Line> lines;
};

std::string limits(const Field& field) {
    if (const auto* choice = std::get_if<EnumField>(&field.value))
        return fmt::format(" ({})", fmt::join(choice->choices, " | "));
    const bool below = std::isfinite(field.bounds.min), above = std::isfinite(field.bounds.max);
    if (below && above) return fmt::format(" ({} … {})", field.bounds.min, field.bounds.max);
    if (below) return fmt::format(" (≥ {})", field.bounds.min);
    return above ? fmt::format(" (≤ {})", field.bounds.max) : "";
}

/// Gathers all fields; a section visited twice stays one.
class Collector : public FieldVisitor {
  public:
    std::vector<Section> sections;

    void section(std::string_view name, std::string_view help) override {
        const auto found =
            std::find_if(sections.begin(), sections.end(), [&](const Section& s) { return s.name == name; });
        current_ = static_cast<size_t>(found - sections.begin());
        if (found == sections.end()) sections.push_back({std::string(name), std::string(help), {}});
    }

  protected:
    void on_field(const Field& field) override {
        sections.at(current_).lines.push_back(
            {std::string(field.name), std::visit(ValueText{}, field.value), std::string(field.help) + limits(field)});
    }

  private:
    size_t current_ = 0;
};

std::vector<Section> collect(const VisitFields& visit) {
    Collector collector;
    visit(collector);
    return std::move(collector.sections);
}

}  // namespace

std::string config_detail::toml_text(const VisitFields& visit) {
    std::string text;
    for (const Section& section : collect(visit)) {
        if (!text.empty()) text += "\n";
        text += fmt::format("[{}]\n", section.name);
        for (const Line& line : section.lines) text += fmt::format("{} = {}\n", line.name, line.value);
    }
    return text;
}

std::vector<ConfigDifference> differing_lines(const std::string& left, const std::string& right) {
    std::vector<ConfigDifference> found;
    std::istringstream lefts(left), rights(right);
    std::string section, a, b;
    while (std::getline(lefts, a) && std::getline(rights, b)) {
        if (b.starts_with('[')) section = b;
        if (a != b) found.push_back({section, a, b});
    }
    return found;
}

std::string config_detail::table_text(const VisitFields& visit, const VisitFields& defaults) {
    const std::vector<Section> now = collect(visit), before = collect(defaults);
    size_t key_width = 0, value_width = 0;
    for (const Section& section : now) {
        for (const Line& line : section.lines) {
            key_width = std::max(key_width, section.name.size() + 1 + line.name.size());
            if (line.value.size() <= 40) value_width = std::max(value_width, line.value.size());
        }
    }
    std::string text;
    for (size_t s = 0; s < now.size(); ++s) {
        for (size_t i = 0; i < now[s].lines.size(); ++i) {
            const Line& line = now[s].lines[i];
            const std::string& original = before[s].lines[i].value;
            std::string row = fmt::format("{:<{}}  {}", now[s].name + "." + line.name, key_width, line.value);
            if (line.value != original) {
                row = fmt::format("{:<{}}  {:<{}}  * default {}", now[s].name + "." + line.name, key_width, line.value,
                                  value_width, original);
            }
            text += row + "\n";
        }
    }
    return text;
}

std::string config_detail::help_text(const VisitFields& visit) {
    std::string text;
    for (const Section& section : collect(visit)) {
        size_t width = 0;
        for (const Line& line : section.lines) width = std::max(width, line.name.size() + 3 + line.value.size());
        text += fmt::format("{}[{}]  {}\n", text.empty() ? "" : "\n", section.name, section.help);
        for (const Line& line : section.lines) {
            text +=
                fmt::format("  {:<{}}  {}\n", line.name + " = " + line.value, std::min<size_t>(width, 40), line.help);
        }
    }
    return text;
}

}  // namespace ballast
