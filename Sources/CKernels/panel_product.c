#include "panel_product.h"

#include <string.h>

#include "function_clones.h"

// Six rows of sixteen sums are twelve vector registers of AVX2; a row of the panel and one input fill the others.
enum { COLUMNS = SFMEDIR_PANEL_COLUMNS, ROWS = 6, BLOCK_FLOATS = 1 << 14 };

typedef float lanes __attribute__((vector_size(COLUMNS * sizeof(float)), aligned(sizeof(float))));
#define AT(pointer) (*(const lanes *)(pointer))

void sfmedir_make_panels_of_columns(const float *matrix, float *restrict panels, size_t inner, size_t columns) {
  for (size_t c = 0; c < columns; c += COLUMNS, panels += inner * COLUMNS) {
    const size_t count = columns - c < COLUMNS ? columns - c : COLUMNS;
    if (count < COLUMNS) memset(panels, 0, inner * COLUMNS * sizeof(float));
    const float *from = matrix + c * inner;
    for (size_t i = 0; i < inner; i++)
      for (size_t lane = 0; lane < count; lane++) panels[i * COLUMNS + lane] = from[lane * inner + i];
  }
}

void sfmedir_make_panels_of_rows(const float *matrix, float *restrict panels, size_t inner, size_t columns) {
  for (size_t c = 0; c < columns; c += COLUMNS, panels += inner * COLUMNS) {
    const size_t count = columns - c < COLUMNS ? columns - c : COLUMNS;
    if (count < COLUMNS) memset(panels, 0, inner * COLUMNS * sizeof(float));
    for (size_t i = 0; i < inner; i++) memcpy(panels + i * COLUMNS, matrix + i * columns + c, count * sizeof(float));
  }
}

// The number of rows is a constant wherever this is inlined, so that its loops unroll and the sums stay in registers.
static inline __attribute__((always_inline)) void tile(const float *in, const float *panel, float *restrict out,
                                                       const size_t rows, size_t inner, size_t columns, size_t count,
                                                       int adds) {
  lanes sums[ROWS];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) sums[r] = (lanes){0};
  for (size_t i = 0; i < inner; i++) {
    const lanes weights = AT(panel + i * COLUMNS);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sums[r] += in[r * inner + i] * weights;
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    float *at = out + r * columns;
    if (count == COLUMNS) {
      *(lanes *)at = adds ? AT(at) + sums[r] : sums[r];
      continue;
    }
    float values[COLUMNS];
    *(lanes *)values = sums[r];
    for (size_t c = 0; c < count; c++) at[c] = adds ? at[c] + values[c] : values[c];
  }
}

SFMEDIR_VECTOR_CLONES
void sfmedir_panel_product(const float *in, const float *panels, float *restrict out, size_t rows, size_t inner,
                           size_t columns, int adds) {
  // So many rows stay in the first cache while all panels go by.
  const size_t fitting = BLOCK_FLOATS / inner / ROWS * ROWS;
  const size_t block = fitting < 4 * ROWS ? 4 * ROWS : fitting;
  for (size_t first = 0; first < rows; first += block) {
    const size_t end = rows - first < block ? rows : first + block;
    for (size_t c = 0; c < columns; c += COLUMNS) {
      const float *panel = panels + c * inner;
      const size_t count = columns - c < COLUMNS ? columns - c : COLUMNS;
      size_t r = first;
      for (; r + ROWS <= end; r += ROWS)
        tile(in + r * inner, panel, out + r * columns + c, ROWS, inner, columns, count, adds);
      const float *rest = in + r * inner;
      float *to = out + r * columns + c;
      switch (end - r) {
        case 5: tile(rest, panel, to, 5, inner, columns, count, adds); break;
        case 4: tile(rest, panel, to, 4, inner, columns, count, adds); break;
        case 3: tile(rest, panel, to, 3, inner, columns, count, adds); break;
        case 2: tile(rest, panel, to, 2, inner, columns, count, adds); break;
        case 1: tile(rest, panel, to, 1, inner, columns, count, adds); break;
        default: break;
      }
    }
  }
}
