// Matrix products with a matrix that was brought into panels beforehand, as the weights of a layer are: a library's
// product would copy them into an order of its own at every call.
#pragma once

#include <stddef.h>

// Columns of a panel.
enum { SFMEDIR_PANEL_COLUMNS = 16 };

// Floats that the panels of a matrix of so many inner elements and columns take.
static inline size_t sfmedir_panel_floats(size_t inner, size_t columns) {
  return (columns + SFMEDIR_PANEL_COLUMNS - 1) / SFMEDIR_PANEL_COLUMNS * SFMEDIR_PANEL_COLUMNS * inner;
}

// panels: [columns / 16][inner][16], with zeros where a last panel has no columns.
// From a matrix [columns][inner], as a linear layer's weights are stored, and from one [inner][columns].
void sfmedir_make_panels_of_columns(const float *matrix, float *restrict panels, size_t inner, size_t columns);
void sfmedir_make_panels_of_rows(const float *matrix, float *restrict panels, size_t inner, size_t columns);

// out[r][c] = sum over i of in[r][i] * matrix[i][c], added to what is there where `adds` is not 0.
// in: [rows][inner]; out: [rows][columns], apart from both.
void sfmedir_panel_product(const float *in, const float *panels, float *restrict out, size_t rows, size_t inner,
                           size_t columns, int adds);
