// The recorder's log: what a program did to the files below one folder, in order. One header an operation, then its
// path, its second path or its bytes.
#pragma once

#include <cstdint>

namespace ballast::faults {

enum class Kind : uint32_t {
    create,       // path, file: a new regular file
    open,         // path, file: one that was there
    write,        // file, offset, bytes
    resize,       // file, offset: its new length
    sync,         // file
    sync_folder,  // path
    rename,       // path, second path
    remove,       // path of a file or an empty folder
    make_folder,  // path
};

struct Header {
    Kind kind;
    uint32_t file;  // a number for each file, whatever it is called
    uint64_t offset;
    uint32_t path_bytes;   // relative to the folder
    uint64_t other_bytes;  // of the second path, or of what was written
};

}  // namespace ballast::faults
