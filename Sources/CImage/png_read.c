#include "internal.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

// The low-level interface of libpng is used because its simplified one converts between gammas, which would change
// the values of plain grey files.

typedef struct {
    const uint8_t *bytes;
    size_t size;
    size_t offset;
    int ran_out;
    SfmedirImageMessage *message;
} PngSource;

static void read_from_memory(png_structp png, png_bytep into, size_t count) {
    PngSource *source = png_get_io_ptr(png);
    if (count > source->size - source->offset) {
        source->ran_out = 1;
        png_error(png, "the file ends before its picture does");
    }
    memcpy(into, source->bytes + source->offset, count);
    source->offset += count;
}

static void on_error(png_structp png, png_const_charp text) {
    PngSource *source = png_get_error_ptr(png);
    image_fail(source->message, SFMEDIR_IMAGE_CORRUPT, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static uint32_t big_endian_32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

SfmedirImageStatus sfmedir_png_header(
    const uint8_t *bytes, size_t size, SfmedirImageLimits limits, SfmedirImageHeader *header,
    SfmedirImageMessage *message) {
    // Signature (8), then the IHDR chunk: length (4), type (4), 13 bytes of content, CRC (4).
    if (size < 33) return image_fail(message, SFMEDIR_IMAGE_TRUNCATED, "the file ends inside its header");
    if (png_sig_cmp(bytes, 0, 8) != 0 || big_endian_32(bytes + 8) != 13 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return image_fail(message, SFMEDIR_IMAGE_CORRUPT, "the file does not begin with an image header");
    header->width = big_endian_32(bytes + 16);
    header->height = big_endian_32(bytes + 20);
    header->bits_per_sample = bytes[24] == 16 ? 16 : 8;
    return image_check_size(*header, limits, message);
}

static void store_row(const uint8_t *row, uint32_t width, uint32_t channels, uint32_t bits, uint16_t *out) {
    const uint32_t full = bits == 16 ? 65535 : 255;
    for (uint32_t x = 0; x < width; x++) {
        uint32_t sample[4];
        for (uint32_t c = 0; c < channels; c++) {
            const size_t at = (size_t)x * channels + c;
            sample[c] = bits == 16 ? (uint32_t)row[2 * at] << 8 | row[2 * at + 1] : row[at];
        }
        const uint32_t gray = channels >= 3 ? image_luma(sample[0], sample[1], sample[2]) : sample[0];
        // Alpha over black is a plain product.
        const uint32_t alpha = channels == 2 ? sample[1] : channels == 4 ? sample[3] : full;
        out[x] = (uint16_t)(((uint64_t)gray * alpha + full / 2) / full);
    }
}

typedef struct {
    png_structp png;
    png_infop info;
    uint8_t *pixels;
    PngSource source;
} PngReader;

/// Everything that may jump. All state lives in `reader`, outside this frame.
static SfmedirImageStatus decode_rows(PngReader *reader, SfmedirImageHeader header, uint16_t *samples) {
    png_structp png = reader->png;
    png_set_read_fn(png, &reader->source, read_from_memory);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_user_limits(png, header.width, header.height);
    // Skips every optional chunk but tRNS unread: profiles and texts are compressed and of no use here.
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(png, reader->info);
    if (png_get_image_width(png, reader->info) != header.width
        || png_get_image_height(png, reader->info) != header.height)
        png_error(png, "the size changed between two readings");
    const int color = png_get_color_type(png, reader->info);
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (color == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, reader->info) < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (png_get_valid(png, reader->info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
    const int passes = png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    const uint32_t channels = png_get_channels(png, reader->info);
    const uint32_t bits = png_get_bit_depth(png, reader->info);
    const size_t row_bytes = png_get_rowbytes(png, reader->info);
    if (bits != header.bits_per_sample || row_bytes != (size_t)header.width * channels * (bits / 8))
        png_error(png, "the rows do not fit the header");
    // An interlaced picture is complete only after its last pass; otherwise one row is enough.
    const size_t rows_kept = passes > 1 ? header.height : 1;
    reader->pixels = calloc(rows_kept, row_bytes);
    if (reader->pixels == NULL)
        return image_fail(
            reader->source.message, SFMEDIR_IMAGE_OUT_OF_MEMORY, "there is no memory for the picture");
    for (int pass = 0; pass < passes; pass++)
        for (uint32_t y = 0; y < header.height; y++) {
            uint8_t *row = reader->pixels + (passes > 1 ? y * row_bytes : 0);
            png_read_row(png, row, NULL);
            if (pass == passes - 1)
                store_row(row, header.width, channels, bits, samples + (size_t)y * header.width);
        }
    // Reads on to IEND, so that a file cut after its last row is noticed.
    png_read_end(png, NULL);
    return SFMEDIR_IMAGE_OK;
}

SfmedirImageStatus sfmedir_png_decode(
    const uint8_t *bytes, size_t size, SfmedirImageHeader header, uint16_t *samples,
    SfmedirImageMessage *message) {
    PngReader reader = {.source = {.bytes = bytes, .size = size, .message = message}};
    PngReader *volatile state = &reader;
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader.source, on_error, on_warning);
    if (reader.png != NULL) reader.info = png_create_info_struct(reader.png);
    if (reader.info == NULL) {
        png_destroy_read_struct(&reader.png, &reader.info, NULL);
        return image_fail(message, SFMEDIR_IMAGE_OUT_OF_MEMORY, "libpng could not be started");
    }
    volatile SfmedirImageStatus status;
    if (setjmp(png_jmpbuf(reader.png)) == 0)
        status = decode_rows(&reader, header, samples);
    else
        status = state->source.ran_out ? SFMEDIR_IMAGE_TRUNCATED : SFMEDIR_IMAGE_CORRUPT;
    png_destroy_read_struct(&state->png, &state->info, NULL);
    free(state->pixels);
    return status;
}
