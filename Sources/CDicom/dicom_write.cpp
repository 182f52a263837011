#include "attributes.hpp"

#include "dcmtk/dcmdata/dcfilefo.h"
#include "dcmtk/dcmdata/dcostrmb.h"
#include "dcmtk/dcmdata/dcuid.h"

#include <cstdio>
#include <cstdlib>

using namespace sfmedir;

namespace {

void check(const OFCondition &condition) {
    if (condition.bad()) throw Failure{SFMEDIR_DICOM_CORRUPT, condition.text()};
}

void put(DcmDataset &data_set, const DcmTagKey &key, const char *value) {
    check(data_set.putAndInsertString(DcmTag(key), value));
}

void put_number(DcmDataset &data_set, const DcmTagKey &key, double value) {
    char text[32];
    // A decimal string holds at most 16 characters.
    snprintf(text, sizeof text, "%.9g", value);
    put(data_set, key, text);
}

void put_identity(DcmDataset &data_set, const SfmedirDicomPicture &picture) {
    put(data_set, DCM_SpecificCharacterSet, "ISO_IR 100");
    put(data_set, DCM_ImageType, "DERIVED\\PRIMARY\\OTHER");
    put(data_set, DCM_SOPClassUID, UID_MRImageStorage);
    put(data_set, DCM_SOPInstanceUID, picture.instance_uid);
    // Fixed dates: the same picture gives the same file whenever it is written.
    put(data_set, DCM_StudyDate, "20250101");
    put(data_set, DCM_StudyTime, "120000");
    put(data_set, DCM_AccessionNumber, "");
    put(data_set, DCM_Modality, "MR");
    put(data_set, DCM_Manufacturer, "SFMedIR");
    put(data_set, DCM_ReferringPhysicianName, "");
    put(data_set, DCM_SeriesDescription, picture.series_description);
    put(data_set, DCM_PatientName, picture.patient_name);
    put(data_set, DCM_PatientID, picture.patient_id);
    put(data_set, DCM_PatientBirthDate, "");
    put(data_set, DCM_PatientSex, "O");
    put(data_set, DCM_StudyInstanceUID, picture.study_uid);
    put(data_set, DCM_SeriesInstanceUID, picture.series_uid);
    put(data_set, DCM_StudyID, "1");
    put(data_set, DCM_SeriesNumber, "1");
    put(data_set, DCM_InstanceNumber, std::to_string(picture.instance_number).c_str());
    put(data_set, DCM_FrameOfReferenceUID, picture.frame_of_reference_uid);
    put(data_set, DCM_PositionReferenceIndicator, "");
    put(data_set, DCM_ImageComments, picture.comments);
}

void put_acquisition(DcmDataset &data_set, const SfmedirDicomPicture &picture) {
    put(data_set, DCM_ScanningSequence, "RM");
    put(data_set, DCM_SequenceVariant, "NONE");
    put(data_set, DCM_ScanOptions, "");
    put(data_set, DCM_MRAcquisitionType, "2D");
    put(data_set, DCM_SliceThickness, "5");
    put(data_set, DCM_RepetitionTime, "");
    put(data_set, DCM_EchoTime, "");
    put(data_set, DCM_EchoTrainLength, "");
    put(data_set, DCM_PatientPosition, "HFS");
    put(data_set, DCM_ImagePositionPatient, "0\\0\\0");
    put(data_set, DCM_ImageOrientationPatient, "1\\0\\0\\0\\1\\0");
    char spacing[40];
    snprintf(
        spacing, sizeof spacing, "%.6g\\%.6g", picture.pixel_spacing_millimetres, picture.pixel_spacing_millimetres);
    put(data_set, DCM_PixelSpacing, spacing);
}

void put_pixels(DcmDataset &data_set, const SfmedirDicomPicture &picture) {
    check(data_set.putAndInsertUint16(DCM_SamplesPerPixel, 1));
    put(data_set, DCM_PhotometricInterpretation, "MONOCHROME2");
    check(data_set.putAndInsertUint16(DCM_Rows, Uint16(picture.rows)));
    check(data_set.putAndInsertUint16(DCM_Columns, Uint16(picture.columns)));
    check(data_set.putAndInsertUint16(DCM_BitsAllocated, 16));
    check(data_set.putAndInsertUint16(DCM_BitsStored, Uint16(picture.bits_stored)));
    check(data_set.putAndInsertUint16(DCM_HighBit, Uint16(picture.bits_stored - 1)));
    check(data_set.putAndInsertUint16(DCM_PixelRepresentation, 0));
    put_number(data_set, DCM_WindowCenter, picture.window_center);
    put_number(data_set, DCM_WindowWidth, picture.window_width);
    check(data_set.putAndInsertUint16Array(
        DCM_PixelData, picture.pixels, static_cast<unsigned long>(picture.rows) * picture.columns));
}

/// The file in a malloc'd buffer.
uint8_t *serialise(DcmFileFormat &file, size_t &size) {
    check(file.validateMetaInfo(EXS_LittleEndianExplicit));
    // The meta header's preamble and group length come on top of what DCMTK counts.
    const size_t capacity = file.calcElementLength(EXS_LittleEndianExplicit, EET_ExplicitLength) + 4096;
    uint8_t *buffer = static_cast<uint8_t *>(malloc(capacity));
    if (buffer == nullptr) throw Failure{SFMEDIR_DICOM_OUT_OF_MEMORY, "there is no memory for the file"};
    DcmOutputBufferStream stream(buffer, offile_off_t(capacity));
    file.transferInit();
    const OFCondition condition =
        file.write(stream, EXS_LittleEndianExplicit, EET_ExplicitLength, nullptr, EGL_withoutGL);
    file.transferEnd();
    void *written = nullptr;
    offile_off_t count = 0;
    stream.flushBuffer(written, count);
    if (condition.bad()) {
        free(buffer);
        check(condition);
    }
    size = size_t(count);
    return buffer;
}

}  // namespace

SfmedirDicomStatus sfmedir_dicom_write(
    const SfmedirDicomPicture *picture, uint8_t **out, size_t *out_size, SfmedirDicomMessage *message) {
    try {
        silence_dcmtk();
        DcmFileFormat file;
        DcmDataset &data_set = *file.getDataset();
        put_identity(data_set, *picture);
        put_acquisition(data_set, *picture);
        put_pixels(data_set, *picture);
        *out = serialise(file, *out_size);
        return SFMEDIR_DICOM_OK;
    } catch (const Failure &failure) {
        snprintf(message->text, sizeof message->text, "%s", failure.text.c_str());
        return failure.status;
    } catch (...) {
        snprintf(message->text, sizeof message->text, "the file could not be written");
        return SFMEDIR_DICOM_OUT_OF_MEMORY;
    }
}

void sfmedir_dicom_free(uint8_t *bytes) { free(bytes); }
