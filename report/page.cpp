#include "report/page.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "report/page_files.h"

namespace ballast::report {
namespace {

/// `text` with `mark`, which stands in it once, replaced.
void fill(std::string& text, std::string_view mark, std::string_view with) {
    const size_t at = text.find(mark);
    require(at != std::string::npos, "the page lost one of its marks");
    text.replace(at, mark.size(), with);
}

}  // namespace

std::string html_escaped(std::string_view text) {
    std::string out;
    for (char c : text) switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            case '\'': out += "&#39;"; break;
            default: out += c;
        }
    return out;
}

std::string script_json(const nlohmann::ordered_json& value) {
    std::string out;
    for (char c : value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)) switch (c) {
            case '<': out += "\\u003c"; break;  // in JSON these three occur in strings only
            case '>': out += "\\u003e"; break;
            case '&': out += "\\u0026"; break;
            default: out += c;
        }
    return out;
}

std::string make_page(std::string_view title, const nlohmann::ordered_json& data) {
    std::string page(kPageHtml);
    fill(page, "/*STYLE*/", kPageStyle);  // ours first, so that no text of a run can be taken for a mark
    fill(page, "/*SCRIPT*/", kPageScript);
    const size_t at = page.find("<!--DATA-->");
    require(at != std::string::npos, "the page lost the place of its data");
    page.replace(at, 11, script_json(data));
    fill(page, "<!--TITLE-->", html_escaped(title));
    return page;
}

}  // namespace ballast::report
