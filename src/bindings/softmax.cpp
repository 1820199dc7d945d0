#include "kernels/softmax.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

void register_softmax(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "softmax_forward",
      [](const Array& y, const Array& x, const Stream& stream) {
        require_rank("x", x, 2, "(rows, columns)");
        softmax_forward(floats("y", y, x.shape), floats("x", x), x.shape[0], x.shape[1], stream.on(y, x));
      },
      "y"_a, "x"_a, "stream"_a);

  module.def(
      "cross_entropy",
      [](const Array& losses, const Array& dlogits, const Array& logits, const Array& labels, const Stream& stream) {
        require_rank("logits", logits, 2, "(rows, columns)");
        const int64_t rows = logits.shape[0], columns = logits.shape[1];
        cross_entropy(floats("losses", losses, {rows}), floats("dlogits", dlogits, logits.shape),
                      floats("logits", logits), int32s("labels", labels, {rows}), rows, columns,
                      stream.on(losses, dlogits, logits, labels));
      },
      "losses"_a, "dlogits"_a, "logits"_a, "labels"_a, "stream"_a);

  define_for_arguments(module, "softmax_forward_cost",
                       [](const OwnArguments& own) { return softmax_forward_cost(own.rows("x"), own.columns("x")); });
  define_for_arguments(module, "cross_entropy_cost", [](const OwnArguments& own) {
    return cross_entropy_cost(own.rows("logits"), own.columns("logits"));
  });
}

}  // namespace pyalexnet
