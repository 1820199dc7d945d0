// Which quads of a slice each thread of a GPU's block brings, and where in shared memory it puts them: what the slices of
// device/staged_slices.cuh and device/staged_quads.cuh have in common. A thread takes kPasses quads. On their way into
// shared memory they are rounded to the tile's precision; of two terms that share a word, a thread has both.
#pragma once

#include "device/tile.cuh"

namespace pyalexnet {

// A word of one term.
template <Precision precision>
PYALEXNET_INLINE float word_of(float term) {
  return precision == Precision::kTf32 ? tf32_word(term) : term;  // tf32x3 splits what it reads
}

// The words of a term's quad, or of those of two neighbouring terms.
template <Precision precision>
PYALEXNET_INLINE Vec<4> words_of(Vec<4> term) {
  PYALEXNET_UNROLL
  for (int e = 0; e < 4; ++e) term.set(e, word_of<precision>(term[e]));
  return term;
}
PYALEXNET_INLINE Vec<4> words_of(Vec<4> first_term, Vec<4> second_term) {
  PYALEXNET_UNROLL
  for (int e = 0; e < 4; ++e) first_term.set(e, bf16_word(first_term[e], second_term[e]));
  return first_term;
}

// The terms of a slice, of which `PerPass` threads take one each in a pass, or every second one where two share a word.
template <class Tile, int PerPass>
struct TermPlaces {
  static constexpr int kPasses = Tile::kDepth / PerPass;
  static constexpr bool kPairs = terms_per_word(Tile::kPrecision) == 2;
  static_assert(Tile::kDepth % PerPass == 0 && (!kPairs || kPasses % 2 == 0), "threads share out the slice");

  // From a thread's first term to its pass-th one. The last pass's next is the next slice's first.
  __host__ __device__ static constexpr int offset(int pass) {
    return kPairs ? pass / 2 * 2 * PerPass + pass % 2 : pass * PerPass;
  }
  __host__ __device__ static constexpr int step(int pass) { return offset(pass + 1) - offset(pass); }
  static constexpr int kLongestStep = kPairs ? 2 * PerPass - 1 : PerPass;

  PYALEXNET_INLINE static int first(int thread) { return kPairs ? 2 * thread : thread; }

  // Stores the quads of a thread whose first term is `first`; that of a word goes to place(word).
  template <class Place>
  PYALEXNET_INLINE static void commit(int first, const Vec<4> (&staged)[kPasses], Place place) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; i += kPairs ? 2 : 1) {
      if constexpr (kPairs) {
        store(place((first + offset(i)) / 2), words_of(staged[i], staged[i + 1]));
      } else {
        store(place(first + offset(i)), words_of<Tile::kPrecision>(staged[i]));
      }
    }
  }
};

// Of a left slice whose rows are rows of the patch matrix and whose terms are its columns. Neighbouring threads take the
// quads of a row's terms, which are whole 32-byte sectors of device memory. They store them transposed, a word at a time:
// in each store the rows of a warp lie next to each other, and the pitch or the swizzle puts the quads' into other banks.
template <class Tile>
struct RowQuads {
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  static constexpr int kQuads = Tile::kDepth / 4;
  static constexpr int kRowsPerPass = Tile::kThreads / kQuads;
  static constexpr int kPasses = Tile::kRows / kRowsPerPass;
  static_assert(Tile::kRows % kRowsPerPass == 0, "threads share out the slice");

  PYALEXNET_INLINE static int quad() { return threadIdx.x % kQuads; }
  PYALEXNET_INLINE static int row(int pass) { return pass * kRowsPerPass + threadIdx.x / kQuads; }

  PYALEXNET_INLINE static void commit(float* slice, const Vec<4> (&staged)[kPasses]) {
    constexpr int kPerWord = terms_per_word(Tile::kPrecision), kWordsOfQuad = 4 / kPerWord;
    const int first_word = quad() * kWordsOfQuad;
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      PYALEXNET_UNROLL
      for (int e = 0; e < kWordsOfQuad; ++e) {
        float* const to = slice + (first_word + e) * Tile::left_pitch(kOrder) + Tile::swizzled(row(i), first_word);
        if constexpr (kPerWord == 2) {
          *to = bf16_word(staged[i][2 * e], staged[i][2 * e + 1]);
        } else {
          *to = word_of<Tile::kPrecision>(staged[i][e]);
        }
      }
    }
  }
};

// Of a left slice whose rows are columns of the patch matrix and whose terms are its rows. A warp reads 128 neighbouring
// columns of a pixel and stores them as they are, in the swizzle's order.
template <class Tile>
struct ColumnQuads {
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  static constexpr int kQuads = Tile::kRows / 4;
  using Terms = TermPlaces<Tile, Tile::kThreads / kQuads>;
  static constexpr int kPasses = Terms::kPasses;
  static_assert(Tile::kThreads % kQuads == 0, "threads share out the slice");

  PYALEXNET_INLINE static int quad() { return threadIdx.x % kQuads; }
  PYALEXNET_INLINE static int term(int pass) { return Terms::first(threadIdx.x / kQuads) + Terms::offset(pass); }

  PYALEXNET_INLINE static void commit(float* slice, const Vec<4> (&staged)[kPasses]) {
    Terms::commit(term(0), staged,
                  [&](int word) { return slice + word * Tile::left_pitch(kOrder) + Tile::swizzled(quad() * 4, word); });
  }
};

// Of a slice of the right matrix.
template <class Tile>
struct RightQuads {
  static constexpr int kQuads = Tile::kColumns / 4;
  using Terms = TermPlaces<Tile, Tile::kThreads / kQuads>;
  static constexpr int kPasses = Terms::kPasses;
  static_assert(Tile::kThreads % kQuads == 0, "threads share out the slice");

  PYALEXNET_INLINE static int column() { return threadIdx.x % kQuads * 4; }
  PYALEXNET_INLINE static int term(int pass) { return Terms::first(threadIdx.x / kQuads) + Terms::offset(pass); }

  PYALEXNET_INLINE static void commit(float* slice, const Vec<4> (&staged)[kPasses]) {
    Terms::commit(term(0), staged, [&](int word) { return slice + word * Tile::right_pitch() + column(); });
  }
};

}  // namespace pyalexnet
