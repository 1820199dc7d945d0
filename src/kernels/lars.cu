#include "kernels/lars.cuh"

#include <algorithm>
#include <cmath>

#include "device/reduce.cuh"

namespace pyalexnet {

namespace {

// What a block sums up at a time: enough to be worth a block, and enough blocks of fc6's 38 million weights.
constexpr int64_t kPartElements = 32768;

struct Row {
  const float *w, *g;
  int64_t count, parts_end;  // elements; the first part behind the array's, of all arrays' numbered through
  Setting<Sgd> sgd;
  Sgd* scaled;
};

constexpr int kParameterBytes = 4096;  // that every GPU has
constexpr int kRows = (kParameterBytes - 2 * sizeof(void*) - sizeof(Setting<float>) - sizeof(int64_t)) / sizeof(Row);

struct Table {
  int count = 0;
  Row rows[kRows];

  __host__ __device__ int64_t parts() const { return rows[count - 1].parts_end; }
  __host__ __device__ int64_t first_part(int row) const { return row == 0 ? 0 : rows[row - 1].parts_end; }
};

// All threads of the block must call; each gets the sum.
template <class Term>
__device__ inline float block_sum(int64_t count, Term term) {
  Vec<kRowLanes> sums = broadcast<kRowLanes>(0.0f);
  for_each_run_of_row(count, [&](int64_t i, int lanes) { sums = term(i, lanes, sums); });
  return block_reduce(sums, [](float a, float b) { return a + b; });
}

__device__ inline float sum(const float* x, int64_t count) {
  return block_sum(count, [&](int64_t i, int lanes, Vec<kRowLanes> sums) {
    return sums + load_lanes<kRowLanes>(x + i, lanes, true);
  });
}

__device__ inline float sum_of_squares(const float* x, int64_t count) {
  return block_sum(count, [&](int64_t i, int lanes, Vec<kRowLanes> sums) {
    const Vec<kRowLanes> value = load_lanes<kRowLanes>(x + i, lanes, true);
    return fma(value, value, sums);
  });
}

// One block a part. The sums of w's squares by part lie before those of g's.
__global__ void square_sums_kernel(float* sums, const PYALEXNET_GRID_CONSTANT Table table) {
  const int64_t parts = table.parts();
  for (int64_t part = blockIdx.x; part < parts; part += gridDim.x) {
    int r = 0;
    while (part >= table.rows[r].parts_end) ++r;
    const Row& row = table.rows[r];
    const int64_t first = (part - table.first_part(r)) * kPartElements;
    const int64_t count = row.count - first < kPartElements ? row.count - first : kPartElements;
    const float of_w = sum_of_squares(row.w + first, count), of_g = sum_of_squares(row.g + first, count);
    if (threadIdx.x == 0) {
      sums[part] = of_w;
      sums[parts + part] = of_g;
    }
  }
}

// One block an array.
__global__ void lars_rates_kernel(const float* sums, Setting<float> trust, const PYALEXNET_GRID_CONSTANT Table table) {
  const int r = static_cast<int>(blockIdx.x);
  const Row& row = table.rows[r];
  const int64_t first = table.first_part(r), parts = row.parts_end - first;
  const float w_norm = sqrtf(sum(sums + first, parts));
  const float g_norm = sqrtf(sum(sums + table.parts() + first, parts));
  if (threadIdx.x > 0) return;
  Sgd sgd = row.sgd.get();
  if (w_norm > 0 && g_norm > 0) sgd.lr *= trust.get() * (w_norm / (g_norm + sgd.weight_decay * w_norm));
  *row.scaled = sgd;
}

int64_t parts_of(int64_t count) {
  return ceil_div(count, kPartElements);
}

void append(Table& table, const LarsArray& array) {
  const int64_t parts_begin = table.count > 0 ? table.parts() : 0;
  table.rows[table.count++] = {.w = array.w,
                               .g = array.g,
                               .count = array.count,
                               .parts_end = parts_begin + parts_of(array.count),
                               .sgd = array.sgd,
                               .scaled = array.scaled};
}

}  // namespace

int64_t lars_rates_workspace_floats(const std::vector<int64_t>& counts) {
  int64_t parts = 0;
  for (const int64_t count : counts) parts += parts_of(count);
  return 2 * parts;
}

void lars_rates(const std::vector<LarsArray>& arrays, Setting<float> trust, float* workspace, cudaStream_t stream) {
  require(!arrays.empty(), "there are no arrays; there must be at least one");
  require(trust.place || (std::isfinite(trust.value) && trust.value >= 0), "trust is ", trust.value,
          "; it must be finite and not negative");
  for (size_t i = 0; i < arrays.size(); ++i) check_sgd(arrays[i].sgd, arrays[i].count, i, arrays.size());
  for (size_t first = 0; first < arrays.size(); first += kRows) {
    Table table;
    for (size_t i = first; i < std::min(first + kRows, arrays.size()); ++i) append(table, arrays[i]);
    constexpr int64_t kMostBlocks = 65535;
    const auto blocks = static_cast<unsigned>(std::min(table.parts(), kMostBlocks));
    launch<square_sums_kernel>({"square_sums_kernel", dim3(blocks), dim3(kRowThreads), stream}, workspace, table);
    launch<lars_rates_kernel>(
        {"lars_rates_kernel", dim3(static_cast<unsigned>(table.count)), dim3(kRowThreads), stream}, workspace, trust,
        table);
  }
}

Cost lars_rates_cost(int64_t count) {
  constexpr int64_t kFlops = 4, kFloatsMoved = 2;
  return {kFlops * count, kFloatsMoved * 4 * count};
}

}  // namespace pyalexnet
