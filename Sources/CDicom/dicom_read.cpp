#include "attributes.hpp"

#include "dcmtk/dcmdata/dcxfer.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>

// Rounding must not depend on whether the machine fuses multiplications with additions.
#pragma clang fp contract(off)

using namespace sfmedir;

struct SfmedirDicomFile {
    std::vector<uint8_t> inflated;
    Structure structure{nullptr, 0, {true, false}};
    SfmedirDicomInformation information{};
    Range data_set{};
    SfmedirDicomFrame common{};
    bool has_functional_groups = false;
    /// 1 where the three samples of a colour pixel lie in planes of their own.
    uint32_t planar = 0;
    size_t pixels_offset = 0;
    size_t frame_bytes = 0;
    /// An 8-bit picture written as 16-bit words in big endian order has its bytes swapped in pairs.
    bool swapped_pairs = false;

    enum class Layout { gray, rgb, ybr_full, ybr_full_422 } layout = Layout::gray;
};

namespace {

using Layout = SfmedirDicomFile::Layout;

constexpr uint32_t tag(const uint16_t group, const uint16_t element) { return uint32_t(group) << 16 | element; }
constexpr uint32_t pixel_data_tag = tag(0x7FE0, 0x0010), shared_groups_tag = tag(0x5200, 0x9229),
                   frame_groups_tag = tag(0x5200, 0x9230), pixel_transformation_tag = tag(0x0028, 0x9145),
                   frame_window_tag = tag(0x0028, 0x9132), modality_lut_tag = tag(0x0028, 0x3000);

// Sorted, as Attributes wants them.
const uint32_t picture_tags[] = {
    tag(0x0008, 0x0060), tag(0x0028, 0x0002), tag(0x0028, 0x0004), tag(0x0028, 0x0006), tag(0x0028, 0x0008),
    tag(0x0028, 0x0010), tag(0x0028, 0x0011), tag(0x0028, 0x0100), tag(0x0028, 0x0101), tag(0x0028, 0x0102),
    tag(0x0028, 0x0103), tag(0x0028, 0x1050), tag(0x0028, 0x1051), tag(0x0028, 0x1052), tag(0x0028, 0x1053),
    tag(0x0028, 0x1056)};
const uint32_t value_tags[] = {
    tag(0x0028, 0x1050), tag(0x0028, 0x1051), tag(0x0028, 0x1052), tag(0x0028, 0x1053), tag(0x0028, 0x1056)};

[[noreturn]] void fail(SfmedirDicomStatus status, const std::string &text) { throw Failure{status, text}; }

/// Runs `body` and turns whatever it throws into a status and a sentence.
template <typename Body> SfmedirDicomStatus guarded(SfmedirDicomMessage *message, Body body) noexcept {
    const auto report = [&](SfmedirDicomStatus status, const char *text) {
        snprintf(message->text, sizeof message->text, "%s", text);
        return status;
    };
    try {
        body();
        return SFMEDIR_DICOM_OK;
    } catch (const Failure &failure) {
        return report(failure.status, failure.text.c_str());
    } catch (const std::bad_alloc &) {
        return report(SFMEDIR_DICOM_OUT_OF_MEMORY, "there is no memory for the picture");
    } catch (...) {
        return report(SFMEDIR_DICOM_CORRUPT, "the file does not parse");
    }
}

/// Overrides what the attributes mention; a window of no width is as good as none.
void read_value_attributes(Attributes &attributes, SfmedirDicomFrame &frame) {
    attributes.number(DCM_RescaleSlope, frame.slope);
    attributes.number(DCM_RescaleIntercept, frame.intercept);
    double center = 0, width = 0;
    if (!attributes.number(DCM_WindowCenter, center) || !attributes.number(DCM_WindowWidth, width)) return;
    char function[17];
    attributes.text(DCM_VOILUTFunction, function, sizeof function);
    frame.window_function = strcmp(function, "LINEAR_EXACT") == 0 ? 1 : strcmp(function, "SIGMOID") == 0 ? 2 : 0;
    frame.window_center = center;
    frame.window_width = width;
    frame.has_window = frame.window_function == 0 ? width >= 1 : width > 0;
}

Encoding read_transfer_syntax(const std::string &uid, SfmedirDicomInformation &information) {
    const DcmXfer transfer_syntax(uid.c_str());
    snprintf(information.transfer_syntax_uid, sizeof information.transfer_syntax_uid, "%s", uid.c_str());
    const bool known = transfer_syntax.getXfer() != EXS_Unknown;
    const char *name = known ? transfer_syntax.getXferName() : "unknown";
    snprintf(information.transfer_syntax_name, sizeof information.transfer_syntax_name, "%s", name);
    switch (transfer_syntax.getXfer()) {
    case EXS_LittleEndianImplicit: return {false, false};
    case EXS_LittleEndianExplicit:
    case EXS_DeflatedLittleEndianExplicit: return {true, false};
    case EXS_BigEndianExplicit: return {true, true};
    default: fail(SFMEDIR_DICOM_UNSUPPORTED, std::string("transfer syntax ") + name + " (" + uid + ")");
    }
}

void read_information(SfmedirDicomFile &file, Attributes &attributes) {
    SfmedirDicomInformation &information = file.information;
    attributes.text(DCM_Modality, information.modality, sizeof information.modality);
    attributes.text(
        DCM_PhotometricInterpretation, information.photometric_interpretation,
        sizeof information.photometric_interpretation);
    if (!attributes.unsigned16(DCM_Rows, information.rows)
        || !attributes.unsigned16(DCM_Columns, information.columns)
        || !attributes.unsigned16(DCM_BitsAllocated, information.bits_allocated))
        fail(SFMEDIR_DICOM_CORRUPT, "the size of the picture is missing");
    information.samples_per_pixel = 1;
    attributes.unsigned16(DCM_SamplesPerPixel, information.samples_per_pixel);
    information.bits_stored = information.bits_allocated;
    attributes.unsigned16(DCM_BitsStored, information.bits_stored);
    information.high_bit = information.bits_stored - 1;
    attributes.unsigned16(DCM_HighBit, information.high_bit);
    attributes.unsigned16(DCM_PixelRepresentation, information.is_signed);
    attributes.unsigned16(DCM_PlanarConfiguration, file.planar);
    double frames = 1;
    attributes.number(DCM_NumberOfFrames, frames);
    if (!(frames >= 1 && frames <= 1e9 && frames == std::floor(frames)))
        fail(SFMEDIR_DICOM_CORRUPT, "the number of frames makes no sense");
    information.frames = uint32_t(frames);
}

void read_layout(SfmedirDicomFile &file) {
    const SfmedirDicomInformation &information = file.information;
    const std::string photometric = information.photometric_interpretation;
    if (photometric == "MONOCHROME1" || photometric == "MONOCHROME2")
        file.layout = Layout::gray;
    else if (photometric == "RGB")
        file.layout = Layout::rgb;
    else if (photometric == "YBR_FULL")
        file.layout = Layout::ybr_full;
    else if (photometric == "YBR_FULL_422")
        file.layout = Layout::ybr_full_422;
    else
        fail(SFMEDIR_DICOM_UNSUPPORTED, "photometric interpretation \"" + photometric + "\"");
    if (information.samples_per_pixel != (file.layout == Layout::gray ? 1 : 3) || information.is_signed > 1
        || file.planar > 1)
        fail(SFMEDIR_DICOM_CORRUPT, "the attributes of the picture contradict each other");
    const uint32_t allocated = information.bits_allocated, stored = information.bits_stored;
    if (allocated != 8 && allocated != 16)
        fail(SFMEDIR_DICOM_UNSUPPORTED, std::to_string(allocated) + " bits allocated per sample");
    if (stored < 1 || stored > allocated || information.high_bit >= allocated || information.high_bit + 1 < stored)
        fail(SFMEDIR_DICOM_CORRUPT, "the bits stored do not fit the bits allocated");
    if (file.layout != Layout::gray && (information.is_signed || information.high_bit + 1 != stored))
        fail(SFMEDIR_DICOM_UNSUPPORTED, "colour samples that are signed or shifted");
    if (file.layout == Layout::ybr_full_422 && (information.columns % 2 != 0 || file.planar != 0))
        fail(SFMEDIR_DICOM_CORRUPT, "subsampled colour needs an even width and interleaved samples");
}

void check_size(SfmedirDicomFile &file, const SfmedirDicomLimits &limits) {
    const SfmedirDicomInformation &information = file.information;
    if (information.rows == 0 || information.columns == 0)
        fail(SFMEDIR_DICOM_NO_PIXELS, "the picture has no pixels");
    // 16-bit sides and at most 1e9 frames of at most 6 bytes a pixel: far below 2^64.
    const uint64_t pixels = uint64_t(information.rows) * information.columns;
    if (information.rows > limits.maximum_side || information.columns > limits.maximum_side
        || pixels > limits.maximum_pixels || pixels * information.frames > limits.maximum_total_pixels)
        fail(SFMEDIR_DICOM_TOO_LARGE, "the picture is larger than the limit");
    const uint32_t samples = file.layout == Layout::ybr_full_422 ? 2 : information.samples_per_pixel;
    file.frame_bytes = pixels * samples * (information.bits_allocated / 8);
}

void locate_pixels(SfmedirDicomFile &file, const Element &pixel_data) {
    if (pixel_data.undefined_length)
        fail(SFMEDIR_DICOM_CORRUPT, "the pixels are encapsulated although the transfer syntax is uncompressed");
    const SfmedirDicomInformation &information = file.information;
    if (uint64_t(file.frame_bytes) * information.frames > pixel_data.length)
        fail(SFMEDIR_DICOM_TRUNCATED, "the pixel data is shorter than the size of the picture says");
    file.pixels_offset = pixel_data.value_offset;
    file.swapped_pairs =
        file.structure.encoding().big_endian && information.bits_allocated == 8 && pixel_data.has_vr("OW");
    if (file.swapped_pairs && pixel_data.length % 2 != 0)
        fail(SFMEDIR_DICOM_CORRUPT, "an odd number of bytes is written as words");
}

void open_file(SfmedirDicomFile &file, const uint8_t *bytes, size_t size, const SfmedirDicomLimits &limits) {
    const MetaInformation meta = read_meta_information(bytes, size);
    const Encoding encoding = read_transfer_syntax(meta.transfer_syntax_uid, file.information);
    Range range{meta.data_set_offset, size};
    if (DcmXfer(meta.transfer_syntax_uid.c_str()).getXfer() == EXS_DeflatedLittleEndianExplicit) {
        file.inflated =
            inflate_data_set(bytes + range.begin, range.end - range.begin, limits.maximum_inflated_bytes);
        bytes = file.inflated.data();
        range = {0, file.inflated.size()};
    }
    file.structure = Structure(bytes, range.end, encoding);
    Element pixel_data{};
    Attributes attributes(
        file.structure, range, picture_tags, std::size(picture_tags), pixel_data_tag, &pixel_data);
    if (pixel_data.tag != pixel_data_tag) fail(SFMEDIR_DICOM_NO_PIXELS, "the file holds no picture");
    file.data_set = {range.begin, pixel_data.header_offset};
    read_information(file, attributes);
    read_layout(file);
    check_size(file, limits);
    locate_pixels(file, pixel_data);
    file.common = {1, 0, 0, 0, 0, 0};
    read_value_attributes(attributes, file.common);
    Element found;
    if (file.structure.find(file.data_set, modality_lut_tag, found))
        fail(SFMEDIR_DICOM_UNSUPPORTED, "a modality lookup table");
    file.has_functional_groups = file.structure.find(file.data_set, shared_groups_tag, found)
                                 || file.structure.find(file.data_set, frame_groups_tag, found);
}

/// Multi-frame files of the enhanced kinds keep rescale and window in functional groups (PS3.3 C.7.6.16).
SfmedirDicomFrame describe_frame(const SfmedirDicomFile &file, uint32_t frame) {
    SfmedirDicomFrame description = file.common;
    if (!file.has_functional_groups) return description;
    const Structure &structure = file.structure;
    const struct {
        uint32_t tag, item;
    } places[] = {{shared_groups_tag, 0}, {frame_groups_tag, frame}};
    for (const auto &place : places) {
        Element sequence;
        Range group;
        if (!structure.find(file.data_set, place.tag, sequence)
            || !structure.item(sequence, place.item, file.data_set.end, group))
            continue;
        for (const uint32_t inner : {pixel_transformation_tag, frame_window_tag}) {
            Element inner_sequence;
            Range values;
            if (!structure.find(group, inner, inner_sequence)
                || !structure.item(inner_sequence, 0, group.end, values))
                continue;
            Attributes attributes(structure, values, value_tags, std::size(value_tags));
            read_value_attributes(attributes, description);
        }
    }
    return description;
}

/// Reads samples of one frame, whatever their size and order.
class Samples {
  public:
    Samples(const SfmedirDicomFile &file, uint32_t frame)
        : base_(file.structure.bytes() + file.pixels_offset), start_(size_t(frame) * file.frame_bytes),
          wide_(file.information.bits_allocated == 16), big_(file.structure.encoding().big_endian),
          flip_(file.swapped_pairs ? 1 : 0), shift_(file.information.high_bit + 1 - file.information.bits_stored),
          mask_((uint32_t(1) << file.information.bits_stored) - 1),
          sign_(file.information.is_signed ? uint32_t(1) << (file.information.bits_stored - 1) : 0) {}

