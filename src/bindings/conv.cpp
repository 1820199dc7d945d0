#include "kernels/conv.cuh"

#include <pybind11/stl.h>

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "bindings/workspace.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

using Shape = std::vector<int64_t>;

// From the shapes of x (batch, height, width, channels) and w (kernel height, kernel width, channels of a group,
// filters).
ConvShape conv_shape(const Shape& x, const Shape& w, int64_t stride, int64_t padding, int64_t groups) {
  require(x.size() == 4, "x has shape ", shape_text(x), "; it must have 4 axes (batch, height, width, channels)");
  require(w.size() == 4, "w has shape ", shape_text(w),
          "; it must have 4 axes (height, width, channels / groups, filters)");
  require(groups >= 1 && groups <= x[3] && x[3] % groups == 0, "groups is ", groups, "; it must divide the ", x[3],
          " channels of x");
  require(w[2] == x[3] / groups, "w has shape ", shape_text(w), "; for x of shape ", shape_text(x),
          " and groups=", groups, " its third extent must be ", x[3], " / ", groups);
  const ConvShape shape{x[0], x[1], x[2], x[3], w[3], w[0], w[1], stride, padding, groups};
  check_conv_shape(shape);
  return shape;
}

Shape y_shape(const ConvShape& s) {
  return {s.batch, s.out_height(), s.out_width(), s.filters};
}

const float* image_floats(const char* name, const Array& image) {
  require(image.strides[3] == 1 || image.shape[3] == 1, name, " has strides ", shape_text(image.strides),
          "; the channels of a pixel must be contiguous");
  return strided_floats(name, image, image.shape);
}

ImageStrides image_strides(const Array& image) {
  return {image.strides[0], image.strides[1], image.strides[2]};
}

// module.name(**arguments) of a convolution whose image and weights, or their gradients, have these names.
template <class Function>
void define_for_shape(pybind11::module_& module, const char* name, Function function, const char* image,
                      const char* weights) {
  define_for_arguments(module, name, [=](const OwnArguments& own) {
    return function(conv_shape(own.shape(image), own.shape(weights), own.integer("stride"), own.integer("padding"),
                               own.integer("groups")));
  });
}

}  // namespace

void register_conv(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "conv_forward",
      [](const Array& y, const Array& x, const Array& w, const Array* b, int64_t stride, int64_t padding,
         int64_t groups, bool relu, const Array& workspace, const Stream& stream) {
        const ConvShape s = conv_shape(x.shape, w.shape, stride, padding, groups);
        void* const memory = workspace_memory(workspace, conv_forward_workspace_bytes(s));
        conv_forward(s, floats("y", y, y_shape(s)), image_floats("x", x), image_strides(x), floats("w", w),
                     b ? floats("b", *b, {s.filters}) : nullptr, relu, memory,
                     stream.on(y, x, w, b ? *b : w, workspace));
      },
      "y"_a, "x"_a, "w"_a, "b"_a.none(true), "stride"_a, "padding"_a, "groups"_a, "relu"_a, "workspace"_a, "stream"_a);

  module.def(
      "conv_backward_input",
      [](const Array& dx, const Array& dy, const Array& w, int64_t stride, int64_t padding, int64_t groups,
         const Array& workspace, const Stream& stream) {
        const ConvShape s = conv_shape(dx.shape, w.shape, stride, padding, groups);
        void* const memory = workspace_memory(workspace, conv_backward_input_workspace_bytes(s));
        conv_backward_input(s, floats("dx", dx), floats("dy", dy, y_shape(s)), floats("w", w), memory,
                            stream.on(dx, dy, w, workspace));
      },
      "dx"_a, "dy"_a, "w"_a, "stride"_a, "padding"_a, "groups"_a, "workspace"_a, "stream"_a);

  module.def(
      "conv_backward_weight",
      [](const Array& dw, const Array* db, const Array& x, const Array& dy, int64_t stride, int64_t padding,
         int64_t groups, const Array& workspace, const Stream& stream) {
        const ConvShape s = conv_shape(x.shape, dw.shape, stride, padding, groups);
        void* const memory = workspace_memory(workspace, conv_backward_weight_workspace_bytes(s));
        conv_backward_weight(s, floats("dw", dw), db ? floats("db", *db, {s.filters}) : nullptr, image_floats("x", x),
                             image_strides(x), floats("dy", dy, y_shape(s)), memory,
                             stream.on(dw, db ? *db : dw, x, dy, workspace));
      },
      "dw"_a, "db"_a.none(true), "x"_a, "dy"_a, "stride"_a, "padding"_a, "groups"_a, "workspace"_a, "stream"_a);

  module.def(
      "conv_y_shape",
      [](const Shape& x_shape, const Shape& w_shape, int64_t stride, int64_t padding, int64_t groups) {
        return y_shape(conv_shape(x_shape, w_shape, stride, padding, groups));
      },
      "x_shape"_a, "w_shape"_a, "stride"_a, "padding"_a, "groups"_a);
  define_for_shape(module, "conv_forward_workspace_bytes", &conv_forward_workspace_bytes, "x", "w");
  define_for_shape(module, "conv_backward_input_workspace_bytes", &conv_backward_input_workspace_bytes, "dx", "w");
  define_for_shape(module, "conv_backward_weight_workspace_bytes", &conv_backward_weight_workspace_bytes, "x", "dw");
  define_for_shape(module, "conv_forward_cost", &conv_forward_cost, "x", "w");
  define_for_shape(module, "conv_backward_input_cost", &conv_backward_input_cost, "dx", "w");
  define_for_shape(module, "conv_backward_weight_cost", &conv_backward_weight_cost, "x", "dw");
}

}  // namespace pyalexnet
