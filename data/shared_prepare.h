// Converts text to tokens with any number of processes, on any number of machines that share a folder.
#pragma once

#include <string>

#include "data/prepare.h"

namespace ballast::data {

/// The work of prepare() for an output NAME.json (data/joined_parts.h): one token store per input file,
/// NAME.parts/00000.h5 … in the order of the files, and at the end the index NAME.json.
///
/// Processes started with the same inputs and options share the work; their number need not be known. Each process
/// locks a file that has no store yet and that no other process works on, the largest first, until there is none. Then
/// it waits for the others. A store appears under its name only when complete. The work of a killed process is taken
/// over by another one, or by the next start of the same command. All processes return when the index exists.
/// NAME.parts/plan.json holds the inputs and options; UserError for a process with different ones, and when an input is
/// not what its part was made of. The documents and
/// their order are those of prepare() in one process. A validation output is a NAME.json too, with its own parts. With
/// drop_duplicates the stores keep all documents and their hashes; when all are there, one process finds the duplicates
/// among them and writes NAME.parts/left_out.h5, which the index names (data/left_out.h). Not supported: pipes;
/// ValidationBy::end, whose border is only known after all inputs are tokenised.
PrepareResult prepare_shared(const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool);

}  // namespace ballast::data
