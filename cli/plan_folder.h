// A folder of plans, plan_00.json, …: the set that one search found.
#pragma once

#include <string>
#include <vector>

#include "moa/optimise.h"

namespace ballast {

/// Replaced as a whole: plans of two searches side by side would be validated as if they were of one profile and
/// density.
class PlanFolder {
  public:
    explicit PlanFolder(const std::string& path);

    /// Makes the folder where it is missing. UserError, before the search and not after it, for one that write() cannot
    /// replace: there is something else in it, or it cannot be renamed.
    void prepare() const;
    /// The plans are written to PATH.part, which is then renamed. Whatever interrupts this, PATH is the old set or the
    /// new one, or is missing, and the new one is in PATH.part.
    void write(const std::vector<moa::PlanCandidate>& plans) const;

  private:
    std::string path_, aside_, old_;
};

}  // namespace ballast
