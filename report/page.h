// The HTML file: our page (report/page/) with the data in it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace ballast::report {

/// Text as HTML content or attribute value.
std::string html_escaped(std::string_view text);

/// JSON that is safe inside <script>: without "<", ">" or "&" (a sample may contain "</script>"), and without bytes
/// that are not UTF-8.
std::string script_json(const nlohmann::ordered_json& value);

/// The whole file.
std::string make_page(std::string_view title, const nlohmann::ordered_json& data);

}  // namespace ballast::report
