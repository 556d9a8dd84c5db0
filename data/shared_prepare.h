// Text to tokens by any number of processes, on any number of machines that see the same folder.
#pragma once

#include <string>

#include "data/prepare.h"

namespace ballast::data {

/// What prepare() does for an output NAME.json (data/joined_parts.h): one token store an input file,
/// NAME.parts/00000.h5 … in the order of the files, and in the end the index NAME.json.
///
/// Processes started with the same inputs and options share the work, and nobody counts them: each takes by a lock a
/// file that has no store yet and that nobody is at, the largest first, until there is none, and waits for the others.
/// A store appears whole, under its name; what a killed process was at is taken up by another, or by the next start of
/// the same command. All return when the index is there. NAME.parts/plan.json holds what was asked for; UserError for a
/// process that asks for something else.
/// The documents and their order are those of one process's prepare(). A validation output is NAME.json too, of parts
/// of its own. Pipes are refused, ValidationBy::end, whose border nobody knows before all is tokenised, and
/// drop_duplicates.
PrepareResult prepare_shared(const Tokenizer& tokenizer, const PrepareOptions& options, ThreadPool& pool);

}  // namespace ballast::data
