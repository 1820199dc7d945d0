// The input of a training or test step, from 8-bit images: crop, reflection, the mean image and the colour
// shift of Krizhevsky et al. 2012, sections 2 and 4.1. For each image n, row y and column x of the crop, and colour c:
//
//   row = offsets[n].y + y,   column = offsets[n].x + (flips[n] ? crop - 1 - x : x)
//   out[n, padding + y, padding + x, c] =
//       (image[n, row, column, c] - mean[row, column, c] + shifts[n, c]) · (scale / deviation[c])
//
// The mean image belongs to the whole image: it is cropped and reflected with it. Every draw (offsets, flips,
// shifts) comes from the caller. An output larger than the crop has zeros around it: `padding` rows and columns above and
// to the left, the rest below and to the right, as the 2012 code's first convolution finds them where its last windows
// reach over the edge of a crop of 224.
#pragma once

#include "device/cost.h"
#include "device/setting.cuh"

namespace pyalexnet {

enum class Mean { none, colour, pixel };  // nothing to subtract, 3 floats, or height × width × 3 floats

struct PrepareInput {
  int64_t images, height, width;  // of the 8-bit images: images × height × width × 3, contiguous
  int64_t crop;                   // height and width of what is taken from each image
  int64_t size;                   // output height and width, at least padding + crop
  int64_t out_row_pitch;          // floats from one output row to the next: size · 3, or more for alignment
  Mean mean = Mean::none;
  int64_t padding = 0;
  float deviation[3] = {1.0f, 1.0f, 1.0f};
  Setting<float> scale{.value = 1.0f};
};

// out: images × size rows of size × 3 floats and, behind them, zeros up to out_row_pitch. offsets: images ×
// (y, x). flips: a byte an image, reflected unless 0. shifts: images × 3. mean: as params.mean says; else not
// read. All on the stream's device. An offset that would leave the image is moved to its nearest edge, so
// that the kernel never reads out of bounds; callers check offsets where they are drawn. Throws
// std::invalid_argument for counts below 1, a crop larger than the image, an output too small for crop and padding, a
// pitch below size · 3, and a deviation or a scale that is not above 0 and finite; but a scale on the device is not looked
// at.
void prepare_input(float* out, const uint8_t* images, const int32_t* offsets, const uint8_t* flips, const float* shifts,
                   const float* mean, const PrepareInput& params, cudaStream_t stream);

// What one call must do: read the crop of images and mean, write out.
Cost prepare_input_cost(const PrepareInput& params);

}  // namespace pyalexnet
