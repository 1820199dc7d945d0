// The instructions with operands in registers alone: each is a function of one lane, under its PTX name.
//
// Denormal floats count as zero, as .ftz asks: the cores that run kernels are set so. f32 without .ftz is not known.
// Denormal doubles count as zero too, other than PTX says.
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ptx/executor.h"
#include "ptx/operations.h"

namespace ptx {

namespace {

using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using f32 = float;
using f64 = double;
__extension__ typedef __int128 s128;
__extension__ typedef unsigned __int128 u128;

// ---- from a function of one lane to one of a warp ----

template <class T>
constexpr bool kIsNarrow = sizeof(T) < sizeof(u32);

// The lanes of an operand of type T: a pointer; narrow ones lie in words, predicates in a mask.
template <class T>
struct NarrowLanes {
  const u32* words;
  T operator[](int lane) const { return static_cast<T>(words[lane]); }
};

struct PredicateLanes {
  Mask mask;
  bool operator[](int lane) const { return mask >> lane & 1; }
};

template <class T>
auto lanes_of(Warp& warp, Slot slot) {
  if constexpr (std::is_same_v<T, bool>) {
    return PredicateLanes{warp.predicate(slot)};
  } else if constexpr (kIsNarrow<T>) {
    return NarrowLanes<T>{warp.lanes<u32>(slot)};
  } else {
    return static_cast<const T*>(warp.lanes<T>(slot));
  }
}

// Inactive lanes keep what they have. Functions must bear whatever stands in these.
template <class F, class To, class... From, std::size_t... index>
void apply(Warp& warp, const Instruction& instruction, Mask active, std::index_sequence<index...>) {
  const auto sources = std::make_tuple(lanes_of<From>(warp, instruction.from[index])...);
  const auto result = [&](int lane) { return F{}(std::get<index>(sources)[lane]...); };
  if constexpr (std::is_same_v<To, bool>) {
    Mask mask = 0;
    for (int lane = 0; lane < kLanes; ++lane) mask |= Mask{result(lane)} << lane;
    Mask& to = warp.predicate(instruction.to);
    to = (to & ~active) | (mask & active);
  } else {
    using Stored = std::conditional_t<kIsNarrow<To>, u32, To>;
    Stored* to = warp.lanes<Stored>(instruction.to);
    if (active == kAllLanes) {
#pragma GCC ivdep
      for (int lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<Stored>(result(lane));
      return;
    }
    Stored results[kLanes];
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) results[lane] = static_cast<Stored>(result(lane));
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = active >> lane & 1 ? results[lane] : to[lane];
  }
}

template <class F, class To, class... From>
void lanewise(Warp& warp, const Instruction& instruction, Mask active) {
  apply<F, To, From...>(warp, instruction, active, std::index_sequence_for<From...>());
}

// The same for masks at once, where operands and result are predicates.
template <class F, class... From>
void maskwise(Warp& warp, const Instruction& instruction, Mask active) {
  const Mask mask = [&]<std::size_t... index>(std::index_sequence<index...>) {
    return F{}(warp.predicate(instruction.from[index])...);
  }(std::index_sequence_for<From...>());
  Mask& to = warp.predicate(instruction.to);
  to = (to & ~active) | (mask & active);
}

template <class>
constexpr int kPredicateBytes = 0;
template <class T>
constexpr int kOperandBytes = std::is_same_v<T, bool> ? 0 : static_cast<int>(sizeof(T));

class Table {
 public:
  template <class F>
  void add(const std::string& name, F function) {
    add(name, function, &F::operator());
  }
  // "add", {"s32", "u32"}: the same for both.
  template <class F>
  void add(const std::string& name, std::initializer_list<const char*> types, F function) {
    for (const char* type : types) add(name + "." + type, function);
  }
  template <class F>
  void add_predicate(const std::string& name, F) {
    add_predicate<F>(name, &F::operator());
  }
  // For instructions that are no function of one lane. Operands: the destination's bytes, then the sources'.
  void add_whole(const std::string& name, Operation operation, std::initializer_list<int> bytes) {
    Form form{operation, {}, static_cast<int>(bytes.size())};
    std::copy(bytes.begin(), bytes.end(), form.operand_bytes.begin());
    forms_[name] = form;
  }

