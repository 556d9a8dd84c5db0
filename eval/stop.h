// Ctrl-C during an evaluation.
#pragma once

#include "base/error.h"
#include "base/interrupt.h"

namespace ballast::eval {

/// An evaluation has nothing to save.
inline void stop_if_interrupted() {
    if (interrupted()) throw RunError("interrupted before the end; nothing was written");
}

}  // namespace ballast::eval
