// How a matrix product is computed. A plan is made once, from the product's shape and the target's tiles alone, and the
// launcher, whoever takes the workspace and whoever prints it share it; so the bits follow from the shape.
//
// The one algorithm so far is `direct`: sums of products, in tiles (device/tile.cuh). Where there are few blocks the
// sums are cut into parts too, which the workspace holds until they are added in a fixed order.
//
// A row's bits follow from that row and from the parts, not from the row's place in a block or from the block's size.
// The parts follow from the number of rows, so in general an image's bits differ from batch to batch. In a plan that is
// batch-invariant they follow from the rows of one image, whose bits are then the same alone and in any batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/precision.cuh"

namespace pyalexnet {

// rows x columns sums of `terms` products each. In groups, a column's sums run over the left matrix of its group.
struct ProductShape {
  int64_t rows, columns, terms;  // columns of all groups together
  int64_t groups = 1;
  int64_t image_rows = 0;  // of one image, for a batch-invariant plan; else 0
  bool ragged = false;     // whether it is a patch matrix with runs of no whole quads; see has_ragged_runs
};

struct ProductPlan {
  std::string algorithm;          // one of product_algorithms()
  Precision precision;            // of the operands
  int tile;                       // its place among the precision's tiles
  int block_rows, block_columns;  // of the result that one block computes, at most the tile's
  int64_t parts;                  // of the sums, at most
  bool batch_invariant;
  int64_t workspace_bytes;  // for the parts' sums
};

// The plan of an operation that is one product with what it needs beside it: which operation, on what shape.
template <class Shape>
struct OperationPlan {
  std::string operation;  // its launcher's name
  Shape shape;
  ProductPlan product;
  int64_t workspace_bytes;  // in all

  std::string algorithm() const { return product.algorithm; }
};

// What a plan's algorithm may be on this target, such as direct_128x64 for tiles of 128 rows and 64 columns, or, where
// one core has the whole tile, direct_8x48 for register tiles of 8 rows and 48 columns; direct_wide_1x64 has a block of
// more columns and is for few rows.
std::vector<std::string> product_algorithms();

// How an operation's product is to be computed, as far as that is asked for.
struct ProductChoice {
  std::string algorithm;  // one of product_algorithms(); empty: the rules choose
  Precision precision = Precision::kFp32;
};

// Throws std::invalid_argument naming algorithm, or the workspace where it would be too large.
ProductPlan plan_product(const ProductShape& shape, const ProductChoice& choice);

}  // namespace pyalexnet
