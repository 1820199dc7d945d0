#include "kernels/sgd.cuh"

#include <algorithm>
#include <cmath>
#include <string>

#include "device/elementwise.cuh"

namespace pyalexnet {

namespace {

// Threads take units: vectors where an array is aligned, single elements behind those and elsewhere. The units of all
// arrays are numbered through.
struct Row {
  float *w, *v;
  const float* g;
  int64_t vectors_end, end;  // the first unit behind the array's vectors, and behind the array
  Setting<Sgd> sgd;
};

constexpr int kParameterBytes = 4096;  // that every GPU has
constexpr int kRows = (kParameterBytes - sizeof(int64_t)) / sizeof(Row);

struct Table {
  int count = 0;
  Row rows[kRows];
};
static_assert(sizeof(Table) <= kParameterBytes);

template <int N>
PYALEXNET_INLINE void step_at(const Row& row, const Sgd& sgd, int64_t i) {
  const float decay_lr = sgd.weight_decay * sgd.lr;
  const Vec<N> weight = load<N>(row.w + i);
  const Vec<N> decayed = fma(broadcast<N>(-decay_lr), weight, broadcast<N>(sgd.momentum) * load<N>(row.v + i));
  const Vec<N> velocity = fma(broadcast<N>(-sgd.lr), load<N>(row.g + i), decayed);
  store(row.v + i, velocity);
  store(row.w + i, weight + velocity);
}

__global__ void sgd_step_kernel(const PYALEXNET_GRID_CONSTANT Table table) {
  const ThreadShare mine = thread_share(table.rows[table.count - 1].end);
  int64_t unit = mine.begin, begin = 0;  // the array's first unit
  for (int r = 0; r < table.count && unit < mine.end; ++r) {
    const Row& row = table.rows[r];
    if (unit < row.end) {
      const Sgd sgd = row.sgd.get();
      const int64_t vectors_end = row.vectors_end < mine.end ? row.vectors_end : mine.end;
      for (; unit < vectors_end; unit += mine.step) step_at<kVectorFloats>(row, sgd, (unit - begin) * kVectorFloats);
      const int64_t end = row.end < mine.end ? row.end : mine.end;
      const int64_t tail = (row.vectors_end - begin) * kVectorFloats;
      for (; unit < end; unit += mine.step) step_at<1>(row, sgd, tail + unit - row.vectors_end);
    }
    begin = row.end;
  }
}

// "[3]"
std::string index_text(size_t i) {
  std::string text = "[";
  text += std::to_string(i);
  text += ']';
  return text;
}

void append(Table& table, const SgdArray& array) {
  const bool vectors = vectors_aligned(array.w) && vectors_aligned(array.v) && vectors_aligned(array.g);
  const int64_t begin = table.count > 0 ? table.rows[table.count - 1].end : 0;
  const int64_t vectors_end = begin + (vectors ? array.count / kVectorFloats : 0);
  table.rows[table.count++] = {.w = array.w,
                               .v = array.v,
                               .g = array.g,
                               .vectors_end = vectors_end,
                               .end = vectors_end + array.count - (vectors_end - begin) * kVectorFloats,
                               .sgd = array.sgd};
}

}  // namespace

void check_sgd(const Setting<Sgd>& sgd, int64_t count, size_t index, size_t arrays) {
  const std::string which = arrays > 1 ? index_text(index) : "";
  require(count >= 1, "count", which, " is ", count, "; it must be at least 1");
  const auto check_rate = [&](const char* name, float rate) {
    require(std::isfinite(rate) && rate >= 0, name, which, " is ", rate, "; it must be finite and not negative");
  };
  if (sgd.place) return;
  check_rate("lr", sgd.value.lr);
  check_rate("momentum", sgd.value.momentum);
  check_rate("weight_decay", sgd.value.weight_decay);
}

int sgd_arrays_a_launch() {
  return kRows;
}

void sgd_step(const std::vector<SgdArray>& arrays, cudaStream_t stream) {
  require(!arrays.empty(), "there are no arrays; there must be at least one");
  for (size_t i = 0; i < arrays.size(); ++i) check_sgd(arrays[i].sgd, arrays[i].count, i, arrays.size());
  for (size_t first = 0; first < arrays.size(); first += kRows) {
    Table table;
    for (size_t i = first; i < std::min(first + kRows, arrays.size()); ++i) append(table, arrays[i]);
    const int64_t units = table.rows[table.count - 1].end;
    launch<sgd_step_kernel>(share_out("sgd_step_kernel", units, kVectorFloats * 20, stream), table);
  }
}

Cost sgd_step_cost(int64_t count) {
  constexpr int64_t kFlops = 6, kFloatsMoved = 5;
  return {kFlops * count, kFloatsMoved * 4 * count};
}

}  // namespace pyalexnet
