// Reads a text field, and the name of its group, from a line of JSON in the way of Python's json module.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "data/utf8.h"

namespace ballast::data {

/// The state of the text field in a line.
enum class TextField : uint8_t {
    found,
    missing,  ///< no such field, or null
};

/// Stores the text of the field `key` of the object `line` in `text`; of repeated fields the last counts. The other
/// fields are only skipped: NaN, Infinity, numbers of any size and any depth of nesting are accepted, as in Python.
/// `line` is valid UTF-8. Halves of surrogate pairs (\ud800), which are not characters, are treated by `policy`.
/// UserError, naming the byte, when the line is not a JSON object or the field is not text. `group` becomes the text of
/// the field `group_key`, or of "outer.inner" for a field of a nested object; empty when there is none.
TextField text_of_json_line(std::string_view line, std::string_view key, InvalidUtf8 policy, std::string& text,
                            std::string_view group_key, std::string& group);
TextField text_of_json_line(std::string_view line, std::string_view key, InvalidUtf8 policy, std::string& text);

}  // namespace ballast::data
