#include "kernels/linear.cuh"

#include "bindings/plan.h"
#include "bindings/register.h"
#include "bindings/workspace.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

// The layer whose rows and weights, or their gradients, have these names.
LinearShape linear_shape(const OwnArguments& own, const char* rows, const char* weights) {
  require(own.rows(weights) == own.columns(rows), weights, " has shape ", shape_text(own.shape(weights)), "; for ",
          rows, " of shape ", shape_text(own.shape(rows)), " its first extent must be ", own.columns(rows));
  return {own.rows(rows), own.columns(rows), own.columns(weights)};
}

}  // namespace

void register_linear(pybind11::module_& module) {
  using namespace pybind11::literals;

  register_plan<LinearPlan>(module, "LinearPlan");
  module.def(
      "linear_forward_plan",
      [](bool batch_invariant, const pybind11::kwargs& given) {
        const OwnArguments own(given);
        return linear_forward_plan(linear_shape(own, "x", "w"), product_choice(own), batch_invariant);
      },
      pybind11::kw_only(), "batch_invariant"_a = false);
  define_for_arguments(module, "linear_backward_input_plan", [](const OwnArguments& own) {
    return linear_backward_input_plan(linear_shape(own, "dx", "w"), product_choice(own));
  });
  define_for_arguments(module, "linear_backward_weight_plan", [](const OwnArguments& own) {
    return linear_backward_weight_plan(linear_shape(own, "x", "dw"), product_choice(own));
  });

  module.def(
      "linear_forward",
      [](const LinearPlan& plan, const Array& y, const Array& x, const Array& w, const Array* b, bool relu,
         const Array& workspace, const Stream& stream) {
        const LinearShape& s = plan_of("linear_forward", plan).shape;
        linear_forward(plan, strided_floats("y", y, {s.batch, s.outputs}), y.rows("y").pitch,
                       strided_floats("x", x, {s.batch, s.inputs}), x.rows("x").pitch,
                       floats("w", w, {s.inputs, s.outputs}), b ? floats("b", *b, {s.outputs}) : nullptr, relu,
                       workspace_memory(workspace, plan.workspace_bytes), stream.on(y, x, w, b ? *b : w, workspace));
      },
      "plan"_a, "y"_a, "x"_a, "w"_a, "b"_a.none(true), "relu"_a, "workspace"_a, "stream"_a);

  module.def(
      "linear_backward_input",
      [](const LinearPlan& plan, const Array& dx, const Array& dy, const Array& w, const Array& workspace,
         const Stream& stream) {
        const LinearShape& s = plan_of("linear_backward_input", plan).shape;
        linear_backward_input(plan, floats("dx", dx, {s.batch, s.inputs}),
                              strided_floats("dy", dy, {s.batch, s.outputs}), dy.rows("dy").pitch,
                              floats("w", w, {s.inputs, s.outputs}), workspace_memory(workspace, plan.workspace_bytes),
                              stream.on(dx, dy, w, workspace));
      },
      "plan"_a, "dx"_a, "dy"_a, "w"_a, "workspace"_a, "stream"_a);

  module.def(
      "linear_backward_weight",
      [](const LinearPlan& plan, const Array& dw, const Array* db, const Array& x, const Array& dy,
         const Array& workspace, const Stream& stream) {
        const LinearShape& s = plan_of("linear_backward_weight", plan).shape;
        linear_backward_weight(
            plan, floats("dw", dw, {s.inputs, s.outputs}), db ? floats("db", *db, {s.outputs}) : nullptr,
            strided_floats("x", x, {s.batch, s.inputs}), x.rows("x").pitch,
            strided_floats("dy", dy, {s.batch, s.outputs}), dy.rows("dy").pitch,
            workspace_memory(workspace, plan.workspace_bytes), stream.on(dw, db ? *db : dw, x, dy, workspace));
      },
      "plan"_a, "dw"_a, "db"_a.none(true), "x"_a, "dy"_a, "workspace"_a, "stream"_a);

  define_cost_of_plan<LinearPlan>(module, "linear_forward", &linear_forward_cost);
  define_cost_of_plan<LinearPlan>(module, "linear_backward_input", &linear_backward_input_cost);
  define_cost_of_plan<LinearPlan>(module, "linear_backward_weight", &linear_backward_weight_cost);
}

}  // namespace pyalexnet
