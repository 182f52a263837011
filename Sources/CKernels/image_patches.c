#include "image_patches.h"

#include <string.h>

void sfmedir_gather_4x4_planar(const float *images, float mean, float scale, float *patches,
                               size_t count, size_t channels, size_t height, size_t width) {
  const size_t rows = height / 4, columns = width / 4;
  for (size_t n = 0; n < count; n++, images += channels * height * width)
    for (size_t y = 0; y < rows; y++)
      for (size_t x = 0; x < columns; x++)
        for (size_t c = 0; c < channels; c++)
          for (size_t ky = 0; ky < 4; ky++, patches += 4) {
            const float *window = images + (c * height + 4 * y + ky) * width + 4 * x;
            for (size_t kx = 0; kx < 4; kx++) patches[kx] = (window[kx] - mean) * scale;
          }
}

void sfmedir_gather_2x2(const float *images, float *patches, size_t count, size_t height,
                        size_t width, size_t channels) {
  const size_t rows = height / 2, columns = width / 2, pair = 2 * channels;
  for (size_t n = 0; n < count; n++, images += height * width * channels)
    for (size_t y = 0; y < rows; y++)
      for (size_t x = 0; x < columns; x++, patches += 2 * pair) {
        // Two neighbouring pixels of one row lie side by side already.
        const float *upper = images + (2 * y * width + 2 * x) * channels;
        memcpy(patches, upper, pair * sizeof(float));
        memcpy(patches + pair, upper + width * channels, pair * sizeof(float));
      }
}

void sfmedir_scatter_4x4_planar(const float *patches, float scale, float *images, size_t count,
                                size_t channels, size_t height, size_t width) {
  const size_t rows = height / 4, columns = width / 4;
  // Rows and columns beyond the last whole window have no part in what was gathered.
  if (height % 4 != 0 || width % 4 != 0)
    memset(images, 0, count * channels * height * width * sizeof(float));
  for (size_t n = 0; n < count; n++, images += channels * height * width)
    for (size_t y = 0; y < rows; y++)
      for (size_t x = 0; x < columns; x++)
        for (size_t c = 0; c < channels; c++)
          for (size_t ky = 0; ky < 4; ky++, patches += 4) {
            float *window = images + (c * height + 4 * y + ky) * width + 4 * x;
            for (size_t kx = 0; kx < 4; kx++) window[kx] = patches[kx] * scale;
          }
}

void sfmedir_scatter_2x2(const float *patches, float *images, size_t count, size_t height,
                         size_t width, size_t channels) {
  const size_t rows = height / 2, columns = width / 2, pair = 2 * channels;
  if (height % 2 != 0 || width % 2 != 0)
    memset(images, 0, count * height * width * channels * sizeof(float));
  for (size_t n = 0; n < count; n++, images += height * width * channels)
    for (size_t y = 0; y < rows; y++)
      for (size_t x = 0; x < columns; x++, patches += 2 * pair) {
        float *upper = images + (2 * y * width + 2 * x) * channels;
        memcpy(upper, patches, pair * sizeof(float));
        memcpy(upper + width * channels, patches + pair, pair * sizeof(float));
      }
}
