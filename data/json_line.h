// One text field out of a line of JSON, and what the text is of, read as Python's json module reads it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "data/utf8.h"

namespace ballast::data {

/// What a line says about its text.
enum class TextField : uint8_t {
    found,
    missing,  ///< no such field, or null
};

/// Puts the text of the field `key` of the object `line` into `text`; of repeated fields the last counts. The other
/// fields are only stepped over: NaN, Infinity, numbers of any size and any depth of nesting are let pass, as Python
/// does. `line` is valid UTF-8. Halves of surrogate pairs (\ud800), which are no characters, are treated by `policy`.
/// UserError, naming the byte, when the line is not a JSON object or the field holds something other than text.
/// `group` becomes the text of the field `group_key`, "outer.inner" for one of an object in the object; empty where
/// there is none.
TextField text_of_json_line(std::string_view line, std::string_view key, InvalidUtf8 policy, std::string& text,
                            std::string_view group_key, std::string& group);
TextField text_of_json_line(std::string_view line, std::string_view key, InvalidUtf8 policy, std::string& text);

}  // namespace ballast::data
