// Whether AlexNet's layers read their matrices 16 bytes at a time, as on GPUs they must to be fast. A condition that is
// wrong costs time alone, which no result shows. Prints what is not so.
#include <iostream>

#include "kernels/layer_patches.cuh"

using namespace pyalexnet;

namespace {

constexpr int64_t kBatch = 128;
constexpr int kDepth = 8;  // of a GPU's slices
alignas(16) float memory[4];
int failures = 0;

void expect(bool vectors, const std::string& what, const Patches& patches) {
  if (patches.reads_vectors(kDepth) == vectors) return;
  std::cout << what << (vectors ? " is not read by vectors\n" : " is read by vectors\n");
  ++failures;
}

}  // namespace

int main() {
  // A tower's convolutions, Krizhevsky et al. 2012, section 3.5.
  const ConvShape conv1{kBatch, 227, 227, 3, 48, 11, 11, 4, 0};
  const std::vector<ConvShape> others{{kBatch, 27, 27, 48, 128, 5, 5, 1, 2},
                                      {kBatch, 13, 13, 256, 192, 3, 3, 1, 1},
                                      {kBatch, 13, 13, 192, 192, 3, 3, 1, 1},
                                      {kBatch, 13, 13, 192, 128, 3, 3, 1, 1}};
  const ImageStrides padded_rows{227 * 684, 684, 3};  // of the 681 floats that a row has
  expect(true, "conv1's x", patches_of_x(conv1, memory, padded_rows));
  for (ConvShape shape : others) {
    const std::string name = "the convolution of " + std::to_string(shape.channels) + " channels";
    expect(true, name + "'s x", patches_of_x(shape, memory, dense_strides(shape)));
    expect(true, name + "'s dy", patches_of_dy(shape, memory));
    shape.channels *= 2, shape.filters *= 2, shape.groups = 2;
    expect(true, name + "'s x in two groups", patches_of_x(shape, memory, dense_strides(shape)));
    expect(true, name + "'s dy in two groups", patches_of_dy(shape, memory));
  }
  for (const int64_t inputs : {9216, 4096, 2048, 1000}) {
    expect(true, std::to_string(inputs) + " inputs", patches_of_rows(memory, kBatch, inputs, inputs));
  }

  expect(false, "conv1's x without padded rows", patches_of_x(conv1, memory, dense_strides(conv1)));
  expect(false, "an array that is not aligned", patches_of_rows(memory + 1, kBatch, 4096, 4096));
  return failures == 0 ? 0 : 1;
}
