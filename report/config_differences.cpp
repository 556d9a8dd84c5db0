#include "report/config_differences.h"

#include <algorithm>

namespace ballast::report {
namespace {

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t\r"), end = text.find_last_not_of(" \t\r");
    return begin == std::string_view::npos ? std::string_view() : text.substr(begin, end - begin + 1);
}

std::string section_of(const std::string& field) { return field.substr(0, field.rfind('.')); }

/// Where `field` stands among the rows; a new one comes after the last of its section.
ConfigRow& row_of(std::vector<ConfigRow>& rows, const std::string& field, size_t runs) {
    const auto found = std::find_if(rows.begin(), rows.end(), [&](const ConfigRow& row) { return row.field == field; });
    if (found != rows.end()) return *found;
    const auto last = std::find_if(rows.rbegin(), rows.rend(),
                                   [&](const ConfigRow& row) { return section_of(row.field) == section_of(field); });
    const auto place = last == rows.rend() ? rows.end() : last.base();
    return *rows.insert(place, {field, std::vector<std::optional<std::string>>(runs), false});
}

}  // namespace

ConfigFields config_fields(std::string_view toml) {
    ConfigFields fields;
    std::string section;
    while (!toml.empty()) {
        const size_t end = std::min(toml.find('\n'), toml.size());
        const std::string_view line = trimmed(toml.substr(0, end));
        toml.remove_prefix(std::min(end + 1, toml.size()));
        const size_t equals = line.find('=');
        if (line.starts_with('[') && line.ends_with(']'))
            section = std::string(line.substr(1, line.size() - 2)) + ".";
        else if (!line.starts_with('#') && equals != std::string_view::npos)
            fields.emplace_back(section + std::string(trimmed(line.substr(0, equals))),
                                trimmed(line.substr(equals + 1)));
    }
    return fields;
}

std::vector<ConfigRow> compare_configs(const std::vector<ConfigFields>& runs) {
    std::vector<ConfigRow> rows;
    for (size_t run = 0; run < runs.size(); ++run)
        for (const auto& [field, value] : runs[run]) row_of(rows, field, runs.size()).values[run] = value;
    for (ConfigRow& row : rows)
        row.differs =
            std::any_of(row.values.begin(), row.values.end(), [&](const auto& v) { return v != row.values[0]; });
    return rows;
}

}  // namespace ballast::report
