// Standard error as text.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "tests/base/temporary_folder.h"

namespace ballast::test {

/// What `write` puts on standard error, which is a file for that time.
template <class Write>
std::string standard_error_of(const Write& write) {
    const TemporaryFolder folder;
    std::fflush(stderr);
    const int saved = ::dup(STDERR_FILENO);
    const int file = ::open(folder.file("stderr").c_str(), O_WRONLY | O_CREAT, 0600);
    ::dup2(file, STDERR_FILENO);
    write();
    std::fflush(stderr);
    ::dup2(saved, STDERR_FILENO);
    ::close(saved);
    ::close(file);
    return bytes_of(folder.file("stderr"));
}

}  // namespace ballast::test
