// The switch saves what the calling convention lets a callee change least: the callee-saved registers. All vector
// registers of x86-64 are the caller's to save, so a kernel spills exactly the accumulators that are live across its
// barrier. The switch ends in a plain return: fibers that wait at the same barrier return to the same address, which
// is what the processor's return predictor expects.
#include "fiber.h"

#include <cstdint>

#if defined(__x86_64__)

asm(R"(
.text
.p2align 4
.hidden hostcuda_switch_stack
.globl hostcuda_switch_stack
.type hostcuda_switch_stack, @function
hostcuda_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size hostcuda_switch_stack, .-hostcuda_switch_stack
)");

void* hostcuda::empty_stack(std::byte* top, void (*entry)()) {
  auto* words = reinterpret_cast<std::uintptr_t*>(top);
  *--words = 0;  // where entry() would return to; it also aligns entry()'s frame as a call does
  *--words = reinterpret_cast<std::uintptr_t>(entry);
  for (int saved_register = 0; saved_register < 6; ++saved_register) *--words = 0;
  return words;
}

#elif defined(__aarch64__)

asm(R"(
.text
.p2align 4
.hidden hostcuda_switch_stack
.globl hostcuda_switch_stack
.type hostcuda_switch_stack, %function
hostcuda_switch_stack:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size hostcuda_switch_stack, .-hostcuda_switch_stack
)");

void* hostcuda::empty_stack(std::byte* top, void (*entry)()) {
  constexpr int kWordsSaved = 20, kLinkRegister = 11;
  auto* words = reinterpret_cast<std::uintptr_t*>(top) - kWordsSaved;
  for (int i = 0; i < kWordsSaved; ++i) words[i] = 0;
  words[kLinkRegister] = reinterpret_cast<std::uintptr_t>(entry);
  return words;
}

#endif
