#include "internal.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *bytes;
    size_t size;
    size_t capacity;
    SfmedirImageMessage *message;
} PngSink;

static void append(png_structp png, png_bytep from, size_t count) {
    PngSink *sink = png_get_io_ptr(png);
    if (count > sink->capacity - sink->size) {
        size_t capacity = sink->capacity * 2 + count + 4096;
        uint8_t *grown = realloc(sink->bytes, capacity);
        if (grown == NULL) png_error(png, "there is no memory for the file");
        sink->bytes = grown;
        sink->capacity = capacity;
    }
    memcpy(sink->bytes + sink->size, from, count);
    sink->size += count;
}

static void flush(png_structp png) { (void)png; }

static void on_error(png_structp png, png_const_charp text) {
    PngSink *sink = png_get_error_ptr(png);
    image_fail(sink->message, SFMEDIR_IMAGE_OUT_OF_MEMORY, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

typedef struct {
    const uint8_t *samples;
    uint32_t width;
    uint32_t height;
    uint32_t channels;
    int bits;
} PngPicture;

static void write_rows(png_structp png, png_infop info, PngSink *sink, const PngPicture *picture) {
    png_set_write_fn(png, sink, append, flush);
    png_set_IHDR(
        png, info, picture->width, picture->height, picture->bits,
        picture->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
        PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (picture->bits == 16) png_set_swap(png);
#endif
    const size_t row_bytes = (size_t)picture->width * picture->channels * (size_t)(picture->bits / 8);
    for (uint32_t y = 0; y < picture->height; y++) png_write_row(png, picture->samples + y * row_bytes);
    png_write_end(png, NULL);
}

static SfmedirImageStatus encode(
    const PngPicture *picture, uint8_t **out, size_t *out_size, SfmedirImageMessage *message) {
    PngSink sink = {.message = message};
    PngSink *volatile state = &sink;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &sink, on_error, on_warning);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    if (info == NULL) {
        png_destroy_write_struct(&png, &info);
        return image_fail(message, SFMEDIR_IMAGE_OUT_OF_MEMORY, "libpng could not be started");
    }
    volatile SfmedirImageStatus status = SFMEDIR_IMAGE_OUT_OF_MEMORY;
    if (setjmp(png_jmpbuf(png)) == 0) {
        write_rows(png, info, &sink, picture);
        status = SFMEDIR_IMAGE_OK;
    }
    png_destroy_write_struct(&png, &info);
    if (status != SFMEDIR_IMAGE_OK) {
        free(state->bytes);
        return status;
    }
    *out = state->bytes;
    *out_size = state->size;
    return status;
}

SfmedirImageStatus sfmedir_png_encode_8(
    const uint8_t *samples, uint32_t width, uint32_t height, uint32_t channels, uint8_t **out,
    size_t *out_size, SfmedirImageMessage *message) {
    const PngPicture picture = {samples, width, height, channels, 8};
    return encode(&picture, out, out_size, message);
}

SfmedirImageStatus sfmedir_png_encode_gray16(
    const uint16_t *samples, uint32_t width, uint32_t height, uint8_t **out, size_t *out_size,
    SfmedirImageMessage *message) {
    const PngPicture picture = {(const uint8_t *)samples, width, height, 1, 16};
    return encode(&picture, out, out_size, message);
}

void sfmedir_image_free(uint8_t *bytes) { free(bytes); }
