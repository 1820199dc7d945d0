#include "kernels/dropout.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "bindings/setting.h"
#include "device/philox.cuh"
#include "device/stream.h"

namespace pyalexnet {

namespace {

// `draw` has the bytes of the seed and of the offset.
Dropout dropout_over(const Array::Rows& rows, double p, const Array& draw, int64_t row_elements, int64_t first_column,
                     const Stream& stream) {
  return {.rows = rows.rows,
          .columns = rows.columns,
          .row_elements = row_elements,
          .first_column = first_column,
          .p = p,
          .draw = setting<Draw>("draw", draw, DType::uint8, {sizeof(Draw)}, stream)};
}

}  // namespace

void register_dropout(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "dropout_forward",
      [](const Array& y, const Array& x, double p, const Array& draw, int64_t row_elements, int64_t first_column,
         const Stream& stream) {
        const Array::Rows rows = x.rows("x");
        dropout_forward(strided_floats("y", y, x.shape), y.rows("y").pitch, strided_floats("x", x, x.shape), rows.pitch,
                        dropout_over(rows, p, draw, row_elements, first_column, stream), stream.on(y, x));
      },
      "y"_a, "x"_a, "p"_a, "draw"_a, "row_elements"_a, "first_column"_a, "stream"_a);

  module.def(
      "dropout_backward",
      [](const Array& dx, const Array& dy, double p, const Array& draw, int64_t row_elements, int64_t first_column,
         const Stream& stream) {
        const Array::Rows rows = dy.rows("dy");
        dropout_backward(strided_floats("dx", dx, dy.shape), dx.rows("dx").pitch, strided_floats("dy", dy, dy.shape),
                         rows.pitch, dropout_over(rows, p, draw, row_elements, first_column, stream),
                         stream.on(dx, dy));
      },
      "dx"_a, "dy"_a, "p"_a, "draw"_a, "row_elements"_a, "first_column"_a, "stream"_a);

  define_for_arguments(module, "dropout_forward_cost",
                       [](const OwnArguments& own) { return dropout_cost(own.rows("y"), own.columns("y")); });
  define_for_arguments(module, "dropout_backward_cost",
                       [](const OwnArguments& own) { return dropout_cost(own.rows("dx"), own.columns("dx")); });

  module.def(
      "philox",
      [](uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t key) {
        const PhiloxCounter drawn = philox({{c0, c1, c2, c3}}, key);
        return pybind11::make_tuple(drawn.words[0], drawn.words[1], drawn.words[2], drawn.words[3]);
      },
      "c0"_a, "c1"_a, "c2"_a, "c3"_a, "key"_a, "The host's draw of four 32-bit numbers.");
}

}  // namespace pyalexnet