  const Form* find(const std::string& name) const {
    const auto found = forms_.find(name);
    return found == forms_.end() ? nullptr : &found->second;
  }

 private:
  template <class F, class To, class... From>
  void add(const std::string& name, F, To (F::*)(From...) const) {
    add_whole(name, &lanewise<F, To, From...>, {kOperandBytes<To>, kOperandBytes<From>...});
  }
  template <class F, class... From>
  void add_predicate(const std::string& name, Mask (F::*)(From...) const) {
    add_whole(name, &maskwise<F, From...>, {0, kPredicateBytes<From>...});
  }

  std::unordered_map<std::string, Form> forms_;
};

// ---- whole numbers ----

// Division by zero is undefined; a GPU gives all ones.
template <class T>
T divided(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return static_cast<T>(0 - static_cast<u64>(a));
  return a / b;
}
template <class T>
T remainder_of(T a, T b) {
  if (b == 0) return a;
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
  return a % b;
}

// Distances beyond the width shift everything out.
template <class T>
T shifted_left(T a, u32 distance) {
  constexpr u32 kBits = 8 * sizeof(T);
  return distance >= kBits ? T{0} : static_cast<T>(a << distance);
}
template <class T>
T shifted_right(T a, u32 distance) {
  constexpr u32 kBits = 8 * sizeof(T);
  if (distance >= kBits) return std::is_signed_v<T> && a < 0 ? static_cast<T>(-1) : T{0};
  return static_cast<T>(a >> distance);
}

u32 low_bits(u32 count) {
  return count >= 32 ? ~u32{0} : (u32{1} << count) - 1;
}

template <class T>
void add_whole_numbers(Table& table, const std::string& type) {
  using Unsigned = std::make_unsigned_t<T>;
  table.add("add." + type, [](Unsigned a, Unsigned b) { return static_cast<Unsigned>(a + b); });
  table.add("sub." + type, [](Unsigned a, Unsigned b) { return static_cast<Unsigned>(a - b); });
  table.add("mul.lo." + type, [](Unsigned a, Unsigned b) { return static_cast<Unsigned>(u64{a} * b); });
  table.add("mad.lo." + type, [](Unsigned a, Unsigned b, Unsigned c) { return static_cast<Unsigned>(u64{a} * b + c); });
  table.add("div." + type, [](T a, T b) { return divided(a, b); });
  table.add("rem." + type, [](T a, T b) { return remainder_of(a, b); });
  table.add("min." + type, [](T a, T b) { return a < b ? a : b; });
  table.add("max." + type, [](T a, T b) { return a > b ? a : b; });
  table.add("shr." + type, [](T a, u32 distance) { return shifted_right(a, distance); });
  table.add("setp.eq." + type, [](T a, T b) { return a == b; });
  table.add("setp.ne." + type, [](T a, T b) { return a != b; });
  table.add("setp.lt." + type, [](T a, T b) { return a < b; });
  table.add("setp.le." + type, [](T a, T b) { return a <= b; });
  table.add("setp.gt." + type, [](T a, T b) { return a > b; });
  table.add("setp.ge." + type, [](T a, T b) { return a >= b; });
  if constexpr (std::is_signed_v<T>) {
    table.add("neg." + type, [](Unsigned a) { return static_cast<Unsigned>(0 - u64{a}); });
    table.add("abs." + type, [](T a) { return a < 0 ? static_cast<T>(0 - static_cast<u64>(a)) : a; });
  } else {
    table.add("setp.lo." + type, [](T a, T b) { return a < b; });
    table.add("setp.ls." + type, [](T a, T b) { return a <= b; });
    table.add("setp.hi." + type, [](T a, T b) { return a > b; });
    table.add("setp.hs." + type, [](T a, T b) { return a >= b; });
  }
}

template <class T>
void add_bits(Table& table, int bits) {
  const std::string b = ".b" + std::to_string(bits);
  table.add("and" + b, [](T x, T y) { return static_cast<T>(x & y); });
  table.add("or" + b, [](T x, T y) { return static_cast<T>(x | y); });
  table.add("xor" + b, [](T x, T y) { return static_cast<T>(x ^ y); });
  table.add("not" + b, [](T x) { return static_cast<T>(~x); });
  table.add("shl" + b, [](T x, u32 distance) { return shifted_left(x, distance); });
  table.add("shr" + b, [](T x, u32 distance) { return shifted_right(x, distance); });
  table.add("setp.eq" + b, [](T x, T y) { return x == y; });
  table.add("setp.ne" + b, [](T x, T y) { return x != y; });
  for (const char kind : {'b', 's', 'u', 'f'}) {
    const std::string type = std::string(".") + kind + std::to_string(bits);
    table.add("mov" + type, [](T x) { return x; });
    table.add("selp" + type, [](T x, T y, bool which) { return which ? x : y; });
  }
}

void add_integers(Table& table) {
  add_whole_numbers<s16>(table, "s16"), add_whole_numbers<u16>(table, "u16");
  add_whole_numbers<s32>(table, "s32"), add_whole_numbers<u32>(table, "u32");
  add_whole_numbers<s64>(table, "s64"), add_whole_numbers<u64>(table, "u64");
  add_bits<u16>(table, 16), add_bits<u32>(table, 32), add_bits<u64>(table, 64);

  table.add("mul.hi.s16", [](s16 a, s16 b) { return static_cast<s16>(s32{a} * b >> 16); });
  table.add("mul.hi.u16", [](u16 a, u16 b) { return static_cast<u16>(u32{a} * b >> 16); });
  table.add("mul.hi.s32", [](s32 a, s32 b) { return static_cast<s32>(s64{a} * b >> 32); });
  table.add("mul.hi.u32", [](u32 a, u32 b) { return static_cast<u32>(u64{a} * b >> 32); });
  table.add("mul.hi.s64", [](s64 a, s64 b) { return static_cast<s64>(s128{a} * b >> 64); });
  table.add("mul.hi.u64", [](u64 a, u64 b) { return static_cast<u64>(u128{a} * b >> 64); });
  table.add("mul.wide.s16", [](s16 a, s16 b) { return s32{a} * b; });
  table.add("mul.wide.u16", [](u16 a, u16 b) { return u32{a} * b; });
  table.add("mul.wide.s32", [](s32 a, s32 b) { return s64{a} * b; });
  table.add("mul.wide.u32", [](u32 a, u32 b) { return u64{a} * b; });
  table.add("mad.wide.s32", [](s32 a, s32 b, s64 c) { return static_cast<u64>(s64{a} * b) + static_cast<u64>(c); });
  table.add("mad.wide.u32", [](u32 a, u32 b, u64 c) { return u64{a} * b + c; });
  table.add("bfe.u32",
            [](u32 a, u32 first, u32 count) { return shifted_right(a, first & 255) & low_bits(count & 255); });
  table.add("bfi.b32", [](u32 inserted, u32 into, u32 first, u32 count) {
    const u32 bits = shifted_left(low_bits(count & 255), first & 255);
    return (shifted_left(inserted, first & 255) & bits) | (into & ~bits);
  });
  // Each nibble of the selector takes one of the eight bytes of b and a, or what its highest bit fills a byte with.
  table.add("prmt.b32", [](u32 a, u32 b, u32 selector) {
    const u64 bytes = u64{b} << 32 | a;
    u32 result = 0;
    for (int i = 0; i < 4; ++i) {
      const u32 nibble = selector >> 4 * i & 15, byte = bytes >> 8 * (nibble & 7) & 255;
      result |= (nibble < 8 ? byte : byte & 128 ? 255u : 0u) << 8 * i;
    }
    return result;
  });
  table.add("popc.b32", [](u32 a) { return static_cast<u32>(std::popcount(a)); });
  table.add("clz.b32", [](u32 a) { return static_cast<u32>(std::countl_zero(a)); });

  table.add_predicate("and.pred", [](Mask a, Mask b) { return a & b; });
  table.add_predicate("or.pred", [](Mask a, Mask b) { return a | b; });
  table.add_predicate("xor.pred", [](Mask a, Mask b) { return a ^ b; });
  table.add_predicate("not.pred", [](Mask a) { return ~a; });
  table.add_predicate("mov.pred", [](Mask a) { return a; });
}

// ---- floating point ----

// Of a number and a NaN the number, of two zeros the one of that sign.
template <class T>
T smaller(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  return a == b ? (std::signbit(a) ? a : b) : (a < b ? a : b);
}
template <class T>
T larger(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  return a == b ? (std::signbit(a) ? b : a) : (a > b ? a : b);
}

// The compiler must not move the arithmetic between the two switches of the rounding away from there.
class RoundingDownwards {
 public:
  RoundingDownwards() {
    std::fesetround(FE_DOWNWARD);
    asm volatile("" ::: "memory");
  }
  ~RoundingDownwards() {
    asm volatile("" ::: "memory");
    std::fesetround(FE_TONEAREST);
  }
};

template <class T, bool is_fused>
void multiply_add_lanes(Warp& warp, const Instruction& instruction, Mask active) {
  const auto function = [](T a, T b, T c) {
    // This folder is compiled without contraction, so that two operations stay two.
    return is_fused ? std::fma(a, b, c) : a * b + c;
  };
  lanewise<decltype(function), T, T, T, T>(warp, instruction, active);
}
template <class T>
void multiply_add(Warp& warp, const Instruction& instruction, Mask active) {
  (fused() ? &multiply_add_lanes<T, true> : &multiply_add_lanes<T, false>)(warp, instruction, active);
}

void multiply_add_downwards(Warp& warp, const Instruction& instruction, Mask active) {
  const RoundingDownwards rounding;
  multiply_add_lanes<f32, true>(warp, instruction, active);
}

f32 flushed(f32 value) {
  return std::abs(value) < std::numeric_limits<f32>::min() ? std::copysign(0.0f, value) : value;
}

// What a GPU approximates is rounded correctly here, but for rsqrt, which rounds twice, as 1 / sqrt(x) does on
// processors: both lie within what PTX allows.
f32 approximated(f64 value) {
  return flushed(static_cast<f32>(value));
}

// NaN gives 0, what is too large the largest.
template <class To, class From>
To saturated(From value) {
  if (value != value) return 0;
  constexpr auto kLeast = static_cast<From>(std::numeric_limits<To>::min());
  constexpr auto kMost = static_cast<From>(std::numeric_limits<To>::max());
  if (value <= kLeast) return std::numeric_limits<To>::min();
  if (value >= kMost) return std::numeric_limits<To>::max();
  return static_cast<To>(value);
}

template <class T>
void add_comparisons(Table& table, const std::string& type) {
  table.add("setp.eq." + type, [](T a, T b) { return a == b; });
  table.add("setp.ne." + type, [](T a, T b) { return a < b || a > b; });
  table.add("setp.lt." + type, [](T a, T b) { return a < b; });
  table.add("setp.le." + type, [](T a, T b) { return a <= b; });
  table.add("setp.gt." + type, [](T a, T b) { return a > b; });
  table.add("setp.ge." + type, [](T a, T b) { return a >= b; });
  table.add("setp.equ." + type, [](T a, T b) { return !(a < b || a > b); });
  table.add("setp.neu." + type, [](T a, T b) { return a != b; });
  table.add("setp.ltu." + type, [](T a, T b) { return !(a >= b); });
  table.add("setp.leu." + type, [](T a, T b) { return !(a > b); });
  table.add("setp.gtu." + type, [](T a, T b) { return !(a <= b); });
  table.add("setp.geu." + type, [](T a, T b) { return !(a < b); });
  table.add("setp.nan." + type, [](T a, T b) { return a != a || b != b; });
  table.add("setp.num." + type, [](T a, T b) { return a == a && b == b; });
}

template <class T>
void add_arithmetic(Table& table, const std::string& type, const std::string& exact) {
  for (const std::string rounding : {"", ".rn"}) {
    table.add("add" + rounding + type, [](T a, T b) { return a + b; });
    table.add("sub" + rounding + type, [](T a, T b) { return a - b; });
    table.add("mul" + rounding + type, [](T a, T b) { return a * b; });
  }
  table.add("div.rn" + type, [](T a, T b) { return a / b; });
  table.add("rcp.rn" + type, [](T a) { return T{1} / a; });
  table.add("sqrt.rn" + type, [](T a) { return std::sqrt(a); });
  table.add("min" + type, [](T a, T b) { return smaller(a, b); });
  table.add("max" + type, [](T a, T b) { return larger(a, b); });
  table.add("neg" + exact, [](T a) { return -a; });
  table.add("abs" + exact, [](T a) { return std::abs(a); });
  constexpr int kBytes = sizeof(T);
  table.add_whole("fma.rn" + type, &multiply_add<T>, {kBytes, kBytes, kBytes, kBytes});
  add_comparisons<T>(table, type.substr(1));
}

void add_floating_point(Table& table) {
  add_arithmetic<f32>(table, ".ftz.f32", ".ftz.f32");
  add_arithmetic<f64>(table, ".f64", ".f64");
  table.add_whole("fma.rm.ftz.f32", &multiply_add_downwards, {4, 4, 4, 4});
  table.add("neg.f32", [](u32 a) { return a ^ 0x80000000u; });
  table.add("abs.f32", [](u32 a) { return a & 0x7fffffffu; });

  table.add("rcp.approx.ftz.f32", [](f32 a) { return approximated(1.0 / f64{flushed(a)}); });
  table.add("div.approx.ftz.f32", [](f32 a, f32 b) { return approximated(f64{flushed(a)} / f64{flushed(b)}); });
  table.add("sqrt.approx.ftz.f32", [](f32 a) { return approximated(std::sqrt(f64{flushed(a)})); });
  table.add("rsqrt.approx.ftz.f32", [](f32 a) { return 1.0f / std::sqrt(flushed(a)); });
  table.add("ex2.approx.ftz.f32", [](f32 a) { return approximated(std::exp2(f64{flushed(a)})); });
  table.add("lg2.approx.ftz.f32", [](f32 a) { return approximated(std::log2(f64{flushed(a)})); });
  // Of the 52 bits of the fraction, a GPU looks at and gives the upper 20.
  table.add("rcp.approx.ftz.f64", [](f64 a) {
    constexpr u64 kUpperHalf = 0xffffffff00000000u;
    const f64 coarse = std::bit_cast<f64>(std::bit_cast<u64>(a) & kUpperHalf);
    return std::bit_cast<f64>(std::bit_cast<u64>(1.0 / coarse) & kUpperHalf);
  });
}

// ---- conversions ----

template <class To, class From>
void add_extension(Table& table, const std::string& to, const std::string& from) {
  table.add("cvt." + to + "." + from, [](From a) { return static_cast<To>(a); });
}

template <class To>
void add_conversions_to(Table& table, const std::string& to) {
  add_extension<To, s16>(table, to, "s16"), add_extension<To, u16>(table, to, "u16");
  add_extension<To, s32>(table, to, "s32"), add_extension<To, u32>(table, to, "u32");
  add_extension<To, s64>(table, to, "s64"), add_extension<To, u64>(table, to, "u64");
  add_extension<To, std::int8_t>(table, to, "s8"), add_extension<To, u8>(table, to, "u8");
}

template <class To>
void add_conversions_from_floats(Table& table, const std::string& to) {
  table.add("cvt.rzi.ftz." + to + ".f32", [](f32 a) { return saturated<To>(std::trunc(flushed(a))); });
  table.add("cvt.rni.ftz." + to + ".f32", [](f32 a) { return saturated<To>(std::nearbyint(flushed(a))); });
  table.add("cvt.rmi.ftz." + to + ".f32", [](f32 a) { return saturated<To>(std::floor(flushed(a))); });
  table.add("cvt.rpi.ftz." + to + ".f32", [](f32 a) { return saturated<To>(std::ceil(flushed(a))); });
  table.add("cvt.rzi." + to + ".f64", [](f64 a) { return saturated<To>(std::trunc(a)); });
}

template <class From>
void add_conversions_to_floats(Table& table, const std::string& from) {
  table.add("cvt.rn.f32." + from, [](From a) { return static_cast<f32>(a); });
  table.add("cvt.rn.f64." + from, [](From a) { return static_cast<f64>(a); });
}

// Rounded to nearest, ties to even.
u32 bf16_bits(f32 value) {
  const u32 bits = std::bit_cast<u32>(value);
  return value == value ? (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16 : 0x7fffu;
}
u32 tf32_bits(f32 value) {
  const u32 bits = std::bit_cast<u32>(value);
  return value == value ? (bits + 0xfffu + (bits >> 13 & 1u)) & 0xffffe000u : 0x7fffe000u;
}

void add_conversions(Table& table) {
  add_conversions_to<u8>(table, "u8"), add_conversions_to<std::int8_t>(table, "s8");
  add_conversions_to<s16>(table, "s16"), add_conversions_to<u16>(table, "u16");
  add_conversions_to<s32>(table, "s32"), add_conversions_to<u32>(table, "u32");
  add_conversions_to<s64>(table, "s64"), add_conversions_to<u64>(table, "u64");
  add_conversions_from_floats<s32>(table, "s32"), add_conversions_from_floats<u32>(table, "u32");
  add_conversions_from_floats<s64>(table, "s64"), add_conversions_from_floats<u64>(table, "u64");
  add_conversions_to_floats<u8>(table, "u8"), add_conversions_to_floats<s16>(table, "s16");
  add_conversions_to_floats<u16>(table, "u16"), add_conversions_to_floats<s32>(table, "s32");
  add_conversions_to_floats<u32>(table, "u32"), add_conversions_to_floats<s64>(table, "s64");
  add_conversions_to_floats<u64>(table, "u64");

  for (const std::string flush : {"", ".ftz"}) {
    table.add("cvt.rni" + flush + ".f32.f32", [](f32 a) { return std::nearbyint(flushed(a)); });
    table.add("cvt.rzi" + flush + ".f32.f32", [](f32 a) { return std::trunc(flushed(a)); });
    table.add("cvt.rmi" + flush + ".f32.f32", [](f32 a) { return std::floor(flushed(a)); });
    table.add("cvt.rpi" + flush + ".f32.f32", [](f32 a) { return std::ceil(flushed(a)); });
  }
  table.add("cvt.rn.bf16x2.f32", [](f32 high, f32 low) { return bf16_bits(high) << 16 | bf16_bits(low); });
  table.add("cvt.rn.tf32.f32", [](f32 a) { return tf32_bits(a); });
  table.add("cvt.rzi.f64.f64", [](f64 a) { return std::trunc(a); });
  table.add("cvt.ftz.sat.f32.f32", [](f32 a) { return a > 0.0f ? (a < 1.0f ? flushed(a) : 1.0f) : 0.0f; });
  table.add("cvt.ftz.f64.f32", [](f32 a) { return f64{flushed(a)}; });
  table.add("cvt.rn.ftz.f32.f64", [](f64 a) { return flushed(static_cast<f32>(a)); });
}

Table all_forms() {
  Table table;
  add_integers(table);
  add_floating_point(table);
  add_conversions(table);
  return table;
}

}  // namespace

const Form* form_named(const std::string& name) {
  static const Table table = all_forms();
  return table.find(name);
}

}  // namespace ptx
