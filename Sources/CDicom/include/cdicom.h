#ifndef SFMEDIR_CDICOM_H
#define SFMEDIR_CDICOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Uncompressed DICOM files from and to memory. No C++ exception leaves these functions, and nothing is printed.
//
// The structure of a file (which element lies where) is walked by bounded, non-recursive code of our own; DCMTK then
// interprets the handful of attributes that describe the picture. DCMTK's own reader recurses once per nested
// sequence and allocates what an element claims to hold, which a hostile file can turn into a crash.

typedef enum {
    SFMEDIR_DICOM_OK = 0,
    SFMEDIR_DICOM_TRUNCATED = 1,
    SFMEDIR_DICOM_CORRUPT = 2,
    SFMEDIR_DICOM_UNSUPPORTED = 3,
    SFMEDIR_DICOM_TOO_LARGE = 4,
    SFMEDIR_DICOM_NO_PIXELS = 5,
    SFMEDIR_DICOM_OUT_OF_MEMORY = 6,
    SFMEDIR_DICOM_NOT_DICOM = 7,
} SfmedirDicomStatus;

/// One sentence, NUL-terminated, filled in whenever the status is not OK.
typedef struct {
    char text[256];
} SfmedirDicomMessage;

typedef struct {
    uint32_t maximum_side;
    uint64_t maximum_pixels;
    /// Rows x columns x frames.
    uint64_t maximum_total_pixels;
    /// What a deflated data set may inflate to.
    uint64_t maximum_inflated_bytes;
} SfmedirDicomLimits;

/// Strings are NUL-terminated ASCII; an absent attribute is the empty string.
typedef struct {
    uint32_t rows;
    uint32_t columns;
    uint32_t frames;
    uint32_t bits_allocated;
    uint32_t bits_stored;
    uint32_t high_bit;
    uint32_t samples_per_pixel;
    uint32_t is_signed;
    char modality[17];
    char photometric_interpretation[17];
    char transfer_syntax_uid[65];
    char transfer_syntax_name[81];
} SfmedirDicomInformation;

/// How one frame's stored values become pictures (multi-frame files may say it frame by frame).
typedef struct {
    double slope;
    double intercept;
    /// 0 where the file names no (usable) window.
    uint32_t has_window;
    double window_center;
    double window_width;
    /// 0 LINEAR, 1 LINEAR_EXACT, 2 SIGMOID (PS3.3 C.11.2.1).
    uint32_t window_function;
} SfmedirDicomFrame;

typedef struct SfmedirDicomFile SfmedirDicomFile;

/// Parses a file. `bytes` is borrowed until sfmedir_dicom_close. On failure `*file` is NULL and `information` holds
/// what was read before (rows and columns for TOO_LARGE).
SfmedirDicomStatus sfmedir_dicom_open(
    const uint8_t *bytes, size_t size, SfmedirDicomLimits limits, SfmedirDicomFile **file,
    SfmedirDicomInformation *information, SfmedirDicomMessage *message);

void sfmedir_dicom_close(SfmedirDicomFile *file);

/// `frame` counts from 0 and must be less than `information.frames`, here and below.
SfmedirDicomStatus sfmedir_dicom_frame(
    const SfmedirDicomFile *file, uint32_t frame, SfmedirDicomFrame *description,
    SfmedirDicomMessage *message);

/// rows * columns values as stored, sign-extended; luma for colour pictures.
SfmedirDicomStatus sfmedir_dicom_stored_values(
    const SfmedirDicomFile *file, uint32_t frame, int32_t *values, SfmedirDicomMessage *message);

/// rows * columns grey values over the full 16 bits: after rescale and window (without a window: from the frame's
/// own minimum to its maximum), 65535 always white (MONOCHROME1 is inverted).
SfmedirDicomStatus sfmedir_dicom_gray16(
    const SfmedirDicomFile *file, uint32_t frame, uint16_t *gray, SfmedirDicomMessage *message);

/// What the writer puts into an MR image; strings are ASCII and within the lengths of their value representations.
typedef struct {
    const uint16_t *pixels;
    uint32_t rows;
    uint32_t columns;
    uint32_t bits_stored;
    double window_center;
    double window_width;
    double pixel_spacing_millimetres;
    uint32_t instance_number;
    const char *patient_name;
    const char *patient_id;
    const char *study_uid;
    const char *series_uid;
    const char *instance_uid;
    const char *frame_of_reference_uid;
    const char *series_description;
    const char *comments;
} SfmedirDicomPicture;

/// Writes a Part 10 file: MR Image Storage, MONOCHROME2, 16 bits allocated, Explicit VR Little Endian. The same
/// picture gives the same bytes. `*out` is released with sfmedir_dicom_free.
SfmedirDicomStatus sfmedir_dicom_write(
    const SfmedirDicomPicture *picture, uint8_t **out, size_t *out_size, SfmedirDicomMessage *message);

void sfmedir_dicom_free(uint8_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
