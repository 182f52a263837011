// Strided convolutions without overlap as matrix products: gathers each kernel's window into one row.
#pragma once

#include <stddef.h>

// 4 x 4 windows with stride 4 of planar images, normalised on the way.
//
// images: [count][channels][height][width]; patches: [count][height / 4][width / 4][channels][4][4];
// every value becomes (value - mean) * scale. Rows and columns beyond the last whole window are dropped.
void sfmedir_gather_4x4_planar(const float *images, float mean, float scale, float *patches,
                               size_t count, size_t channels, size_t height, size_t width);

// 2 x 2 windows with stride 2 of interleaved images.
//
// images: [count][height][width][channels]; patches: [count][height / 2][width / 2][2][2][channels].
// An odd last row or column is dropped.
void sfmedir_gather_2x2(const float *images, float *patches, size_t count, size_t height,
                        size_t width, size_t channels);

// Gradients of the gathered windows back to where their values came from; what no window held becomes zero.
// `scale` is that of the gathering.
void sfmedir_scatter_4x4_planar(const float *patches, float scale, float *images, size_t count,
                                size_t channels, size_t height, size_t width);
void sfmedir_scatter_2x2(const float *patches, float *images, size_t count, size_t height,
                         size_t width, size_t channels);
