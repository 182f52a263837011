#pragma once

#include "structure.hpp"

#include "dcmtk/config/osconfig.h"

#include "dcmtk/dcmdata/dcdatset.h"
#include "dcmtk/dcmdata/dcdeftag.h"

namespace sfmedir {

/// Keeps DCMTK from writing to standard error. Idempotent and thread-safe.
void silence_dcmtk();

/// Gathers the small attributes with the given tags (sorted) from a run of elements, and lets DCMTK interpret them.
/// Nothing nested and nothing longer than a few kilobytes reaches DCMTK.
class Attributes {
  public:
    /// Stops at `stop_tag` (0: at the end of the range), whose element is put into `stopped_at`.
    Attributes(
        const Structure &structure, Range range, const uint32_t *tags, size_t tag_count, uint32_t stop_tag = 0,
        Element *stopped_at = nullptr);

    /// False where the attribute is absent or empty.
    bool number(const DcmTagKey &key, double &value);
    bool unsigned16(const DcmTagKey &key, uint32_t &value);
    /// Leading and trailing spaces removed; at most `room` - 1 characters.
    void text(const DcmTagKey &key, char *into, size_t room);

  private:
    DcmDataset data_set_;
};

}  // namespace sfmedir