    int32_t operator[](size_t index) const {
        uint32_t raw;
        if (wide_) {
            const uint8_t *p = base_ + start_ + 2 * index;
            raw = big_ ? uint32_t(p[0]) << 8 | p[1] : uint32_t(p[1]) << 8 | p[0];
        } else {
            raw = base_[(start_ + index) ^ flip_];
        }
        raw = raw >> shift_ & mask_;
        return int32_t(raw ^ sign_) - int32_t(sign_);
    }

  private:
    const uint8_t *base_;
    size_t start_;
    bool wide_, big_;
    size_t flip_;
    uint32_t shift_, mask_, sign_;
};

void read_stored_values(const SfmedirDicomFile &file, uint32_t frame, int32_t *values) {
    const size_t count = size_t(file.information.rows) * file.information.columns;
    const Samples samples(file, frame);
    switch (file.layout) {
    case Layout::gray:
        for (size_t i = 0; i < count; i++) values[i] = samples[i];
        break;
    case Layout::rgb: {
        const size_t pixel = file.planar ? 1 : 3, plane = file.planar ? count : 1;
        for (size_t i = 0; i < count; i++) {
            const uint32_t red = uint32_t(samples[i * pixel]), green = uint32_t(samples[i * pixel + plane]),
                           blue = uint32_t(samples[i * pixel + 2 * plane]);
            // ITU-R BT.601, with the same weights as for PNG and JPEG.
            values[i] = int32_t((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16);
        }
        break;
    }
    case Layout::ybr_full:
        for (size_t i = 0; i < count; i++) values[i] = samples[file.planar ? i : 3 * i];
        break;
    case Layout::ybr_full_422:
        // Two pixels share four samples: Y1 Y2 Cb Cr.
        for (size_t i = 0; i < count; i++) values[i] = samples[i / 2 * 4 + i % 2];
        break;
    }
}

/// The window's output in 0...1 (PS3.3 C.11.2.1).
double through_window(const SfmedirDicomFrame &frame, double value) {
    const double center = frame.window_center, width = frame.window_width;
    if (frame.window_function == 2) return 1 / (1 + std::exp(-4 * (value - center) / width));
    if (frame.window_function == 1) return (value - center) / width + 0.5;
    if (width == 1) return value <= center - 0.5 ? 0 : 1;
    return (value - (center - 0.5)) / (width - 1) + 0.5;
}

void read_gray16(const SfmedirDicomFile &file, uint32_t frame, uint16_t *gray) {
    const SfmedirDicomInformation &information = file.information;
    const size_t count = size_t(information.rows) * information.columns;
    std::vector<int32_t> values(count);
    read_stored_values(file, frame, values.data());
    SfmedirDicomFrame description = describe_frame(file, frame);
    if (file.layout != Layout::gray) {
        // Colour has neither rescale nor window: its full range is the display's.
        const double maximum = double((uint32_t(1) << information.bits_stored) - 1);
        description = {1, 0, 1, maximum / 2, maximum, 1};
    } else if (!description.has_window) {
        double least = std::numeric_limits<double>::infinity(), most = -least;
        for (const int32_t value : values) {
            const double rescaled = value * description.slope + description.intercept;
            least = std::min(least, rescaled);
            most = std::max(most, rescaled);
        }
        // LINEAR_EXACT from minimum to maximum; a constant frame becomes black.
        description.window_function = 1;
        description.window_width = most > least ? most - least : 1;
        description.window_center = least + description.window_width / 2;
    }
    const bool inverted = strcmp(information.photometric_interpretation, "MONOCHROME1") == 0;
    for (size_t i = 0; i < count; i++) {
        const double value = values[i] * description.slope + description.intercept;
        const double scaled = through_window(description, value) * 65535 + 0.5;
        // Written so that NaN, too, becomes 0.
        const uint16_t level = scaled >= 65535 ? 65535 : scaled > 0 ? uint16_t(scaled) : 0;
        gray[i] = inverted ? uint16_t(65535 - level) : level;
    }
}

}  // namespace

SfmedirDicomStatus sfmedir_dicom_open(
    const uint8_t *bytes, size_t size, SfmedirDicomLimits limits, SfmedirDicomFile **file,
    SfmedirDicomInformation *information, SfmedirDicomMessage *message) {
    *file = nullptr;
    SfmedirDicomFile *opened = nullptr;
    const SfmedirDicomStatus status = guarded(message, [&] {
        silence_dcmtk();
        opened = new SfmedirDicomFile;
        open_file(*opened, bytes, size, limits);
    });
    if (opened != nullptr) *information = opened->information;
    if (status == SFMEDIR_DICOM_OK)
        *file = opened;
    else
        delete opened;
    return status;
}

void sfmedir_dicom_close(SfmedirDicomFile *file) { delete file; }

SfmedirDicomStatus sfmedir_dicom_frame(
    const SfmedirDicomFile *file, uint32_t frame, SfmedirDicomFrame *description, SfmedirDicomMessage *message) {
    return guarded(message, [&] { *description = describe_frame(*file, frame); });
}

SfmedirDicomStatus sfmedir_dicom_stored_values(
    const SfmedirDicomFile *file, uint32_t frame, int32_t *values, SfmedirDicomMessage *message) {
    return guarded(message, [&] { read_stored_values(*file, frame, values); });
}

SfmedirDicomStatus sfmedir_dicom_gray16(
    const SfmedirDicomFile *file, uint32_t frame, uint16_t *gray, SfmedirDicomMessage *message) {
    return guarded(message, [&] { read_gray16(*file, frame, gray); });
}
