// What a block computes on tensor cores: the loop of device/product_block.cuh over slices that asynchronous copies bring.
#pragma once

#include "device/block_parts.cuh"
#include "device/tensor_steps.cuh"

namespace pyalexnet {

// The sums of a block whose slices come by themselves: all buffers are there or asked for. A warp has two fragments, one of
// which it reads while it multiplies the other, the first one of a slice during the last one of the slice before.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_async(Left& left, Right& right, BlockMemory<Tile, Left>& memory, const Output& out,
                                     const Cut& cut, PaddedRuns out_runs) {
  using Fragment = TensorFragment<Tile, Left::kOrder>;
  const BlockPlace& place = memory.place;
  int terms_to_ask_for = place.terms;
  const auto ask_for_next = [&](unsigned buffer) {
    if (terms_to_ask_for > 0) {
      left.copy(terms_to_ask_for, memory.slices[buffer].left.at);
      right.copy(terms_to_ask_for, memory.slices[buffer].right.at);
    }
    close_copies();
    terms_to_ask_for -= Tile::kDepth;
  };
  PYALEXNET_UNROLL
  for (unsigned buffer = 0; buffer < Tile::kBuffers; ++buffer) ask_for_next(buffer);
  Tile::for_each_register_tile(place.rows, place.columns, [&](int, int, int row, int column) {
    const LanePlaces lane = lane_places<Tile, Left::kOrder>(row, column);
    RegisterTile<Tile> tile;
    tile.clear();
    unsigned buffer = 0;
    int terms = place.terms;
    const auto load = [&](Fragment& fragment, int step) {
      fragment.load(memory.slices[buffer].left.at, memory.slices[buffer].right.at, lane, step);
    };
    // Multiplies a slice, whose first fragment is `current`. The next slice's is the one behind the last then.
    const auto multiply_slice = [&](Fragment& current, Fragment& next) {
      Fragment* const fragments[] = {&current, &next};
      PYALEXNET_UNROLL
      for (int step = 0; step < Fragment::kSteps; ++step) {
        if (step + 1 < Fragment::kSteps) {
          load(*fragments[(step + 1) % 2], step + 1);
        } else if (terms > Tile::kDepth) {
          wait_for_copies<Tile::kBuffers - 2>();
          __syncthreads();  // all have theirs, and all have read the slice before
          ask_for_next(buffer);
          buffer = (buffer + 1) % Tile::kBuffers;
          load(*fragments[(step + 1) % 2], 0);
        }
        fragments[step % 2]->multiply_add_to(tile);
      }
      terms -= Tile::kDepth;
    };
    Fragment first, second;
    wait_for_copies<Tile::kBuffers - 1>();
    __syncthreads();
    load(first, 0);
    if constexpr (Fragment::kSteps % 2 == 0) {
      while (terms > 0) multiply_slice(first, second);
    } else {
      while (terms > 0) {
        multiply_slice(first, second);
        if (terms > 0) multiply_slice(second, first);
      }
    }
    write_tile(tile, row, column, out, cut, place, out_runs);
  });
}

}  // namespace pyalexnet
