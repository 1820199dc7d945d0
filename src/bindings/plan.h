// Plans of operations, as Python sees them: made from the operation's own arguments, handed to it, printed.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/own_arguments.h"
#include "device/check.h"
#include "device/tensor_cores.h"
#include "kernels/product_plan.cuh"

namespace pyalexnet {

// The arguments algorithm and precision.
inline ProductChoice product_choice(const OwnArguments& own) {
  const std::string precision = own.text("precision");
  return {own.text("algorithm"), precision.empty() ? Precision::kFp32 : precision_named(precision)};
}

// The class `name` of plans. A plan prints as its algorithm, the parts of its sums and whether they are the same for each
// batch, such as "direct_128x64 in 3 parts, batch-invariant" or "fourier by direct_128x128".
template <class Plan>
pybind11::class_<Plan> register_plan(pybind11::module_& module, const char* name) {
  const auto text = [](const Plan& plan) {
    const ProductPlan& product = plan.product;
    const std::string algorithm = plan.algorithm();
    return (algorithm == product.algorithm ? "" : algorithm + " by ") + product.algorithm +
           (product.precision == Precision::kFp32 ? "" : " in " + precision_name(product.precision)) +
           (product.parts > 1 ? " in " + std::to_string(product.parts) + " parts" : "") +
           (product.batch_invariant ? ", batch-invariant" : "");
  };
  return pybind11::class_<Plan>(module, name, pybind11::module_local())
      .def_readonly("operation", &Plan::operation)
      .def_property_readonly("algorithm", [](const Plan& plan) { return plan.algorithm(); })
      .def_property_readonly("precision", [](const Plan& plan) { return precision_name(plan.product.precision); })
      .def_property_readonly("parts", [](const Plan& plan) { return plan.product.parts; })
      .def_property_readonly("batch_invariant", [](const Plan& plan) { return plan.product.batch_invariant; })
      .def_readonly("workspace_bytes", &Plan::workspace_bytes)
      .def("__str__", text)
      .def("__repr__", [=](const Plan& plan) {
        return "<plan of " + plan.operation + ": " + text(plan) + ", workspace of " +
               std::to_string(plan.workspace_bytes) + " bytes>";
      });
}

// Throws std::invalid_argument unless the plan is one of `operation`.
template <class Plan>
const Plan& plan_of(const char* operation, const Plan& plan) {
  require(plan.operation == operation, "plan is one of ", plan.operation, "; it must be one of ", operation);
  return plan;
}

// module.<operation>_cost(plan=plan, ...) is what a plan's operation costs.
template <class Plan, class Function>
void define_cost_of_plan(pybind11::module_& module, const char* operation, Function cost) {
  define_for_arguments(module, (std::string(operation) + "_cost").c_str(), [=](const OwnArguments& own) {
    return cost(plan_of(operation, own.object<const Plan&>("plan")).shape);
  });
}

}  // namespace pyalexnet
