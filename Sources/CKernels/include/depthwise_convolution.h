// Depthwise 7 x 7 convolution over NHWC images whose borders were padded beforehand.
#pragma once

#include <stddef.h>

// Copies `count` images [height][width][channels] into [height + 6][width + 6][channels], with a border of
// three zero pixels on every side. `padded` needs count * (height + 6) * (width + 6) * channels floats.
void sfmedir_pad_for_depthwise_7x7(const float *images, float *padded, size_t count, size_t height,
                                   size_t width, size_t channels);

// Convolves every channel with its own 7 x 7 kernel and adds it to what `start` holds.
//
// padded: [count][height + 6][width + 6][channels]; taps: [7][7][channels];
// start: a bias [channels] with start_step 0, or [count][height][width][channels] with start_step channels;
// out: [count][height][width][channels], overlapping none of the others.
void sfmedir_depthwise_7x7(const float *padded, const float *taps, const float *start, size_t start_step,
                           float *restrict out, size_t count, size_t height, size_t width, size_t channels);

// taps[ky][kx][c] += sum over images and pixels of padded[n][y + ky][x + kx][c] * gradient[n][y][x][c]: the gradient
// with regard to the kernels from the one with regard to the convolution's output, sizes as above.
void sfmedir_depthwise_7x7_add_tap_gradients(const float *padded, const float *gradient, float *restrict taps,
                                             size_t count, size_t height, size_t width, size_t channels);
