// Whether AlexNet's layers read their matrices 16 bytes at a time, as on GPUs they must to be fast, by quads alone; and
// conv1, whose runs are no multiple of that, word by word without looking for borders, or else by vectors. A condition that
// is wrong costs time alone, which no result shows. Prints what is not so.
#include <iostream>

#include "kernels/layer_patches.cuh"

using namespace pyalexnet;

namespace {

constexpr int64_t kBatch = 128;
constexpr ReadSteps kSteps{16, 8};     // the longest of any tile that reads quads, in any precision
constexpr ReadSteps kWordSteps{6, 6};  // of those that read words
alignas(16) float memory[4];
int failures = 0;

Access access_to(const Patches& unpadded) {
  const Patches patches = unpadded.padded_to(4);
  if (patches.reads_quads(kSteps)) return Access::kQuads;
  return patches.reads_vectors(kSteps) ? Access::kVectors : Access::kAny;
}

void expect(Access access, const std::string& what, const Patches& patches) {
  if (access_to(patches) == access) return;
  const char* const names[] = {"floats", "vectors", "quads"};
  std::cout << what << " is read by " << names[static_cast<int>(access_to(patches))] << ", not by "
            << names[static_cast<int>(access)] << "\n";
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
  expect(Access::kVectors, "conv1's x", patches_of_x(conv1, memory, padded_rows));
  expect(Access::kQuads, "conv1's dy", patches_of_dy(conv1, memory));
  for (ConvShape shape : others) {
    const std::string name = "the convolution of " + std::to_string(shape.channels) + " channels";
    expect(Access::kQuads, name + "'s x", patches_of_x(shape, memory, dense_strides(shape)));
    expect(Access::kQuads, name + "'s dy", patches_of_dy(shape, memory));
    shape.channels *= 2, shape.filters *= 2, shape.groups = 2;
    expect(Access::kQuads, name + "'s x in two groups", patches_of_x(shape, memory, dense_strides(shape)));
    expect(Access::kQuads, name + "'s dy in two groups", patches_of_dy(shape, memory));
  }
  for (const int64_t inputs : {9216, 4096, 2048, 1000}) {
    expect(Access::kQuads, std::to_string(inputs) + " inputs", patches_of_rows(memory, kBatch, inputs, inputs));
  }

  for (const ImageStrides& strides : {padded_rows, dense_strides(conv1)}) {
    if (patches_of_x(conv1, memory, strides).reads_inside(kWordSteps)) continue;
    std::cout << "conv1's x is not read word by word\n";
    ++failures;
  }
  expect(Access::kAny, "conv1's x without padded rows", patches_of_x(conv1, memory, dense_strides(conv1)));
  expect(Access::kAny, "an array that is not aligned", patches_of_rows(memory + 1, kBatch, 4096, 4096));
  const auto large = [](int64_t columns) { return patches_of_rows(memory, int64_t{1} << 20, columns, columns); };
  expect(Access::kQuads, "a matrix of 2**31 - 2**20 floats", large(2044));
  expect(Access::kVectors, "a matrix of 2**31 floats", large(2048));
  const ConvShape many_taps{kBatch, 27, 27, 48, 128, 11, 11, 1, 5};
  expect(Access::kVectors, "what more taps see than a word has bits",
         patches_of_x(many_taps, memory, dense_strides(many_taps)));
  return failures == 0 ? 0 : 1;
}
