// The input of a training or test step, from 8-bit images: crop, reflection, the mean image and the colour
// shift of Krizhevsky et al. 2012, sections 2 and 4.1. For each image n, output row y, column x and colour c:
//
//   row = offsets[n].y + y,   column = offsets[n].x + (flips[n] ? crop - 1 - x : x)
//   out[n, y, x, c] = (image[n, row, column, c] - mean[row, column, c] + shifts[n, c]) · scale
//                     where y < crop and x < crop, else 0
//
// The mean image belongs to the whole image: it is cropped and reflected with it. Every draw (offsets, flips,
// shifts) comes from the caller. An output larger than the crop has zeros below and to the right of it, as the 2012
// code's first convolution finds them where its last windows reach over the edge of a crop of 224.
#pragma once

#include "device/cost.h"
#include "device/setting.cuh"

namespace pyalexnet {

enum class Mean { none, colour, pixel };  // nothing to subtract, 3 floats, or height × width × 3 floats

struct PrepareInput {
  int64_t images, height, width;  // of the 8-bit images: images × height × width × 3, contiguous
  int64_t crop;                   // height and width of what is taken from each image
  int64_t size;                   // output height and width, at least crop
  int64_t out_row_pitch;          // floats from one output row to the next: size · 3, or more for alignment
  Mean mean = Mean::none;
  Setting<float> scale{.value = 1.0f};
};

// out: images × size rows of size × 3 floats and, behind them, zeros up to out_row_pitch. offsets: images ×
// (y, x). flips: a byte an image, reflected unless 0. shifts: images × 3. mean: as params.mean says; else not
// read. All on the stream's device. An offset that would leave the image is moved to its nearest edge, so
// that the kernel never reads out of bounds; callers check offsets where they are drawn. Throws
// std::invalid_argument for counts below 1, a crop larger than the image or the output, a pitch below size · 3 and a
// scale that is not above 0 and finite, unless it lies on the device.
void prepare_input(float* out, const uint8_t* images, const int32_t* offsets, const uint8_t* flips, const float* shifts,
                   const float* mean, const PrepareInput& params, cudaStream_t stream);

// What one call must do: read the crop of images and mean, write out.
Cost prepare_input_cost(const PrepareInput& params);

}  // namespace pyalexnet
