#include "image_perturbation.h"

#include "function_clones.h"

static inline __attribute__((always_inline)) float within(float value, float low, float high) {
  const float raised = value < low ? low : value;
  return raised > high ? high : raised;
}

void sfmedir_affine_view(const float *restrict in, float *restrict out, size_t height, size_t width, const float m[6],
                         float gain, float offset, float floor) {
  const float middle_x = 0.5f * (float)(width - 1), middle_y = 0.5f * (float)(height - 1);
  const float last_x = (float)width, last_y = (float)height;
  for (size_t y = 0; y < height; y++)
    for (size_t x = 0; x < width; x++) {
      const float u = (float)x - middle_x, v = (float)y - middle_y;
      const float at_x = m[0] * u + m[1] * v + m[2] + middle_x, at_y = m[3] * u + m[4] * v + m[5] + middle_y;
      float value = 0;
      // A value that is not a number is not inside.
      if (at_x > -1 && at_y > -1 && at_x < last_x && at_y < last_y) {
        const float left = __builtin_elementwise_floor(at_x), top = __builtin_elementwise_floor(at_y);
        const float right_share = at_x - left, lower_share = at_y - top;
        const long column = (long)left, row = (long)top;
        const int has_left = column >= 0, has_right = column + 1 < (long)width;
        const int has_upper = row >= 0, has_lower = row + 1 < (long)height;
        const float *pixel = in + row * (long)width + column;
        const float a = has_upper && has_left ? pixel[0] : 0, b = has_upper && has_right ? pixel[1] : 0;
        const float c = has_lower && has_left ? pixel[width] : 0, d = has_lower && has_right ? pixel[width + 1] : 0;
        const float upper = a + right_share * (b - a), lower = c + right_share * (d - c);
        value = upper + lower_share * (lower - upper);
      }
      out[y * width + x] = within(gain * value + (value > floor ? offset : 0), 0, 1);
    }
}

SFMEDIR_VECTOR_CLONES
void sfmedir_projected_step(const float *restrict clean, const float *restrict gradient, float step, float radius,
                            float *restrict adversarial, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const float g = gradient[i], x = clean[i];
    const float move = g > 0 ? step : g < 0 ? -step : 0;
    const float away = within(adversarial[i] + move - x, -radius, radius);
    adversarial[i] = within(x + away, 0, 1);
  }
}
