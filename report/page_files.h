// The files of report/page/, embedded in the program by embed_page.cmake.
#pragma once

#include <string_view>

namespace ballast::report {

extern const std::string_view kPageHtml, kPageStyle, kPageScript;

}  // namespace ballast::report
