#include "depthwise_convolution.h"

#include <string.h>

#include "function_clones.h"

enum { KERNEL = 7, BORDER = 3, LANES = 16, TILE = 4 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));
#define AT(pointer) (*(const lanes *)(pointer))

void sfmedir_pad_for_depthwise_7x7(const float *images, float *padded, size_t count, size_t height,
                                   size_t width, size_t channels) {
  const size_t row = width * channels, border = BORDER * channels, padded_row = row + 2 * border;
  for (size_t n = 0; n < count; n++) {
    memset(padded, 0, BORDER * padded_row * sizeof(float));
    padded += BORDER * padded_row;
    for (size_t y = 0; y < height; y++) {
      memset(padded, 0, border * sizeof(float));
      memcpy(padded + border, images, row * sizeof(float));
      memset(padded + border + row, 0, border * sizeof(float));
      images += row;
      padded += padded_row;
    }
    memset(padded, 0, BORDER * padded_row * sizeof(float));
    padded += BORDER * padded_row;
  }
}

// Four neighbouring pixels by sixteen channels, held in registers over all 49 taps.
static inline __attribute__((always_inline)) void four_pixels(const float *in, size_t in_row,
                                                              const float *taps, const float *start,
                                                              size_t start_step,
                                                              float *restrict out, size_t channels) {
  lanes a = AT(start), b = AT(start + start_step), c = AT(start + 2 * start_step), d = AT(start + 3 * start_step);
  for (size_t ky = 0; ky < KERNEL; ky++) {
    const float *p = in + ky * in_row, *t = taps + ky * KERNEL * channels;
#pragma clang loop unroll(full)
    for (size_t kx = 0; kx < KERNEL; kx++) {
      const lanes tap = AT(t + kx * channels);
      a += AT(p + kx * channels) * tap;
      b += AT(p + (kx + 1) * channels) * tap;
      c += AT(p + (kx + 2) * channels) * tap;
      d += AT(p + (kx + 3) * channels) * tap;
    }
  }
  *(lanes *)out = a;
  *(lanes *)(out + channels) = b;
  *(lanes *)(out + 2 * channels) = c;
  *(lanes *)(out + 3 * channels) = d;
}

static inline __attribute__((always_inline)) void one_pixel(const float *in, size_t in_row,
                                                            const float *taps, const float *start,
                                                            float *restrict out, size_t channels) {
  lanes a = AT(start);
  for (size_t ky = 0; ky < KERNEL; ky++)
    for (size_t kx = 0; kx < KERNEL; kx++)
      a += AT(in + ky * in_row + kx * channels) * AT(taps + (ky * KERNEL + kx) * channels);
  *(lanes *)out = a;
}

// Fewer than sixteen channels: no full vector fits, so lanes are whatever the compiler finds.
static inline __attribute__((always_inline)) void few_channels(const float *in, size_t in_row,
                                                               const float *taps, const float *start,
                                                               float *restrict out,
                                                               size_t channels) {
  float sums[LANES];
  for (size_t c = 0; c < channels; c++) sums[c] = start[c];
  for (size_t ky = 0; ky < KERNEL; ky++)
    for (size_t kx = 0; kx < KERNEL; kx++) {
      const float *p = in + ky * in_row + kx * channels;
      const float *t = taps + (ky * KERNEL + kx) * channels;
      for (size_t c = 0; c < channels; c++) sums[c] += p[c] * t[c];
    }
  for (size_t c = 0; c < channels; c++) out[c] = sums[c];
}

