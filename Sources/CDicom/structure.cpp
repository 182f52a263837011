#include "structure.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstring>

namespace sfmedir {

namespace {

[[noreturn]] void fail_truncated() {
    throw Failure{SFMEDIR_DICOM_TRUNCATED, "the file ends before its picture does"};
}

[[noreturn]] void fail_corrupt(const char *text) { throw Failure{SFMEDIR_DICOM_CORRUPT, text}; }

/// Value representations whose explicit header has two reserved bytes and a 32-bit length (PS3.5 table 7.1-1).
bool has_long_header(const char vr[2]) {
    static const char *const names[] = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"};
    return std::any_of(
        std::begin(names), std::end(names), [&](const char *name) { return memcmp(name, vr, 2) == 0; });
}

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

}  // namespace

uint16_t Structure::read16(size_t offset, bool big_endian) const {
    const uint8_t *p = bytes_ + offset;
    return big_endian ? uint16_t(p[0] << 8 | p[1]) : uint16_t(p[1] << 8 | p[0]);
}

uint32_t Structure::read32(size_t offset, bool big_endian) const {
    const uint32_t first = read16(offset, big_endian), second = read16(offset + 2, big_endian);
    return big_endian ? first << 16 | second : second << 16 | first;
}

Element Structure::element_at(size_t offset, size_t end, Encoding encoding) const {
    if (end - offset < 8) fail_truncated();
    Element element{};
    const bool big = encoding.big_endian;
    element.header_offset = offset;
    element.tag = uint32_t(read16(offset, big)) << 16 | read16(offset + 2, big);
    if (!encoding.explicit_vr || element.tag >> 16 == 0xFFFE) {
        element.length = read32(offset + 4, big);
        element.value_offset = offset + 8;
    } else {
        memcpy(element.vr, bytes_ + offset + 4, 2);
        if (!is_upper(element.vr[0]) || !is_upper(element.vr[1]))
            fail_corrupt("an element has no valid value representation");
        if (has_long_header(element.vr)) {
            if (end - offset < 12) fail_truncated();
            element.length = read32(offset + 8, big);
            element.value_offset = offset + 12;
        } else {
            element.length = read16(offset + 6, big);
            element.value_offset = offset + 8;
        }
    }
    element.undefined_length = element.length == 0xFFFFFFFF;
    if (!element.undefined_length && element.length > end - element.value_offset) fail_truncated();
    return element;
}

size_t Structure::skip_undefined(size_t offset, size_t end, bool starts_in_item, Encoding encoding) const {
    struct Level {
        bool in_item;
        Encoding encoding;
    };
    constexpr size_t maximum_depth = 64;
    std::vector<Level> levels{{starts_in_item, encoding}};
    while (!levels.empty()) {
        const Level level = levels.back();
        const Element element = element_at(offset, end, level.encoding);
        offset = element.value_offset;
        if (element.tag == (level.in_item ? item_end_tag : sequence_end_tag)) {
            if (element.length != 0) fail_corrupt("a delimiter has a length");
            levels.pop_back();
            continue;
        }
        if (level.in_item ? element.tag >> 16 == 0xFFFE : element.tag != item_tag)
            fail_corrupt("an item or a delimiter is out of place");
        if (!element.undefined_length) {
            offset += element.length;
            continue;
        }
        if (levels.size() == maximum_depth) fail_corrupt("sequences are nested too deeply");
        // A sequence of unknown representation is always implicit little endian inside (PS3.5 section 6.2.2).
        const bool unknown = level.in_item && element.has_vr("UN");
        levels.push_back({!level.in_item, unknown ? Encoding{false, false} : level.encoding});
    }
    return offset;
}

size_t Structure::after(const Element &element, size_t end) const {
    if (!element.undefined_length) return element.value_offset + element.length;
    const bool unknown = element.has_vr("UN");
    return skip_undefined(element.value_offset, end, false, unknown ? Encoding{false, false} : encoding_);
}

bool Structure::item(const Element &sequence, uint32_t index, size_t end, Range &found) const {
    if (sequence.has_vr("UN")) return false;
    size_t offset = sequence.value_offset;
    if (!sequence.undefined_length) end = offset + sequence.length;
    for (uint32_t i = 0; offset < end; i++) {
        const Element element = element_at(offset, end);
        if (element.tag == sequence_end_tag) return false;
        if (element.tag != item_tag) fail_corrupt("a sequence holds something that is not an item");
        const size_t begin = element.value_offset;
        const size_t next = element.undefined_length ? skip_undefined(begin, end, true, encoding_)
                                                     : begin + element.length;
        if (i == index) {
            // The delimiter of an open item is eight bytes long.
            found = {begin, element.undefined_length ? next - 8 : next};
            return true;
        }
        offset = next;
    }
    return false;
}

bool Structure::find(Range range, uint32_t tag, Element &found) const {
    for (size_t offset = range.begin; offset < range.end;) {
        const Element element = element_at(offset, range.end);
        if (element.tag == tag) {
            found = element;
            return true;
        }
        offset = after(element, range.end);
    }
    return false;
}

MetaInformation read_meta_information(const uint8_t *bytes, size_t size) {
    if (size < 132 || memcmp(bytes + 128, "DICM", 4) != 0)
        throw Failure{SFMEDIR_DICOM_NOT_DICOM, "the file is not a DICOM file"};
    const Structure meta(bytes, size, {true, false});
    MetaInformation information{"", 132};
    while (information.data_set_offset < size) {
        // The data set may be in another byte order, so the group is looked at before the header is believed.
        const size_t offset = information.data_set_offset;
        if (size - offset < 2) fail_truncated();
        if (bytes[offset] != 2 || bytes[offset + 1] != 0) break;
        const Element element = meta.element_at(offset, size);
        if (element.undefined_length) fail_corrupt("the file meta information has an open sequence");
        if (element.tag == 0x00020010) {
            if (element.length > 64) fail_corrupt("the transfer syntax is too long");
            const char *text = reinterpret_cast<const char *>(bytes + element.value_offset);
            std::string &uid = information.transfer_syntax_uid;
            uid.assign(text, element.length);
            while (!uid.empty() && (uid.back() == '\0' || uid.back() == ' ')) uid.pop_back();
            for (const char c : uid)
                if (c != '.' && (c < '0' || c > '9')) fail_corrupt("the transfer syntax is not a UID");
        }
        information.data_set_offset = meta.after(element, size);
    }
    if (information.transfer_syntax_uid.empty()) {
        if (information.data_set_offset >= size) fail_truncated();
        fail_corrupt("the file names no transfer syntax");
    }
    return information;
}

std::vector<uint8_t> inflate_data_set(const uint8_t *bytes, size_t size, uint64_t maximum_bytes) {
    struct Inflater {
        z_stream stream{};
        bool started = inflateInit2(&stream, -MAX_WBITS) == Z_OK;
        ~Inflater() {
            if (started) inflateEnd(&stream);
        }
    } inflater;
    if (!inflater.started) throw Failure{SFMEDIR_DICOM_OUT_OF_MEMORY, "zlib could not be started"};
    if (size > UINT32_MAX) throw Failure{SFMEDIR_DICOM_TOO_LARGE, "the deflated data set is too large"};
    std::vector<uint8_t> out;
    inflater.stream.next_in = const_cast<uint8_t *>(bytes);
    inflater.stream.avail_in = uInt(size);
    int state = Z_OK;
    while (state != Z_STREAM_END) {
        const size_t filled = out.size(), room = std::max<size_t>(65536, filled);
        if (filled > maximum_bytes)
            throw Failure{SFMEDIR_DICOM_TOO_LARGE, "the data set inflates to more than the limit"};
        out.resize(filled + room);
        inflater.stream.next_out = out.data() + filled;
        inflater.stream.avail_out = uInt(room);
        state = inflate(&inflater.stream, Z_NO_FLUSH);
        out.resize(filled + room - inflater.stream.avail_out);
        if (state == Z_BUF_ERROR || (state == Z_OK && inflater.stream.avail_in == 0 && inflater.stream.avail_out != 0))
            fail_truncated();
        if (state != Z_OK && state != Z_STREAM_END) fail_corrupt("the deflated data set is damaged");
    }
    return out;
}

}  // namespace sfmedir
