#include "kernels/product_plan.cuh"

#include <algorithm>
#include <limits>

#include "device/patches.cuh"
#include "device/sizes.h"
#include "device/tile.cuh"

namespace pyalexnet {

namespace {

// So much of the result is one block's.
struct BlockSize {
  int rows, columns;
};

// When sums are cut into parts: into at most about so many blocks, of at least so many terms.
struct PartRule {
  int64_t most_blocks, least_terms;
};

#if defined(PYALEXNET_TARGET_CPU)

// 32 blocks keep any number of cores busy that shares a memory; adding the parts of 512 terms costs little beside them.
constexpr PartRule kPartRule{.most_blocks = 32, .least_terms = 512};

// With so many rows or fewer, of so many columns or more, reading the right matrix takes the time: a wide tile. (Rows:
// AlexNet's fc6 on two AVX2 cores and its training step on two with AVX-512. Columns: its planes of spectra there.)
constexpr int64_t kFewRows = 24, kWideColumns = 128;

// As many as the rule allows. In a batch-invariant plan as few as can be, where smaller blocks take their place; but
// where an image is one row these would cut the right matrix's rows: there each part has so many terms, whichever tile.
template <class Tile>
int64_t best_parts(const ProductShape& shape, int64_t, int64_t least, int64_t most, Tile) {
  constexpr int64_t kPartTerms = 1024;
  if (shape.image_rows == 1) return std::max(least, std::min(kPartRule.most_blocks, shape.terms / kPartTerms));
  return shape.image_rows ? least : most;
}

// A block below this size would copy its slices of both matrices for too few multiply-adds.
constexpr int64_t kLeastBlockRows = 24, kLeastBlockColumns = 96;

// The tile's rows and columns; in a batch-invariant plan fewer where there would be few blocks. Columns are cut first:
// each block of columns reads all of the left matrix, which is mostly in cache, and its own part of the right one.
template <class Tile>
BlockSize block_size(const ProductShape& shape, Tile) {
  if (!shape.image_rows || Tile::kWide) return {Tile::kRows, Tile::kColumns};
  const int64_t columns = shape.columns / shape.groups;
  int64_t row_blocks = ceil_div(shape.rows, Tile::kRows), column_blocks = ceil_div(columns, Tile::kColumns);
  const auto cut = [&](int64_t& blocks, int64_t most) {
    const int64_t times = ceil_div(kPartRule.most_blocks, row_blocks * column_blocks * shape.groups);
    blocks = std::max(blocks, std::min(blocks * times, most));
  };
  cut(column_blocks, columns / kLeastBlockColumns);
  cut(row_blocks, shape.rows / kLeastBlockRows);
  const auto share = [](int64_t whole, int64_t blocks, int multiple) {
    return static_cast<int>(ceil_div(ceil_div(whole, blocks), multiple) * multiple);
  };
  return {share(shape.rows, row_blocks, Tile::kThreadRows), share(columns, column_blocks, Tile::kPanel)};
}

#else

constexpr PartRule kPartRule{.most_blocks = 2048, .least_terms = 256};
constexpr int64_t kFewRows = 0, kWideColumns = 0;  // no tile is wide

// What a product is cut for: an H100, on which training steps were measured with this choice and with others. A GPU of
// fewer multiprocessors does the same blocks in more rounds, of which the last one, only partly full, counts for less.
constexpr int64_t kMultiprocessors = 132;
// Bytes a clock that its memory moves, and multiply-adds a clock of one multiprocessor in these kernels: so much of the
// peak.
constexpr double kMemoryBytes = 1690.0;
constexpr double multiply_adds(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return 128 * 2.0 / 3.0;
    case Precision::kTf32:
      return 1024 * 0.4;
    case Precision::kBf16:
      return 2048 * 0.3;
    case Precision::kTf32x3:
      return 1024 * 0.6 / 3.0;
  }
  return 0.0;
}

// The number from `least` to `most` of parts for which the rounds of blocks, and then the parts' addition, take least.
// Times are in those of one term of a round: all multiprocessors' blocks multiply it.
template <class Tile>
int64_t best_parts(const ProductShape& shape, int64_t blocks, int64_t least, int64_t most, Tile) {
  constexpr double kSumsOfRound = static_cast<double>(Tile::kRows) * Tile::kColumns * Tile::kBlocksPerMultiprocessor;
  constexpr double kSumsMoved =
      kMemoryBytes / (2 * sizeof(float)) / multiply_adds(Tile::kPrecision) * kSumsOfRound;  // written and read
  const auto sums = static_cast<double>(shape.rows * shape.columns);
  int64_t best = least;
  double least_time = std::numeric_limits<double>::infinity();
  for (int64_t parts = least; parts <= most; ++parts) {
    const int64_t rounds = ceil_div(blocks * parts, kMultiprocessors * Tile::kBlocksPerMultiprocessor);
    const double moved = parts == 1 ? 0.0 : sums * static_cast<double>(parts);
    const double time =
        static_cast<double>(rounds) * static_cast<double>(ceil_div(shape.terms, parts)) + moved / kSumsMoved;
    if (time < least_time) best = parts, least_time = time;
  }
  return best;
}

template <class Tile>
BlockSize block_size(const ProductShape&, Tile) {
  return {Tile::kRows, Tile::kColumns};
}

#endif

// The parts follow from the shape without padded runs, so that they are the same whichever way an input is laid out.
//
// A GPU pays for a batch-invariant plan in large batches, where the parts that one image needs are written and read for
// all of them: 128 images' conv2 of a tower has 4 parts of 93,312 x 128 sums, 0.4 GB moved beside 29 GFLOP; conv3 has 9.
template <class Tile>
int64_t parts_of(ProductShape shape, Tile tile) {
  if (shape.image_rows) shape.rows = shape.image_rows;
  const int64_t columns = shape.columns / shape.groups;
  const int64_t blocks = ceil_div(shape.rows, Tile::kRows) * ceil_div(columns, Tile::kColumns) * shape.groups;
  const int64_t least = ceil_div(shape.terms, kMaxTerms / 2);
  const int64_t most = std::max(least, std::min(kPartRule.most_blocks / blocks, shape.terms / kPartRule.least_terms));
  return best_parts(shape, blocks, least, most, tile);
}

template <class Tile>
std::string algorithm_of(Tile) {
  const auto by = [](int rows, int columns) { return std::to_string(rows) + "x" + std::to_string(columns); };
  return std::string(Tile::kWide ? "direct_wide_" : "direct_") +
         (Tile::kSumsInRegisters ? by(Tile::kRows, Tile::kColumns) : by(Tile::kThreadRows, Tile::kThreadColumns));
}

// What register tiles read for each term, in vectors and elements. A core reads two of them while it multiplies two, so
// where a tile has few rows, or few of its rows are the matrix's, reading takes the time.
template <class Tile>
int64_t reads_of_term(int64_t rows, int64_t columns, Tile) {
  return ceil_div(rows, Tile::kThreadRows) * ceil_div(columns, Tile::kThreadColumns) *
         (Tile::kThreadRows + Tile::kThreadColumns / Tile::kVector);
}

// For few rows, of the wide tiles the one that reads least; for others, of those that are not wide the one that computes
// fewest columns beyond the matrix's. At a draw it is the first. A wide tile reads in place, so that nothing is rounded.
// Word by word is for ragged runs alone: by quads, a slice takes a third of the instructions.
std::string best_algorithm(const ProductShape& shape, Precision precision) {
  const int64_t columns = shape.columns / shape.groups;
  const bool wide = shape.rows <= kFewRows && columns >= kWideColumns && precision == Precision::kFp32;
  std::string best;
  int64_t least = std::numeric_limits<int64_t>::max();
  for_each_tile(precision, [&]<class Tile>(int, Tile tile) {
    if (Tile::kWay == SliceWay::kWords && !shape.ragged) return;
    const int64_t cost =
        wide ? reads_of_term(shape.rows, columns, tile) : ceil_div(columns, Tile::kPanel) * Tile::kPanel;
    if (Tile::kWide == wide && cost < least) best = algorithm_of(tile), least = cost;
  });
  return best;
}

}  // namespace

