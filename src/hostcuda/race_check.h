// Makes ThreadSanitizer a race checker of kernels: each CUDA thread is a thread in its eyes, ordered with others by
// barriers alone, although all run on one OS thread.
//
// Compile the kernels with -fsanitize=thread and block.cpp without it but with HOSTCUDA_RACE_CHECK: the switching of
// stacks is no business of the checker. The rest of this folder may be either way. In other builds these functions are
// empty.
#pragma once

#if defined(HOSTCUDA_RACE_CHECK)

#include <sanitizer/tsan_interface.h>

namespace hostcuda::race_check {

inline constexpr bool kEnabled = true;

inline void* current_thread() {
  return __tsan_get_current_fiber();
}
inline void* new_thread() {
  return __tsan_create_fiber(0);
}
inline void end_thread(void* thread) {
  __tsan_destroy_fiber(thread);
}
inline void switch_to(void* thread) {
  __tsan_switch_to_fiber(thread, __tsan_switch_to_fiber_no_sync);
}

// What a thread did before release(point) comes before what another does after a later acquire(point).
inline void release(void* point) {
  __tsan_release(point);
}
inline void acquire(void* point) {
  __tsan_acquire(point);
}

}  // namespace hostcuda::race_check

#else

namespace hostcuda::race_check {

inline constexpr bool kEnabled = false;

inline void* current_thread() {
  return nullptr;
}
inline void* new_thread() {
  return nullptr;
}
inline void end_thread(void*) {}
inline void switch_to(void*) {}
inline void release(void*) {}
inline void acquire(void*) {}

}  // namespace hostcuda::race_check

#endif
