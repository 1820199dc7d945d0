#include "kernels/augment.cuh"

#include <pybind11/stl.h>

#include <vector>

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "bindings/setting.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

// None, (3,), or (height, width, 3).
Mean mean_of(const Array* mean) {
  if (mean == nullptr) return Mean::none;
  return mean->shape.size() == 1 ? Mean::colour : Mean::pixel;
}

const float* mean_floats(const Array* mean, int64_t height, int64_t width) {
  switch (mean_of(mean)) {
    case Mean::none:
      return nullptr;
    case Mean::colour:
      return floats("mean", *mean, {3});
    case Mean::pixel:
      return floats("mean", *mean, {height, width, 3});
  }
  return nullptr;
}

// The distance between out's rows, whose padding must be out's own too.
int64_t row_pitch(const Array& out, int64_t size) {
  const int64_t pitch = out.strides[1];
  require(out.strides[3] == 1 && out.strides[2] == 3 && out.strides[0] == size * pitch, "out has strides ",
          shape_text(out.strides), "; its rows must lie at one distance from each other");
  return pitch;
}

}  // namespace

void register_augment(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "prepare_input",
      [](const Array& out, const Array& images, const Array& offsets, const Array& flips, const Array& shifts,
         const Array* mean, int64_t crop, int64_t padding, const std::vector<float>& deviation, const Array& scale,
         const Stream& stream) {
        require_rank("images", images, 4, "(images, height, width, 3)");
        require_rank("out", out, 4, "(images, size, size, 3)");
        require(deviation.size() == 3, "deviation has ", deviation.size(), " numbers; it must have 3");
        const int64_t count = images.shape[0], height = images.shape[1], width = images.shape[2];
        const int64_t size = out.shape[1];
        const PrepareInput params{.images = count,
                                  .height = height,
                                  .width = width,
                                  .crop = crop,
                                  .size = size,
                                  .out_row_pitch = row_pitch(out, size),
                                  .mean = mean_of(mean),
                                  .padding = padding,
                                  .deviation = {deviation[0], deviation[1], deviation[2]},
                                  .scale = setting<float>("scale", scale, DType::float32, {1}, stream)};
        const cudaStream_t on = mean ? stream.on(out, images, offsets, flips, shifts, *mean)
                                     : stream.on(out, images, offsets, flips, shifts);
        prepare_input(strided_floats("out", out, {count, size, size, 3}),
                      bytes("images", images, {count, height, width, 3}), int32s("offsets", offsets, {count, 2}),
                      bytes("flips", flips, {count}), floats("shifts", shifts, {count, 3}),
                      mean_floats(mean, height, width), params, on);
      },
      "out"_a, "images"_a, "offsets"_a, "flips"_a, "shifts"_a, "mean"_a.none(true), "crop"_a, "padding"_a,
      "deviation"_a, "scale"_a, "stream"_a);

  define_for_arguments(module, "prepare_input_cost", [](const OwnArguments& own) {
    const int64_t crop = own.integer("crop");
    const bool mean_image = !own.is_none("mean") && own.shape("mean").size() > 1;
    return prepare_input_cost({.images = own.shape("images")[0],
                               .height = crop,
                               .width = crop,
                               .crop = crop,
                               .size = own.shape("out")[1],
                               .out_row_pitch = own.strides("out")[1],
                               .mean = mean_image ? Mean::pixel : Mean::none});
  });
}

}  // namespace pyalexnet
