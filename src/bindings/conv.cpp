#include "kernels/conv.cuh"

#include <pybind11/stl.h>

#include "bindings/plan.h"
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

Shape x_shape(const ConvShape& s) {
  return {s.batch, s.height, s.width, s.channels};
}

Shape w_shape(const ConvShape& s) {
  return {s.kernel_height, s.kernel_width, s.channels / s.groups, s.filters};
}

Shape y_shape(const ConvShape& s) {
  return {s.batch, s.out_height(), s.out_width(), s.filters};
}

// x, whose pixels may stand apart.
const float* image_floats(const char* name, const Array& image, const Shape& shape) {
  const float* const floats = strided_floats(name, image, shape);
  require(image.strides[3] == 1 || image.shape[3] == 1, name, " has strides ", shape_text(image.strides),
          "; the channels of a pixel must be contiguous");
  return floats;
}

// Spectra of x or w, as conv_x_spectra and conv_w_spectra leave them for a plan that has so many bytes of them.
float* spectra_floats(const char* name, const Array& spectra, const ConvPlan& plan, int64_t bytes) {
  require(plan.way != ConvWay::kDirect, name, " is given, but the plan's algorithm is '", plan.algorithm(),
          "', which has no spectra");
  require(bytes > 0, name, " is given; the plan must be made with keeps_w_spectra");
  return floats(name, spectra, {bytes / int64_t{sizeof(float)}});
}

float* x_spectra_floats(const char* name, const Array& spectra, const ConvPlan& plan) {
  return spectra_floats(name, spectra, plan, plan.x_spectra_bytes);
}
float* w_spectra_floats(const char* name, const Array& spectra, const ConvPlan& plan) {
  return spectra_floats(name, spectra, plan, plan.w_spectra_bytes);
}

ImageStrides image_strides(const Array& image) {
  return {image.strides[0], image.strides[1], image.strides[2]};
}

// The convolution whose image and weights, or their gradients, have these names.
ConvShape conv_shape(const OwnArguments& own, const char* image, const char* weights) {
  return conv_shape(own.shape(image), own.shape(weights), own.integer("stride"), own.integer("padding"),
                    own.integer("groups"));
}

}  // namespace

