// Edits of a valid HDF5 file through the library itself. A mutation of the file's bytes seldom gets past HDF5's
// checksums; an edited file is whole, and lies: other types, shapes, texts and numbers than its reader expects.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ballast::fuzz {

/// An edit has five bytes: what is done, to which object, and three choices (of a type, a shape, a value). The first
/// six are applied in turn to the file at `path`. One that HDF5 refuses changes nothing.
void edit_hdf5(const std::string& path, std::string_view edits);

/// For formats whose inputs are edits of valid.h5, which lies beside them: writes edited.h5 there, and returns its
/// path.
std::string write_edited(const std::string& edits_path);

/// The seeds of such formats: an object becomes itself, which HDF5 refuses.
std::vector<std::string> seeds_of_edits();

}  // namespace ballast::fuzz
