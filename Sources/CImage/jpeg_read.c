#include "internal.h"

#include <setjmp.h>
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

// A progressive file may name thousands of scans, each of which walks the whole picture; real ones have about ten.
enum { maximum_scans = 100 };

typedef struct {
    struct jpeg_decompress_struct decoder;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    SfmedirImageStatus status;
    SfmedirImageMessage *message;
    uint8_t *row;
} JpegReader;

static _Noreturn void leave(JpegReader *reader, SfmedirImageStatus status, const char *text) {
    reader->status = image_fail(reader->message, status, text);
    longjmp(reader->back, 1);
}

static _Noreturn void leave_with_library_text(j_common_ptr common, SfmedirImageStatus status) {
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    leave(common->client_data, status, text);
}

static void on_error(j_common_ptr common) {
    SfmedirImageStatus status = SFMEDIR_IMAGE_CORRUPT;
    switch (common->err->msg_code) {
    case JERR_OUT_OF_MEMORY: status = SFMEDIR_IMAGE_OUT_OF_MEMORY; break;
    case JERR_INPUT_EMPTY:
    case JERR_INPUT_EOF: status = SFMEDIR_IMAGE_TRUNCATED; break;
    case JERR_BAD_PRECISION:
    case JERR_ARITH_NOTIMPL:
    case JERR_SOF_UNSUPPORTED:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL: status = SFMEDIR_IMAGE_UNSUPPORTED; break;
    case JERR_IMAGE_TOO_BIG: status = SFMEDIR_IMAGE_TOO_LARGE; break;
    case JERR_EMPTY_IMAGE: status = SFMEDIR_IMAGE_NO_PIXELS; break;
    default: break;
    }
    leave_with_library_text(common, status);
}

/// libjpeg fills what is missing with grey and only warns; for a medical picture a warning is a damaged file.
static void on_message(j_common_ptr common, int level) {
    if (level >= 0) return;
    leave_with_library_text(
        common, common->err->msg_code == JWRN_JPEG_EOF ? SFMEDIR_IMAGE_TRUNCATED : SFMEDIR_IMAGE_CORRUPT);
}

static void on_output(j_common_ptr common) { (void)common; }

static void on_progress(j_common_ptr common) {
    const j_decompress_ptr decoder = (j_decompress_ptr)common;
    if (decoder->input_scan_number > maximum_scans)
        leave(common->client_data, SFMEDIR_IMAGE_UNSUPPORTED, "the file has too many progressive scans");
}

static void start(JpegReader *reader, const uint8_t *bytes, size_t size) {
    jpeg_create_decompress(&reader->decoder);
    reader->progress.progress_monitor = on_progress;
    reader->decoder.progress = &reader->progress;
    jpeg_mem_src(&reader->decoder, bytes, size);
    jpeg_read_header(&reader->decoder, TRUE);
    switch (reader->decoder.jpeg_color_space) {
    case JCS_GRAYSCALE: reader->decoder.out_color_space = JCS_GRAYSCALE; break;
    case JCS_YCbCr:
    case JCS_RGB: reader->decoder.out_color_space = JCS_RGB; break;
    case JCS_CMYK:
    case JCS_YCCK: leave(reader, SFMEDIR_IMAGE_UNSUPPORTED, "CMYK pictures are not supported");
    default: leave(reader, SFMEDIR_IMAGE_UNSUPPORTED, "the colour space is not supported");
    }
}

static void decode_rows(JpegReader *reader, SfmedirImageHeader header, uint16_t *samples) {
    jpeg_start_decompress(&reader->decoder);
    const uint32_t channels = (uint32_t)reader->decoder.output_components;
    if (reader->decoder.output_width != header.width || reader->decoder.output_height != header.height)
        leave(reader, SFMEDIR_IMAGE_CORRUPT, "the size changed between two readings");
    reader->row = malloc((size_t)header.width * channels);
    if (reader->row == NULL)
        leave(reader, SFMEDIR_IMAGE_OUT_OF_MEMORY, "there is no memory for the picture");
    for (uint32_t y = 0; y < header.height; y++) {
        JSAMPROW row = reader->row;
        jpeg_read_scanlines(&reader->decoder, &row, 1);
        uint16_t *out = samples + (size_t)y * header.width;
        if (channels == 1)
            for (uint32_t x = 0; x < header.width; x++) out[x] = row[x];
        else
            for (uint32_t x = 0; x < header.width; x++)
                out[x] = (uint16_t)image_luma(row[3 * x], row[3 * x + 1], row[3 * x + 2]);
    }
    // Reads on to the end-of-image marker, so that a file cut after its last row is noticed.
    jpeg_finish_decompress(&reader->decoder);
}

/// With `samples` NULL only the header is read into `header`; otherwise `header` says what the first reading found.
static SfmedirImageStatus run(
    const uint8_t *bytes, size_t size, SfmedirImageHeader *header, uint16_t *samples,
    SfmedirImageMessage *message) {
    // On the heap, because locals changed after setjmp are undefined after longjmp.
    JpegReader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return image_fail(message, SFMEDIR_IMAGE_OUT_OF_MEMORY, "libjpeg could not be started");
    reader->message = message;
    reader->decoder.err = jpeg_std_error(&reader->errors);
    reader->decoder.client_data = reader;
    reader->errors.error_exit = on_error;
    reader->errors.emit_message = on_message;
    reader->errors.output_message = on_output;
    if (setjmp(reader->back) == 0) {
        start(reader, bytes, size);
        if (samples != NULL) decode_rows(reader, *header, samples);
    }
    if (samples == NULL) {
        // Also after a failure: the size is part of the answer to what is too large.
        header->width = reader->decoder.image_width;
        header->height = reader->decoder.image_height;
        header->bits_per_sample = 8;
    }
    const SfmedirImageStatus status = reader->status;
    jpeg_destroy_decompress(&reader->decoder);
    free(reader->row);
    free(reader);
    return status;
}

SfmedirImageStatus sfmedir_jpeg_header(
    const uint8_t *bytes, size_t size, SfmedirImageLimits limits, SfmedirImageHeader *header,
    SfmedirImageMessage *message) {
    const SfmedirImageStatus status = run(bytes, size, header, NULL, message);
    return status == SFMEDIR_IMAGE_OK ? image_check_size(*header, limits, message) : status;
}

SfmedirImageStatus sfmedir_jpeg_decode(
    const uint8_t *bytes, size_t size, SfmedirImageHeader header, uint16_t *samples,
    SfmedirImageMessage *message) {
    return run(bytes, size, &header, samples, message);
}
