// What training does to pictures: random views of them, and small steps that mislead a network.
#pragma once

#include <stddef.h>

// A plane seen through an affine map: out[y][x] = in at (m[0] u + m[1] v + m[2], m[3] u + m[4] v + m[5]), where u and v
// are x and y measured from the middle of the picture, bilinear, black outside; then gain * value, plus offset where
// the value is above `floor`, so that a black background stays black; all kept within 0 and 1.
void sfmedir_affine_view(const float *restrict in, float *restrict out, size_t height, size_t width, const float m[6],
                         float gain, float offset, float floor);

// One step of projected gradient descent or ascent (Madry et al., 2018):
// adversarial = clip(clean + clip(adversarial + step * sign(gradient) - clean, +-radius), 0, 1), with sign(0) = 0.
void sfmedir_projected_step(const float *restrict clean, const float *restrict gradient, float step, float radius,
                            float *restrict adversarial, size_t count);
