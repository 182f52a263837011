#include "attributes.hpp"

#include "dcmtk/dcmdata/dcistrmb.h"
#include "dcmtk/oflog/oflog.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sfmedir {

void silence_dcmtk() {
    static const bool once = [] {
        OFLog::configure(OFLogger::OFF_LOG_LEVEL);
        return true;
    }();
    (void)once;
}

Attributes::Attributes(
    const Structure &structure, Range range, const uint32_t *tags, size_t tag_count, uint32_t stop_tag,
    Element *stopped_at) {
    constexpr uint32_t maximum_value_bytes = 4096;
    std::vector<uint8_t> flat;
    uint32_t previous = 0;
    size_t offset = range.begin;
    while (offset < range.end) {
        const Element element = structure.element_at(offset, range.end);
        if (element.tag == stop_tag && stop_tag != 0) {
            *stopped_at = element;
            break;
        }
        if (element.tag >> 16 == 0xFFFE)
            throw Failure{SFMEDIR_DICOM_CORRUPT, "an item or a delimiter is out of place"};
        const size_t next = structure.after(element, range.end);
        if (std::binary_search(tags, tags + tag_count, element.tag)) {
            if (element.undefined_length || element.has_vr("SQ") || element.length > maximum_value_bytes
                || element.tag <= previous)
                throw Failure{SFMEDIR_DICOM_CORRUPT, "an attribute of the picture is malformed or repeated"};
            previous = element.tag;
            flat.insert(flat.end(), structure.bytes() + offset, structure.bytes() + next);
        }
        offset = next;
    }
    if (flat.empty()) return;
    // DCMTK's buffer streams take an even number of bytes.
    if (flat.size() % 2 != 0) throw Failure{SFMEDIR_DICOM_CORRUPT, "an attribute has an odd length"};
    const Encoding encoding = structure.encoding();
    const E_TransferSyntax transfer_syntax = !encoding.explicit_vr ? EXS_LittleEndianImplicit
                                             : encoding.big_endian ? EXS_BigEndianExplicit
                                                                   : EXS_LittleEndianExplicit;
    DcmInputBufferStream stream;
    stream.setBuffer(flat.data(), offile_off_t(flat.size()));
    stream.setEos();
    data_set_.transferInit();
    const OFCondition condition = data_set_.read(stream, transfer_syntax, EGL_noChange, DCM_MaxReadLength);
    data_set_.transferEnd();
    if (condition.bad())
        throw Failure{SFMEDIR_DICOM_CORRUPT, std::string("the attributes do not parse: ") + condition.text()};
}

bool Attributes::number(const DcmTagKey &key, double &value) {
    OFString text;
    Float64 found = 0;
    // Where several values stand (as with windows), the first counts.
    if (data_set_.findAndGetOFString(key, text, 0).bad() || text.empty()) return false;
    if (data_set_.findAndGetFloat64(key, found, 0).bad()) {
        // Integer strings and binary integers are not floats to DCMTK.
        char *end = nullptr;
        found = std::strtod(text.c_str(), &end);
        while (*end == ' ') end++;
        if (end == text.c_str() || *end != '\0')
            throw Failure{SFMEDIR_DICOM_CORRUPT, "an attribute that should be a number is not"};
    }
    if (!std::isfinite(found)) throw Failure{SFMEDIR_DICOM_CORRUPT, "an attribute is not a finite number"};
    value = found;
    return true;
}

bool Attributes::unsigned16(const DcmTagKey &key, uint32_t &value) {
    Uint16 found = 0;
    if (data_set_.findAndGetUint16(key, found, 0).bad()) return false;
    value = found;
    return true;
}

void Attributes::text(const DcmTagKey &key, char *into, size_t room) {
    OFString found;
    into[0] = '\0';
    if (data_set_.findAndGetOFString(key, found, 0).bad()) return;
    size_t begin = 0, end = found.size();
    while (end > begin && (found[end - 1] == ' ' || found[end - 1] == '\0')) end--;
    while (begin < end && found[begin] == ' ') begin++;
    const size_t count = std::min(end - begin, room - 1);
    for (size_t i = 0; i < count; i++) {
        const char c = found[begin + i];
        into[i] = c >= 0x20 && c < 0x7F ? c : '?';
    }
    into[count] = '\0';
}

}  // namespace sfmedir
