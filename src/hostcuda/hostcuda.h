// CUDA on CPU cores: what has no name in CUDA itself. CUDA's own names are in cuda_runtime.h.
//
// Devices are virtual: each has its streams and its memory limit, and all share the machine's cores. A core runs one
// block of a kernel at a time. The block's threads take turns on that core and never run at the same time, so a
// kernel must not spin until another thread or block has written something.
//
// Errors inside a kernel (an exception, __trap, a barrier that can never be met, a stack overflow) are reported as
// on a GPU, by a later call: one that waits for the device or asks after its work. What was queued behind the failure
// on that device is dropped until then. Other than on a GPU, where the process has to end, the device is as new
// after the report.
//
// Denormal numbers count as zero inside kernels, as in code that nvcc compiled with -ftz=true.
#pragma once

#include "cuda_runtime.h"
#include "kernel_context.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

namespace hostcuda {

// What a target that checks its kernels' accesses has to know of device memory. All calls but those of copies and fills
// come under the runtime's lock; these come from the cores that execute them, piece by piece.
class MemoryObserver {
 public:
  virtual ~MemoryObserver() = default;
  virtual void allocated(const void* begin, std::size_t bytes) = 0;
  virtual void freed(const void* begin) = 0;
  virtual void filled(const void* to, std::size_t bytes) = 0;
  virtual void copied(const void* to, const void* from, std::size_t bytes) = 0;
};

struct Configuration {
  int devices = 2;
  int cores = 0;                      // OS threads that execute; 0: one for each core this process may run on
  std::size_t memory_per_device = 0;  // bytes that cudaMalloc hands out; 0: the machine's physical memory
  std::size_t shared_memory_per_block = std::size_t{1} << 20;  // bytes of dynamic shared memory a launch may ask for
  bool fill_new_memory = false;  // fill new device memory with NaNs, so that reading the unwritten is noticed
  std::string device_name = "CPU";
  MemoryObserver* memory_observer = nullptr;  // must live as long as the process
};

// Before the first CUDA call, or cudaErrorSetOnActiveProcess; cudaErrorInvalidValue for a number out of range.
cudaError_t configure(const Configuration& configuration);

// At any time; cudaErrorInvalidValue for fewer bytes than the device has already handed out.
cudaError_t set_memory_limit(int device, std::size_t bytes);

// Whether `device` may read and write the memory of `peer` (one direction). All pairs can at the start.
cudaError_t set_peer_capable(int device, int peer, bool capable);

// The order in which a block's threads and a grid's blocks are started, for launches made from now on. CUDA promises
// none, so a correct kernel gives the same bits in each.
//
// Nor does CUDA promise an order of different streams' operations, but for the events. Shuffled streams try one that
// the seed draws: operations run one at a time, each as early or as late as it may, so that where an event is lacking,
// some seeds show it. The same calls of one host thread give the same order; what the host itself does to memory runs
// beside it. Correct programs see two differences: asynchronous copies of pageable memory may be under way when the
// call returns, as CUDA allows, and work may not start before the host waits for it or asks after it, so a host that
// looks at memory until it has been written may look for ever. Before streams are shuffled, are shuffled with another
// seed or go their own ways again, set_schedule waits for all that is queued.
enum class Order { ascending, descending, random };
struct Schedule {
  Order threads = Order::ascending;
  Order blocks = Order::ascending;
  std::uint64_t seed = 0;  // for Order::random and for shuffled streams
  bool shuffle_streams = false;
};
cudaError_t set_schedule(const Schedule& schedule);

// What cudaGetErrorString cannot say about the last error returned to the calling host thread: which kernel, block and
// thread it was, and what went wrong. Empty where there is nothing to add.
const std::string& error_detail();

// For those who launch kernels in ways of their own: what a launch that is refused returns.
cudaError_t refuse(cudaError_t error, const std::string& detail);

// The number of cores that execute.
int core_count();

class Block;

// Runs the thread that a block has just started, and then, while next_thread() says so, further ones.
using ThreadLoop = std::function<void(Block&)>;

// The current thread has returned: starts another one, or returns false if this fiber has to stop here.
bool next_thread(Block& block);

cudaError_t launch_threads(const char* name, dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
                           cudaStream_t stream, ThreadLoop threads);

// Where a block is, for those who execute it themselves.
struct BlockPlace {
  std::uint64_t rank;    // in the grid: x runs fastest
  std::uint64_t launch;  // a number unlike that of any other launch, or replay of one
  Schedule schedule;
};

// Executes one block. What goes wrong is told in text that names the kernel, the block and the thread.
using BlockFunction = std::function<std::optional<std::string>(const BlockPlace&)>;

// Launches a kernel whose blocks are executed by a function, not as threads.
cudaError_t launch_blocks(const char* name, dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
                          cudaStream_t stream, BlockFunction function);

// Launches a kernel: `body()` is called once for each CUDA thread. `name` must outlive the work (a literal).
// Returns cudaErrorInvalidConfiguration for a grid or block that a GPU could not launch.
template <class Body>
cudaError_t launch(const char* name, dim3 grid, dim3 block, std::size_t dynamic_shared_bytes, cudaStream_t stream,
                   Body body) {
  return launch_threads(name, grid, block, dynamic_shared_bytes, stream, [body = std::move(body)](Block& threads) {
    do body();
    while (next_thread(threads));
  });
}

}  // namespace hostcuda