void register_conv(pybind11::module_& module) {
  using namespace pybind11::literals;

  register_plan<ConvPlan>(module, "ConvPlan")
      .def_readonly("x_spectra_bytes", &ConvPlan::x_spectra_bytes)
      .def_readonly("w_spectra_bytes", &ConvPlan::w_spectra_bytes);
  module.def(
      "conv_forward_plan",
      [](bool batch_invariant, bool keeps_w_spectra, const pybind11::kwargs& given) {
        const OwnArguments own(given);
        return conv_forward_plan(conv_shape(own, "x", "w"), product_choice(own), batch_invariant, keeps_w_spectra);
      },
      pybind11::kw_only(), "batch_invariant"_a = false, "keeps_w_spectra"_a = false);
  define_for_arguments(module, "conv_backward_input_plan", [](const OwnArguments& own) {
    return conv_backward_input_plan(conv_shape(own, "dx", "w"), product_choice(own));
  });
  define_for_arguments(module, "conv_backward_weight_plan", [](const OwnArguments& own) {
    return conv_backward_weight_plan(conv_shape(own, "x", "dw"), product_choice(own));
  });

  module.def(
      "conv_x_spectra",
      [](const ConvPlan& plan, const Array& spectra, const Array& x, const Stream& stream) {
        const ConvShape& s = plan_of("conv_forward", plan).shape;
        conv_x_spectra(plan, x_spectra_floats("spectra", spectra, plan), image_floats("x", x, x_shape(s)),
                       image_strides(x), stream.on(spectra, x));
      },
      "plan"_a, "spectra"_a, "x"_a, "stream"_a);

  module.def(
      "conv_w_spectra",
      [](const ConvPlan& plan, const Array& spectra, const Array& w, const Stream& stream) {
        const ConvShape& s = plan_of("conv_forward", plan).shape;
        conv_w_spectra(plan, w_spectra_floats("spectra", spectra, plan), floats("w", w, w_shape(s)),
                       stream.on(spectra, w));
      },
      "plan"_a, "spectra"_a, "w"_a, "stream"_a);

  module.def(
      "conv_forward",
      [](const ConvPlan& plan, const Array& y, const Array& x, const Array& w, const Array* b, bool relu,
         const Array& workspace, const Stream& stream, const Array* x_spectra, const Array* w_spectra) {
        const ConvShape& s = plan_of("conv_forward", plan).shape;
        require(w_spectra || !plan.w_spectra_bytes, "w_spectra is None; it must be those of w, which the plan keeps");
        conv_forward(plan, floats("y", y, y_shape(s)), image_floats("x", x, x_shape(s)), image_strides(x),
                     floats("w", w, w_shape(s)), b ? floats("b", *b, {s.filters}) : nullptr, relu,
                     x_spectra ? x_spectra_floats("x_spectra", *x_spectra, plan) : nullptr,
                     w_spectra ? w_spectra_floats("w_spectra", *w_spectra, plan) : nullptr,
                     workspace_memory(workspace, plan.workspace_bytes),
                     stream.on(y, x, w, b ? *b : w, workspace, x_spectra ? *x_spectra : x, w_spectra ? *w_spectra : w));
      },
      "plan"_a, "y"_a, "x"_a, "w"_a, "b"_a.none(true), "relu"_a, "workspace"_a, "stream"_a,
      "x_spectra"_a.none(true) = pybind11::none(), "w_spectra"_a.none(true) = pybind11::none());

  module.def(
      "conv_backward_input",
      [](const ConvPlan& plan, const Array& dx, const Array& dy, const Array& w, const Array& workspace,
         const Stream& stream) {
        const ConvShape& s = plan_of("conv_backward_input", plan).shape;
        conv_backward_input(plan, floats("dx", dx, x_shape(s)), floats("dy", dy, y_shape(s)),
                            floats("w", w, w_shape(s)), workspace_memory(workspace, plan.workspace_bytes),
                            stream.on(dx, dy, w, workspace));
      },
      "plan"_a, "dx"_a, "dy"_a, "w"_a, "workspace"_a, "stream"_a);

  module.def(
      "conv_backward_weight",
      [](const ConvPlan& plan, const Array& dw, const Array* db, const Array& x, const Array& dy,
         const Array& workspace, const Stream& stream, const Array* x_spectra) {
        const ConvShape& s = plan_of("conv_backward_weight", plan).shape;
        conv_backward_weight(plan, floats("dw", dw, w_shape(s)), db ? floats("db", *db, {s.filters}) : nullptr,
                             image_floats("x", x, x_shape(s)), image_strides(x), floats("dy", dy, y_shape(s)),
                             x_spectra ? x_spectra_floats("x_spectra", *x_spectra, plan) : nullptr,
                             workspace_memory(workspace, plan.workspace_bytes),
                             stream.on(dw, db ? *db : dw, x, dy, workspace, x_spectra ? *x_spectra : x));
      },
      "plan"_a, "dw"_a, "db"_a.none(true), "x"_a, "dy"_a, "workspace"_a, "stream"_a,
      "x_spectra"_a.none(true) = pybind11::none());

  module.def(
      "conv_y_shape",
      [](const Shape& x_shape, const Shape& w_shape, int64_t stride, int64_t padding, int64_t groups) {
        return y_shape(conv_shape(x_shape, w_shape, stride, padding, groups));
      },
      "x_shape"_a, "w_shape"_a, "stride"_a, "padding"_a, "groups"_a);
  module.def("product_algorithms", &product_algorithms);
  module.def("conv_algorithms", &conv_algorithms);
  define_cost_of_plan<ConvPlan>(module, "conv_forward", &conv_forward_cost);
  define_for_arguments(module, "conv_x_spectra_cost", [](const OwnArguments& own) {
    return conv_x_spectra_cost(plan_of("conv_forward", own.object<const ConvPlan&>("plan")).shape);
  });
  define_for_arguments(module, "conv_w_spectra_cost", [](const OwnArguments& own) {
    return conv_w_spectra_cost(plan_of("conv_forward", own.object<const ConvPlan&>("plan")).shape);
  });
  define_cost_of_plan<ConvPlan>(module, "conv_backward_input", &conv_backward_input_cost);
  define_cost_of_plan<ConvPlan>(module, "conv_backward_weight", &conv_backward_weight_cost);
}

}  // namespace pyalexnet
