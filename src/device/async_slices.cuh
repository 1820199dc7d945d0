// Slices by asynchronous copies, straight to where they are read, for tensor cores. Where each quad comes from is what the
// staged slices know (device/staged_quads.cuh, device/staged_slices.cuh), whose registers stay unused here.
//
// copy(terms, slice) asks for the next slice, `terms` being left; it is there behind wait_for_copies and a barrier.
#pragma once

#include "device/async_copy.cuh"
#include "device/staged_quads.cuh"
#include "device/staged_slices.cuh"

namespace pyalexnet {

// Where a thread's quads go in a slice, and how they get there.
template <class Places, Access access>
class QuadCopies {
 public:
  // min(4, lanes) floats from `from`, zeros behind them.
  PYALEXNET_INLINE void ask_for(float* slice, int pass, const float* from, int lanes) const {
    float* const to = slice + Places::place_from(first_place_, pass);
    if constexpr (access == Access::kAny) {
      PYALEXNET_UNROLL
      for (int e = 0; e < 4; ++e) copy_float_async(to + e, e < lanes ? from + e : from, e < lanes);
    } else {
      copy_quad_async(to, from, lanes < 0 ? 0 : lanes < 4 ? lanes : 4);
    }
  }
  // The same at a place of a run, nullptr where there is none.
  PYALEXNET_INLINE void ask_for_run(float* slice, int pass, const float* run, int place, int lanes) const {
    ask_for(slice, pass, run ? run + place : nullptr, run ? lanes : 0);
  }
  // A quad that is in no memory.
  PYALEXNET_INLINE void put(float* slice, int pass, float first) const {
    Vec<4> quad = broadcast<4>(0.0f);
    quad.set(0, first);
    store(slice + Places::place_from(first_place_, pass), quad);
  }

 private:
  int first_place_ = kept_in_a_register(Places::first_place());
};

template <class Tile>
class AsyncPatchRowQuads : public StagedPatchRowQuads<Tile> {
  using Places = RowQuads<Tile>;

 public:
  using StagedPatchRowQuads<Tile>::StagedPatchRowQuads;

  PYALEXNET_INLINE void copy(int, float* slice) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i) copies_.ask_for(slice, i, this->from(i), this->is_seen(i) ? 4 : 0);
    this->advance();
  }

 private:
  QuadCopies<Places, Access::kQuads> copies_;
};

template <class Tile>
class AsyncPatchColumnQuads : public StagedPatchColumnQuads<Tile> {
  using Places = ColumnQuads<Tile>;

 public:
  using StagedPatchColumnQuads<Tile>::StagedPatchColumnQuads;

  PYALEXNET_INLINE void copy(int terms, float* slice) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i) {
      const bool there = Places::term(i) < terms;
      if (there && this->unseen() != 0.0f) {
        copies_.put(slice, i, this->unseen());
      } else {
        copies_.ask_for(slice, i, this->from(), there && this->is_seen() ? 4 : 0);
      }
      this->advance();
    }
  }

 private:
  QuadCopies<Places, Access::kQuads> copies_;
};

template <class Tile>
class AsyncRightQuads : public StagedRightQuads<Tile> {
  using Places = RightQuads<Tile>;

 public:
  using StagedRightQuads<Tile>::StagedRightQuads;

  PYALEXNET_INLINE void copy(int terms, float* slice) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i)
      copies_.ask_for(slice, i, this->from(i), this->is_there(i, terms) ? 4 : 0);
    this->advance();
  }

 private:
  QuadCopies<Places, Access::kQuads> copies_;
};

template <class Tile, Access access>
class AsyncPatchRows : public StagedPatchRows<Tile, access> {
  using Places = RowQuads<Tile>;

 public:
  using StagedPatchRows<Tile, access>::StagedPatchRows;

  PYALEXNET_INLINE void copy(int terms, float* slice) {
    const int lanes = this->lanes_there(terms);
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i) copies_.ask_for_run(slice, i, this->run_seen(i), this->place(), lanes);
    this->advance();
  }

 private:
  QuadCopies<Places, access> copies_;
};

template <class Tile, Access access>
class AsyncPatchColumns : public StagedPatchColumns<Tile, access> {
  using Places = ColumnQuads<Tile>;

 public:
  using StagedPatchColumns<Tile, access>::StagedPatchColumns;

  PYALEXNET_INLINE void copy(int, float* slice) {
    const TapCursor tap = this->tap();
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i) {
      const PatchOrigin origin = this->origin();
      if (this->is_behind(tap)) {
        copies_.put(slice, i, this->one_at(origin));
      } else {
        copies_.ask_for_run(slice, i, this->run_seen(tap, origin), tap.place, this->lanes_there(tap));
      }
      this->advance();
    }
  }

 private:
  QuadCopies<Places, access> copies_;
};

template <class Tile, Access access>
class AsyncRightRows : public StagedRightRows<Tile, access> {
  using Places = RightQuads<Tile>;

 public:
  using StagedRightRows<Tile, access>::StagedRightRows;

  PYALEXNET_INLINE void copy(int, float* slice) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i) {
      copies_.ask_for(slice, i, this->from(), this->is_there() ? this->lanes_there() : 0);
      this->advance();
    }
  }

 private:
  QuadCopies<Places, access> copies_;
};

}  // namespace pyalexnet
