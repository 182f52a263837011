#pragma once

#include "include/cdicom.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// The layout of a DICOM file: which element lies where (PS3.5 section 7, PS3.10 section 7). Iterative and bounded.

namespace sfmedir {

/// Thrown inside the target only; every extern "C" function turns it into a status.
struct Failure {
    SfmedirDicomStatus status;
    std::string text;
};

struct Encoding {
    bool explicit_vr;
    bool big_endian;
};

struct Element {
    uint32_t tag;  // group << 16 | element
    char vr[2];    // zeros where the encoding carries none
    uint32_t length;
    bool undefined_length;
    size_t header_offset;
    size_t value_offset;

    bool has_vr(const char *name) const { return vr[0] == name[0] && vr[1] == name[1]; }
};

/// A part of the data set: a run of elements or items.
struct Range {
    size_t begin;
    size_t end;
};

constexpr uint32_t item_tag = 0xFFFEE000, item_end_tag = 0xFFFEE00D, sequence_end_tag = 0xFFFEE0DD;

class Structure {
  public:
    Structure(const uint8_t *bytes, size_t size, Encoding encoding)
        : bytes_(bytes), size_(size), encoding_(encoding) {}

    const uint8_t *bytes() const { return bytes_; }
    size_t size() const { return size_; }
    Encoding encoding() const { return encoding_; }

    /// The element whose header starts at `offset`. Its header, and its value where the length is defined, lie
    /// before `end`.
    Element element_at(size_t offset, size_t end) const { return element_at(offset, end, encoding_); }
    /// The offset after the element, nested items and all.
    size_t after(const Element &element, size_t end) const;
    /// The elements of item `index` of a sequence; false where it has no such item.
    bool item(const Element &sequence, uint32_t index, size_t end, Range &found) const;
    /// The first element with this tag in a run of elements; false where there is none.
    bool find(Range range, uint32_t tag, Element &found) const;

  private:
    Element element_at(size_t offset, size_t end, Encoding encoding) const;
    /// Walks from inside an open sequence or item to just after its delimiter.
    size_t skip_undefined(size_t offset, size_t end, bool starts_in_item, Encoding encoding) const;
    uint16_t read16(size_t offset, bool big_endian) const;
    uint32_t read32(size_t offset, bool big_endian) const;

    const uint8_t *bytes_;
    size_t size_;
    Encoding encoding_;
};

/// What the file meta information says.
struct MetaInformation {
    std::string transfer_syntax_uid;
    size_t data_set_offset;
};
MetaInformation read_meta_information(const uint8_t *bytes, size_t size);

/// Inflates a deflated data set (PS3.5 A.5), refusing more than `maximum_bytes`.
std::vector<uint8_t> inflate_data_set(const uint8_t *bytes, size_t size, uint64_t maximum_bytes);

}  // namespace sfmedir
