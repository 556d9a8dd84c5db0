#include "base/error.h"

#include <cerrno>
#include <cstring>
#include <fmt/format.h>

namespace ballast {

void require(bool ok, std::string_view message, std::source_location where) {
    if (ok) return;
    throw InternalError(
        fmt::format("{}:{}: in {}: {}", where.file_name(), where.line(), where.function_name(), message));
}

namespace {
std::string_view hint(int error) {
    switch (error) {
        case ENOSPC: return "; free some space or choose another folder";
        case EACCES:
        case EPERM: return "; check who may read or write it";
        case ENOENT:
        case ENOTDIR:
        case ENAMETOOLONG:
        case ELOOP: return "; check the path";
        case EISDIR: return "; name a file";
        case EROFS: return "; choose another folder";
        case EFBIG: return "; raise the limit on the size of files (ulimit -f)";
        default: return "";
    }
}
}  // namespace

void throw_errno(std::string_view action, std::string_view path) {
    const int error = errno;
    throw UserError(fmt::format("cannot {} {}: {}{}", action, path, std::strerror(error), hint(error)));
}

}  // namespace ballast
