// Lets AddressSanitizer follow a core from stack to stack, and guard what lies beside an allocation.
//
// In builds without -fsanitize=address these functions are empty. Its stacks that detect uses after a return are not
// provided for: ASAN_OPTIONS=detect_stack_use_after_return=0, where that is not so anyway.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__  // as GCC says it
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace hostcuda::address_check {

struct Stack {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
};

#if defined(__SANITIZE_ADDRESS__)

inline constexpr bool kEnabled = true;

// Directly before the stack is switched, and directly after, on the new one; which one that was before is returned.
inline void leave_for(Stack stack) {
  __sanitizer_start_switch_fiber(nullptr, stack.bottom, stack.bytes);
}
inline Stack arrive() {
  Stack before;
  __sanitizer_finish_switch_fiber(nullptr, &before.bottom, &before.bytes);
  return before;
}

// Whoever touches forbidden memory is reported, until it is allowed again.
inline void forbid(const void* begin, std::size_t bytes) {
  __asan_poison_memory_region(begin, bytes);
}
inline void allow(const void* begin, std::size_t bytes) {
  __asan_unpoison_memory_region(begin, bytes);
}

#else

inline constexpr bool kEnabled = false;

inline void leave_for(Stack) {}
inline Stack arrive() {
  return {};
}
inline void forbid(const void*, std::size_t) {}
inline void allow(const void*, std::size_t) {}

#endif

}  // namespace hostcuda::address_check
