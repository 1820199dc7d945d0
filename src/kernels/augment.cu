#include "kernels/augment.cuh"

#include <cmath>

#include "device/rows.cuh"

namespace pyalexnet {

namespace {

constexpr int kColours = 3;

__device__ inline int64_t clamp_offset(int64_t offset, int64_t size, int64_t crop) {
  return offset < 0 ? 0 : (offset > size - crop ? size - crop : offset);
}

// A block takes rows of the output, a thread pixels; what fills a row up to its pitch counts as pixels outside of the crop.
__global__ void prepare_input_kernel(float* out, const uint8_t* images, const int32_t* offsets, const uint8_t* flips,
                                     const float* shifts, const float* mean, PrepareInput p) {
  float scale[kColours];
  for (int colour = 0; colour < kColours; ++colour) scale[colour] = p.scale.get() / p.deviation[colour];
  const ThreadShare rows = block_share(p.images * p.size);
  const ThreadShare pixels = row_share(ceil_div(p.out_row_pitch, kColours));
  for (int64_t row = rows.begin; row < rows.end; row += rows.step) {
    const Split image_y = split(row, p.size);
    const int64_t image = image_y.quotient;
    const int64_t y = image_y.remainder - p.padding;
    const int64_t crop_columns = y >= 0 && y < p.crop ? p.crop : 0;
    const int64_t top = clamp_offset(offsets[2 * image], p.height, p.crop);
    const int64_t left = clamp_offset(offsets[2 * image + 1], p.width, p.crop);
    const int64_t first_pixel = (top + y) * p.width + left;
    const uint8_t* const from = images + (image * p.height * p.width + first_pixel) * kColours;
    const float* const mean_from = p.mean == Mean::pixel ? mean + first_pixel * kColours : mean;
    const bool flip = flips[image] != 0;
    float shift[kColours];
    for (int colour = 0; colour < kColours; ++colour) {
      shift[colour] = shifts[image * kColours + colour];
      if (p.mean == Mean::colour) shift[colour] -= mean[colour];
    }
    for (int64_t column = pixels.begin; column < pixels.end; column += pixels.step) {
      const int64_t first = column * kColours, x = column - p.padding;
      float* const to = out + row * p.out_row_pitch + first;
      if (x < 0 || x >= crop_columns) {
        for (int64_t i = first; i < p.out_row_pitch && i < first + kColours; ++i) to[i - first] = 0.0f;
        continue;
      }
      const int64_t pixel = (flip ? p.crop - 1 - x : x) * kColours;
      for (int colour = 0; colour < kColours; ++colour) {
        const float value = static_cast<float>(from[pixel + colour]) + shift[colour];
        to[colour] = (p.mean == Mean::pixel ? value - mean_from[pixel + colour] : value) * scale[colour];
      }
    }
  }
}

}  // namespace

void prepare_input(float* out, const uint8_t* images, const int32_t* offsets, const uint8_t* flips, const float* shifts,
                   const float* mean, const PrepareInput& p, cudaStream_t stream) {
  require(p.images >= 1 && p.height >= 1 && p.width >= 1, "images has shape ",
          shape_text({p.images, p.height, p.width, kColours}), "; it must not be empty");
  require(p.crop >= 1 && p.crop <= p.height && p.crop <= p.width, "crop is ", p.crop,
          "; it must be from 1 to the images' smaller side, ", std::min(p.height, p.width));
  require(p.padding >= 0, "padding is ", p.padding, "; it must not be negative");
  require(p.size - p.padding >= p.crop, "size is ", p.size, "; it must be at least the crop's ", p.crop,
          " and the padding's ", p.padding);
  require(p.out_row_pitch >= p.size * kColours, "out_row_pitch is ", p.out_row_pitch, "; it must be at least ",
          p.size * kColours);
  for (const float deviation : p.deviation) {
    require(std::isfinite(deviation) && deviation > 0, "deviation is ", deviation, "; it must be above 0 and finite");
  }
  const float given = p.scale.value;
  require(p.scale.place || (std::isfinite(given) && given > 0), "scale is ", given, "; it must be above 0 and finite");
  launch<prepare_input_kernel>(share_out_rows("prepare_input_kernel", p.images * p.size,
                                              ceil_div(p.out_row_pitch, kColours), 5 * kColours, stream),
                               out, images, offsets, flips, shifts, mean, p);
}

Cost prepare_input_cost(const PrepareInput& p) {
  const int64_t pixels = p.crop * p.crop * kColours;
  const int64_t mean_bytes = p.mean == Mean::pixel ? 4 * pixels : 0;
  constexpr int64_t kSubtractShiftAndScale = 3;
  return {kSubtractShiftAndScale * p.images * pixels, p.images * (pixels + 4 * p.size * p.out_row_pitch) + mean_bytes};
}

}  // namespace pyalexnet
