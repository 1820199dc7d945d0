// Slices for tensor cores, by walks: device/staged_slices.cuh and device/staged_quads.cuh bring the same through registers.
// (One source for both would be shorter, but of it nvcc makes code for float32 that spills on sm_120.)
#pragma once

#include "device/async_copy.cuh"
#include "device/quad_walks.cuh"
#include "device/vector_walks.cuh"

namespace pyalexnet {

// The quads of a walk by asynchronous copies, straight to where they are read.
template <class Walk>
class AsyncSlice : public Walk {
  using Places = typename Walk::Places;

 public:
  template <class... Arguments>
  PYALEXNET_INLINE explicit AsyncSlice(Arguments&&... arguments)
      : Walk(arguments...), first_place_(kept_in_a_register(Places::first_place())) {}

  // Asks for the next slice. It is there behind wait_for_copies and a barrier.
  PYALEXNET_INLINE void copy(int terms, float* slice) {
    Walk::next_slice(
        terms, [&](int pass, QuadSource source) { ask_for(source, slice + Places::place_from(first_place_, pass)); });
  }

 private:
  PYALEXNET_INLINE static void ask_for(QuadSource source, float* to) {
    const int lanes = source.lanes < 0 ? 0 : source.lanes < 4 ? source.lanes : 4;
    if (source.instead != 0.0f && lanes == 0) {  // in no memory
      Vec<4> quad = broadcast<4>(0.0f);
      quad.set(0, source.instead);
      store(to, quad);
    } else if constexpr (Walk::kAccess == Access::kAny) {
      PYALEXNET_UNROLL
      for (int e = 0; e < 4; ++e) copy_float_async(to + e, e < lanes ? source.from + e : source.from, e < lanes);
    } else {
      copy_quad_async(to, source.from, lanes);
    }
  }

  int first_place_;
};

}  // namespace pyalexnet
