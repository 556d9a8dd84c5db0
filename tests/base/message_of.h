// The text of the UserError a call throws.
#pragma once

#include <string>

#include "base/error.h"

namespace ballast::test {

/// Empty when it throws none; other exceptions pass.
template <class Call>
std::string message_of(const Call& call) {
    try {
        call();
    } catch (const UserError& error) {
        return error.what();
    }
    return "";
}

}  // namespace ballast::test
