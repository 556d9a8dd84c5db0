// Which documents of joined parts are left out because an earlier one has the same text, without copying the others.
//
// NAME.parts/left_out.h5 lists the runs of documents that are kept:
//   kept    i64 [runs + 1, 4]   rows of KeptRun; the last one is where the documents end
//   groups  u8                  counts of the documents left out, as in a token store
//   parts   (attribute)         what it was made of, see find_left_out()
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/hdf5_tokens.h"

namespace ballast::data {

/// Documents that follow one another in the parts and are kept, up to the next run's beginning in the joined store.
struct KeptRun {
    int64_t document, token;            ///< of its beginning, in the joined store
    int64_t part_document, part_token;  ///< of its beginning, counted over all documents of all parts
};

/// The file, mapped: it takes no memory of its own, and any number of processes share it.
class LeftOut {
  public:
    /// `part_offset(d)` says where document d of the parts begins, for d from 0 to `part_documents`. UserError when the
    /// file is missing, damaged, or of other parts.
    LeftOut(const std::string& path, int64_t part_documents, const std::function<int64_t(int64_t)>& part_offset);

    const std::string& path() const { return path_; }
    int64_t num_tokens() const { return runs_.back().token; }
    int64_t num_documents() const { return runs_.back().document; }
    const GroupCounts& groups() const { return groups_; }
    /// The run that has this document, or token, of the joined store. The run after it exists.
    const KeptRun& run_of_document(int64_t document) const;
    const KeptRun& run_of_token(int64_t token) const;
    std::string checksums() const { return checksums_of(path_); }
    static std::string checksums_of(const std::string& path);
    void verify() const;

  private:
    void check_runs(int64_t part_documents, const std::function<int64_t(int64_t)>& part_offset) const;

    std::string path_;
    Hdf5Reader file_;
    std::span<const KeptRun> runs_;
    GroupCounts groups_;
};

/// Of all documents in `parts` with the same hash, the first is kept; writes which ones to `path`. The result depends
/// on the parts and their order alone, so it does not matter which process calls this; nothing is done when `path`
/// already says it of these very parts. Memory as for find_duplicates(). `look` is called now and then and may throw.
void find_left_out(const std::string& path, const std::vector<std::string>& parts, const std::function<void()>& look);

}  // namespace ballast::data
