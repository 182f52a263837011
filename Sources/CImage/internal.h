#ifndef SFMEDIR_CIMAGE_INTERNAL_H
#define SFMEDIR_CIMAGE_INTERNAL_H

#include "include/cimage.h"

#include <stdio.h>

static inline SfmedirImageStatus image_fail(
    SfmedirImageMessage *message, SfmedirImageStatus status, const char *text) {
    snprintf(message->text, sizeof message->text, "%s", text);
    return status;
}

static inline SfmedirImageStatus image_check_size(
    SfmedirImageHeader header, SfmedirImageLimits limits, SfmedirImageMessage *message) {
    if (header.width == 0 || header.height == 0)
        return image_fail(message, SFMEDIR_IMAGE_NO_PIXELS, "the picture has no pixels");
    if (header.width > limits.maximum_side || header.height > limits.maximum_side
        || (uint64_t)header.width * header.height > limits.maximum_pixels)
        return image_fail(message, SFMEDIR_IMAGE_TOO_LARGE, "the picture is larger than the limit");
    return SFMEDIR_IMAGE_OK;
}

/// ITU-R BT.601 luma with weights of 1/65536 that sum to one: grey stays exactly what it was, and 65535 in every
/// channel still fits in 32 bits.
static inline uint32_t image_luma(uint32_t red, uint32_t green, uint32_t blue) {
    return (19595u * red + 38470u * green + 7471u * blue + 32768u) >> 16;
}

#endif
