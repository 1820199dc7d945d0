// The cores: OS threads that choose work, claim items of it and execute them, for as long as the process lives.
#include "runtime.h"

#include "denormals.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hostcuda {

namespace {

// An idle core looks out for work this long before it sleeps; waking a sleeper takes about as long.
constexpr auto kSpinTime = std::chrono::microseconds(40);

// No core claims more items than this at once, so that it can soon turn to another device's work.
constexpr std::uint64_t kMostItemsClaimed = 32;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  asm volatile("yield");
#endif
}

// The cores run this library's code until the process ends, so it must stay loaded.
void keep_library_loaded() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&keep_library_loaded), &info) != 0) {
    dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  }
}

// New threads inherit the mask of the thread that makes them.
struct SignalsBlocked {
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }
  sigset_t before;
};

}  // namespace

// Throws std::bad_alloc or std::system_error; the next call then starts those that are missing.
void Runtime::start_cores() {
  if (cores_started_ == core_count) return;
  keep_library_loaded();
  const SignalsBlocked signals_are_for_the_threads_of_the_host_program;
  for (; cores_started_ < core_count; ++cores_started_) {
    std::thread(&Runtime::core_main, this, std::ref(Block::create())).detach();
  }
}

void Runtime::core_main(Block& block) {
  flush_denormals_to_zero();
  if (memory_guarded) block.catch_illegal_accesses();
  std::unique_lock lock(mutex);
  while (true) {
    if (Work* work = choose_work()) {
      Device& device = work->stream->device;
      ++work->cores;
      ++device.cores;
      device.last_served = ++served_;
      lock.unlock();
      execute(block, *work);
      lock.lock();
      --device.cores;
      --work->cores;
      finish(*work);
      continue;
    }
    lock.unlock();
    const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    while (claimable_.load(std::memory_order_relaxed) == 0 && std::chrono::steady_clock::now() < deadline) pause();
    lock.lock();
    if (claimable_ > 0) continue;
    ++sleeping_cores_;
    work_available_.wait(lock, [this] { return claimable_ > 0; });
    --sleeping_cores_;
  }
}

// Of the devices with work, the one that the fewest cores serve, or else the one that was served longest ago; of its
// work, what the fewest cores execute.
Work* Runtime::choose_work() {
  Device* chosen = nullptr;
  for (const auto& device : devices) {
    if (device->published.empty()) continue;
    if (!chosen || device->cores < chosen->cores ||
        (device->cores == chosen->cores && device->last_served < chosen->last_served)) {
      chosen = device.get();
    }
  }
  if (!chosen) return nullptr;
  return *std::min_element(chosen->published.begin(), chosen->published.end(),
                           [](const Work* a, const Work* b) { return a->cores < b->cores; });
}

// Claims are large at first, to be few, and small at the end, so that all cores finish together.
void Runtime::execute(Block& block, Work& work) {
  const Device& device = work.stream->device;
  std::uint64_t begin = work.next.load(std::memory_order_relaxed);
  while (begin < work.items && !should_give_way(device)) {
    const std::uint64_t share = (work.items - begin) / (8 * static_cast<std::uint64_t>(core_count));
    const std::uint64_t end = begin + std::clamp(share, std::uint64_t{1}, kMostItemsClaimed);
    if (!work.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
    std::optional<Failure> failure = work.run(block, begin, end);
#if defined(__SSE2__)
    __builtin_ia32_sfence();  // what kernels stored past the caches is there before others are told
#endif
    if (failure) {
      work.next = work.items;
      const std::lock_guard lock(mutex);
      fail(work.stream->device, std::move(*failure));
      return;
    }
    begin = work.next.load(std::memory_order_relaxed);
  }
}

bool Runtime::should_give_way(const Device& device) const {
  return std::any_of(devices.begin(), devices.end(), [&](const std::unique_ptr<Device>& other) {
    return other->claimable.load(std::memory_order_relaxed) > 0 &&
           other->cores.load(std::memory_order_relaxed) + 1 < device.cores.load(std::memory_order_relaxed);
  });
}

void Runtime::finish(Work& work) {
  if (work.next < work.items) return;
  Stream& stream = *work.stream;
  if (std::erase(stream.device.published, &work) > 0) {
    --stream.device.claimable;
    --claimable_;
  }
  if (work.cores > 0) return;
  if (work.kernel_name() && memory_guarded) {
    if (auto failure = check_guards(stream.device, work.kernel_name())) fail(stream.device, std::move(*failure));
  }
  const auto keep_alive = stream.shared_from_this();
  complete_head(stream);
  if (std::exchange(one_runs_, false)) {
    start_next();
  } else {
    advance(stream);
  }
}

}  // namespace hostcuda