std::vector<std::string> product_algorithms() {
  std::vector<std::string> names;
  for_each_tile(Precision::kFp32, [&](int, auto tile) { names.push_back(algorithm_of(tile)); });
  return names;
}

ProductPlan plan_product(const ProductShape& shape, const ProductChoice& choice) {
  ProductPlan plan{.algorithm = choice.algorithm,
                   .precision = choice.precision,
                   .tile = -1,
                   .block_rows = 0,
                   .block_columns = 0,
                   .parts = 1,
                   .batch_invariant = shape.image_rows > 0,
                   .workspace_bytes = 0};
  if (plan.algorithm.empty()) plan.algorithm = best_algorithm(shape, plan.precision);
  std::string known;
  for_each_tile(plan.precision, [&]<class Tile>(int index, Tile tile) {
    if (Tile::kWide && plan.precision != Precision::kFp32) return;
    known += (index ? ", " : "") + algorithm_of(tile);
    if (algorithm_of(tile) != plan.algorithm) return;
    const BlockSize block = block_size(shape, tile);
    plan.tile = index, plan.block_rows = block.rows, plan.block_columns = block.columns;
    plan.parts = parts_of(shape, tile);
  });
  const std::string in = plan.precision == Precision::kFp32 ? "" : " and in " + precision_name(plan.precision);
  require(plan.tile >= 0, "algorithm is '", plan.algorithm, "'; on this device", in, " it must be one of ", known);
  if (plan.parts > 1) plan.workspace_bytes = float_bytes("workspace", {plan.parts, shape.rows, shape.columns});
  return plan;
}

}  // namespace pyalexnet
