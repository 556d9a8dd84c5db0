#include "base/json_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json_depth.h"

namespace ballast {
namespace {

/// Text that is not UTF-8 cannot be JSON; it shows as U+FFFD rather than ending a run.
template <class Json>
void write(const std::string& path, const Json& value) {
    write_file(path, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& source) {
    if (is_deep_json(text))
        throw UserError(fmt::format("{}: its JSON is nested too deeply; make the file again", source));
    try {
        return nlohmann::json::parse(text);
    } catch (const nlohmann::json::parse_error& error) {
        const size_t at = std::min(error.byte, text.size());
        const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
        throw UserError(fmt::format("{}:{}: not valid JSON (byte {}); make the file again", source, line, at));
    } catch (const nlohmann::json::out_of_range&) {  // 1e999
        throw UserError(
            fmt::format("{}: not valid JSON (a number beyond what a double holds); make the file again", source));
    }
}

nlohmann::json read_json_file(const std::string& path) { return parse_json(read_file(path), path); }

void write_json_file(const std::string& path, const nlohmann::json& value) { write(path, value); }

void write_json_file(const std::string& path, const nlohmann::ordered_json& value) { write(path, value); }

}  // namespace ballast