SFMEDIR_VECTOR_CLONES
void sfmedir_depthwise_7x7(const float *padded, const float *taps, const float *start, size_t start_step,
                           float *restrict out, size_t count, size_t height, size_t width, size_t channels) {
  const size_t in_row = (width + 2 * BORDER) * channels;
  const size_t in_image = (height + 2 * BORDER) * in_row;
  for (size_t n = 0; n < count; n++)
    for (size_t y = 0; y < height; y++) {
      const float *in = padded + n * in_image + y * in_row;
      const size_t pixel = (n * height + y) * width;
      float *row = out + pixel * channels;
      const float *first = start + pixel * start_step;
      if (channels < LANES) {
        for (size_t x = 0; x < width; x++)
          few_channels(in + x * channels, in_row, taps, first + x * start_step, row + x * channels, channels);
        continue;
      }
      // The last tile of a row, and the last group of channels, may overlap the one before:
      // computing an output twice gives the same value and needs no code for the remainder.
      for (size_t group = 0; group < channels; group += LANES) {
        const size_t c = group + LANES <= channels ? group : channels - LANES;
        if (width < TILE) {
          for (size_t x = 0; x < width; x++)
            one_pixel(in + x * channels + c, in_row, taps + c, first + x * start_step + c, row + x * channels + c,
                      channels);
          continue;
        }
        for (size_t tile = 0; tile < width; tile += TILE) {
          const size_t x = tile + TILE <= width ? tile : width - TILE;
          four_pixels(in + x * channels + c, in_row, taps + c, first + x * start_step + c, start_step,
                      row + x * channels + c, channels);
        }
      }
    }
}

// One row of seven taps over one row of pixels, sixteen channels: the sums stay in registers.
static inline __attribute__((always_inline)) void add_tap_row(const float *in, const float *gradient, float *taps,
                                                              size_t width, size_t channels) {
  lanes sums[KERNEL];
#pragma clang loop unroll(full)
  for (size_t kx = 0; kx < KERNEL; kx++) sums[kx] = AT(taps + kx * channels);
  size_t x = 0;
  for (; x + TILE <= width; x += TILE) {
    const float *p = in + x * channels, *g = gradient + x * channels;
    const lanes a = AT(g), b = AT(g + channels), c = AT(g + 2 * channels), d = AT(g + 3 * channels);
#pragma clang loop unroll(full)
    for (size_t kx = 0; kx < KERNEL; kx++) {
      sums[kx] += a * AT(p + kx * channels);
      sums[kx] += b * AT(p + (kx + 1) * channels);
      sums[kx] += c * AT(p + (kx + 2) * channels);
      sums[kx] += d * AT(p + (kx + 3) * channels);
    }
  }
  for (; x < width; x++) {
    const lanes a = AT(gradient + x * channels);
#pragma clang loop unroll(full)
    for (size_t kx = 0; kx < KERNEL; kx++) sums[kx] += a * AT(in + (x + kx) * channels);
  }
#pragma clang loop unroll(full)
  for (size_t kx = 0; kx < KERNEL; kx++) *(lanes *)(taps + kx * channels) = sums[kx];
}

SFMEDIR_VECTOR_CLONES
void sfmedir_depthwise_7x7_add_tap_gradients(const float *padded, const float *gradient, float *restrict taps,
                                             size_t count, size_t height, size_t width, size_t channels) {
  const size_t in_row = (width + 2 * BORDER) * channels;
  const size_t in_image = (height + 2 * BORDER) * in_row;
  const size_t whole = channels / LANES * LANES;
  for (size_t n = 0; n < count; n++)
    for (size_t y = 0; y < height; y++) {
      const float *g = gradient + (n * height + y) * width * channels;
      for (size_t ky = 0; ky < KERNEL; ky++) {
        const float *in = padded + n * in_image + (y + ky) * in_row;
        float *row = taps + ky * KERNEL * channels;
        for (size_t c = 0; c < whole; c += LANES) add_tap_row(in + c, g + c, row + c, width, channels);
        for (size_t c = whole; c < channels; c++)
          for (size_t kx = 0; kx < KERNEL; kx++) {
            float sum = 0;
            for (size_t x = 0; x < width; x++) sum += g[x * channels + c] * in[(x + kx) * channels + c];
            row[kx * channels + c] += sum;
          }
      }
    }
}
