#include "kernels/linear.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "bindings/workspace.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

LinearShape linear_shape(const Array& x, const Array& w, const char* x_name, const char* w_name) {
  require_rank(x_name, x, 2, "(batch, inputs)");
  require_rank(w_name, w, 2, "(inputs, outputs)");
  require(w.shape[0] == x.shape[1], w_name, " has shape ", shape_text(w.shape), "; for ", x_name, " of shape ",
          shape_text(x.shape), " its first extent must be ", x.shape[1]);
  return {x.shape[0], x.shape[1], w.shape[1]};
}

// module.name(**arguments) of a layer whose rows and weights, or their gradients, have these names.
template <class Function>
void define_for_shape(pybind11::module_& module, const char* name, Function function, const char* rows,
                      const char* weights) {
  define_for_arguments(module, name, [=](const OwnArguments& own) {
    return function({own.rows(rows), own.rows(weights), own.columns(weights)});
  });
}

}  // namespace

void register_linear(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "linear_forward",
      [](const Array& y, const Array& x, const Array& w, const Array* b, bool relu, const Array& workspace,
         const Stream& stream) {
        const LinearShape s = linear_shape(x, w, "x", "w");
        void* const memory = workspace_memory(workspace, linear_forward_workspace_bytes(s));
        linear_forward(s, strided_floats("y", y, {s.batch, s.outputs}), y.rows("y").pitch,
                       strided_floats("x", x, x.shape), x.rows("x").pitch, floats("w", w),
                       b ? floats("b", *b, {s.outputs}) : nullptr, relu, memory,
                       stream.on(y, x, w, b ? *b : w, workspace));
      },
      "y"_a, "x"_a, "w"_a, "b"_a.none(true), "relu"_a, "workspace"_a, "stream"_a);

  module.def(
      "linear_backward_input",
      [](const Array& dx, const Array& dy, const Array& w, const Array& workspace, const Stream& stream) {
        const LinearShape s = linear_shape(dx, w, "dx", "w");
        void* const memory = workspace_memory(workspace, linear_backward_input_workspace_bytes(s));
        linear_backward_input(s, floats("dx", dx), strided_floats("dy", dy, {s.batch, s.outputs}), dy.rows("dy").pitch,
                              floats("w", w), memory, stream.on(dx, dy, w, workspace));
      },
      "dx"_a, "dy"_a, "w"_a, "workspace"_a, "stream"_a);

  module.def(
      "linear_backward_weight",
      [](const Array& dw, const Array* db, const Array& x, const Array& dy, const Array& workspace,
         const Stream& stream) {
        const LinearShape s = linear_shape(x, dw, "x", "dw");
        void* const memory = workspace_memory(workspace, linear_backward_weight_workspace_bytes(s));
        linear_backward_weight(s, floats("dw", dw), db ? floats("db", *db, {s.outputs}) : nullptr,
                               strided_floats("x", x, x.shape), x.rows("x").pitch,
                               strided_floats("dy", dy, {s.batch, s.outputs}), dy.rows("dy").pitch, memory,
                               stream.on(dw, db ? *db : dw, x, dy, workspace));
      },
      "dw"_a, "db"_a.none(true), "x"_a, "dy"_a, "workspace"_a, "stream"_a);

  define_for_shape(module, "linear_forward_workspace_bytes", &linear_forward_workspace_bytes, "x", "w");
  define_for_shape(module, "linear_backward_input_workspace_bytes", &linear_backward_input_workspace_bytes, "dx", "w");
  define_for_shape(module, "linear_backward_weight_workspace_bytes", &linear_backward_weight_workspace_bytes, "x",
                   "dw");
  define_for_shape(module, "linear_forward_cost", &linear_forward_cost, "x", "w");
  define_for_shape(module, "linear_backward_input_cost", &linear_backward_input_cost, "dx", "w");
  define_for_shape(module, "linear_backward_weight_cost", &linear_backward_weight_cost, "x", "dw");
}

}  // namespace pyalexnet
