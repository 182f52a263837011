#ifndef SFMEDIR_CIMAGE_H
#define SFMEDIR_CIMAGE_H

#include <stddef.h>
#include <stdint.h>

// PNG and JPEG to grey samples, and samples to PNG. Every setjmp and longjmp stays inside these functions, so no
// caller's frame is ever jumped over, and nothing is printed.

typedef enum {
    SFMEDIR_IMAGE_OK = 0,
    SFMEDIR_IMAGE_TRUNCATED = 1,
    SFMEDIR_IMAGE_CORRUPT = 2,
    SFMEDIR_IMAGE_UNSUPPORTED = 3,
    SFMEDIR_IMAGE_TOO_LARGE = 4,
    SFMEDIR_IMAGE_NO_PIXELS = 5,
    SFMEDIR_IMAGE_OUT_OF_MEMORY = 6,
} SfmedirImageStatus;

typedef struct {
    uint32_t width;
    uint32_t height;
    /// 16 where the file keeps 16-bit samples, else 8.
    uint32_t bits_per_sample;
} SfmedirImageHeader;

typedef struct {
    uint32_t maximum_side;
    uint64_t maximum_pixels;
} SfmedirImageLimits;

/// One sentence, NUL-terminated, filled in whenever the status is not OK.
typedef struct {
    char text[200];
} SfmedirImageMessage;

/// Reads the header only and checks it against the limits; nothing the size of the picture is allocated. The header
/// is filled in for SFMEDIR_IMAGE_TOO_LARGE too.
SfmedirImageStatus sfmedir_png_header(
    const uint8_t *bytes, size_t size, SfmedirImageLimits limits, SfmedirImageHeader *header,
    SfmedirImageMessage *message);
SfmedirImageStatus sfmedir_jpeg_header(
    const uint8_t *bytes, size_t size, SfmedirImageLimits limits, SfmedirImageHeader *header,
    SfmedirImageMessage *message);

/// Decodes into width * height samples (row-major, one per pixel). `header` must be what the header function gave for
/// the same bytes.
SfmedirImageStatus sfmedir_png_decode(
    const uint8_t *bytes, size_t size, SfmedirImageHeader header, uint16_t *samples,
    SfmedirImageMessage *message);
SfmedirImageStatus sfmedir_jpeg_decode(
    const uint8_t *bytes, size_t size, SfmedirImageHeader header, uint16_t *samples,
    SfmedirImageMessage *message);

/// Encodes rows of 8-bit samples (1 channel: grey, 3: RGB). `*out` is released with sfmedir_image_free.
SfmedirImageStatus sfmedir_png_encode_8(
    const uint8_t *samples, uint32_t width, uint32_t height, uint32_t channels, uint8_t **out,
    size_t *out_size, SfmedirImageMessage *message);

/// Encodes rows of 16-bit grey samples in the machine's byte order.
SfmedirImageStatus sfmedir_png_encode_gray16(
    const uint16_t *samples, uint32_t width, uint32_t height, uint8_t **out, size_t *out_size,
    SfmedirImageMessage *message);

void sfmedir_image_free(uint8_t *bytes);

#endif
