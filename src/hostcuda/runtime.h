// The state behind the API: devices, streams and their queues, and the cores that execute them.
//
// A stream is a queue of operations. At its head stands either Work, which cores execute item by item (the blocks
// of a kernel, the pieces of a copy), or an event to record or to wait for, which takes no time. One mutex guards
// all queues; cores claim items of Work without it. Streams go on by themselves, or in one order (shuffle.cpp).
#pragma once

#include "block.h"
#include "checks.h"
#include "hostcuda.h"

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

namespace hostcuda {

struct Device;
struct Stream;
struct Record;
struct Capture;
struct Runtime;

// An operation that cores execute. Items are claimed in order and may run at the same time.
struct Work {
  explicit Work(std::uint64_t items) : items(items) {}
  virtual ~Work() = default;
  // Executes some items; kernels do it on `block`, which belongs to the core.
  virtual std::optional<Failure> run(Block& block, std::uint64_t begin, std::uint64_t end) = 0;
  // The same work, to be executed once more.
  virtual std::unique_ptr<Work> again(Runtime& runtime) const = 0;
  // The kernel's name, if it is one.
  virtual const char* kernel_name() const { return nullptr; }

  const std::uint64_t items;
  std::atomic<std::uint64_t> next = 0;
  int cores = 0;  // that execute it now
  Stream* stream = nullptr;
};

struct RecordEvent {
  std::shared_ptr<Record> record;
};
struct WaitEvent {
  std::shared_ptr<Record> record;  // null: of an event that was never recorded, which nobody waits for
};
using Operation = std::variant<std::unique_ptr<Work>, RecordEvent, WaitEvent>;

struct Stream : std::enable_shared_from_this<Stream> {
  explicit Stream(Device& device) : device(device) {}
  bool idle() const { return queue.empty(); }

  Device& device;
  std::deque<Operation> queue;  // the head stays until it is done
  bool head_published = false;  // the head is Work that cores may claim
  bool destroyed = false;       // by its owner; goes when it is idle
  std::uint64_t submitted = 0, completed = 0;
  std::uint64_t held = 0;            // operations at the end of the queue that must not start yet
  std::uint64_t rank = 0;            // among streams that hold operations
  std::shared_ptr<Capture> capture;  // what is queued becomes part of, or null
  std::size_t number_in_capture = 0;
};

// One call of cudaEventRecord. Who waits for an event waits for its latest record of that moment, whatever is recorded
// later, on whichever stream.
struct Record {
  bool held = false;  // like the operation that makes it
  bool completed = false;
  std::int64_t nanoseconds = 0;  // when it was completed
  std::vector<std::weak_ptr<Stream>> waiting;

  // Of a stream that was capturing: nobody can wait for it but streams of that capture.
  bool captured = false;
  std::weak_ptr<Capture> capture;
  std::vector<std::size_t> seen;  // see Capture
};

// What a stream, and those that joined it by waiting for its events, were to do from the beginning of a capture to its
// end (graph.cpp).
struct Capture {
  struct Captured {
    std::size_t stream;   // its number
    Operation operation;  // Work is executed again and again, Records stand for those of a replay
  };

  cudaStreamCaptureMode mode;
  std::thread::id thread;                        // that began it
  std::vector<std::shared_ptr<Stream>> streams;  // by their numbers; the first one began it
  std::vector<Captured> operations;
  // By stream: how many operations come before its next one, of each stream.
  std::vector<std::vector<std::size_t>> seen;
  bool invalid = false;  // a call was refused meanwhile
};

// What a capture leaves.
struct Graph {
  std::vector<Device*> devices;  // of each stream
  std::vector<Capture::Captured> operations;
};

struct Device {
  int id = 0;
  std::size_t memory_limit = 0, memory_used = 0;
  std::vector<std::shared_ptr<Stream>> streams;  // the first one is the default stream
  std::optional<Failure> failure;                // until it is reported; what is queued meanwhile is dropped
  std::vector<Work*> published;                  // with items that nobody has claimed yet
  std::atomic<int> claimable = 0;                // how many these are
  std::atomic<int> cores = 0;                    // that execute its work now
  std::uint64_t last_served = 0;
  std::set<int> peers_refused, peers_enabled;
};

struct Allocation {
  std::size_t bytes;    // as asked for
  std::size_t charged;  // as counted against the device's limit
  int device;
  cudaMemoryType type;
};

// A host thread that sleeps until done() holds. Each has its own bell, so that it is woken once, not by every operation.
struct HostWait {
  std::function<bool()> done;
  std::condition_variable woken;
};

// Freed memory, mapped still, for allocations of the same size: the system clears pages before it gives them, which takes
// longer than many a kernel that writes there. It may take back the pages of mappings that wait here when it needs some.
class SpareMappings {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{1} << 30;

  void* take(std::size_t size);  // null: none of this size
  void keep(void* memory, std::size_t size);
  void unmap_oldest(std::size_t bytes_left);

 private:
  struct Mapping {
    void* memory;
    std::size_t size;
  };
  std::vector<Mapping> mappings_;  // the oldest first
  std::size_t bytes_ = 0;
};

struct Runtime {
  Runtime(const Configuration& configuration, bool memory_guarded);

  bool has_device(int id) const { return id >= 0 && id < static_cast<int>(devices.size()); }
  Device& device(int id) { return *devices[static_cast<std::size_t>(id)]; }

  // Queues an operation (holding the mutex) and starts what can start, or captures it. The stream must not be destroyed.
  // An error is that of a capture.
  cudaError_t submit(Stream& stream, Operation operation);
  void advance(Stream& stream);
  // Waits, releasing the lock, until done() holds, which is tried whenever an operation has completed.
  void wait_until(std::unique_lock<std::mutex>& lock, std::function<bool()> done);
  void wait_for(std::unique_lock<std::mutex>& lock, Stream& stream);
  void wait_for(std::unique_lock<std::mutex>& lock, Device& device);
  void wait_for(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Record>& record);
  // The answer to a host that asks for what is not done yet.
  cudaError_t not_ready();
  // The device's failure, if there is one; afterwards the device is as new.
  cudaError_t report(std::unique_lock<std::mutex>& lock, Device& device);

  cudaError_t begin_capture(Stream& stream, cudaStreamCaptureMode mode);
  // Null where there is an error.
  cudaError_t end_capture(Stream& stream, std::shared_ptr<const Graph>& graph);
  void invalidate_capture(Stream& stream);
  // Refuses what may wait for any work as long as a capture forbids it.
  cudaError_t refuse_while_capturing(const char* call);
  // Refuses to wait for what is captured, and not executed.
  cudaError_t refuse_waiting_for(Stream& stream);
  cudaError_t refuse_waiting_for(const Device& device);
  cudaError_t replay(const Graph& graph, const std::vector<std::shared_ptr<Stream>>& streams, Stream& stream);

  void set_schedule(std::unique_lock<std::mutex>& lock, const Schedule& wanted);
  // Forgets a stream that its owner has destroyed, unless something is still to be done.
  void remove_if_idle(Stream& stream);

  std::map<std::uintptr_t, Allocation>::iterator find_allocation(const void* pointer);
  // The allocation that an address lies nearest to, and where beside it, as words.
  std::string place_beside_allocations(std::uintptr_t address) const;
  // Where memory is guarded: what has been written right beside the device's allocations, which is then undone.
  std::optional<Failure> check_guards(const Device& device, const std::string& suspect);
  // Counts a call; true if it is the one that fail_call() chose.
  bool fails(Call call);

  const Configuration configuration;
  const bool memory_guarded;
  std::mutex mutex;
  std::vector<std::unique_ptr<Device>> devices;
  std::map<std::uintptr_t, Allocation> allocations;
  SpareMappings spare_mappings;
  Schedule schedule;
  std::array<std::uint64_t, 2> calls_to_failure{};  // of each Call; 0: never
  std::map<std::string, std::uint64_t, std::less<>> launches;
  std::uint64_t launches_numbered = 0;
  std::vector<std::shared_ptr<Capture>> captures;  // that have not ended
  int core_count;

 private:
  void start_cores();
  void count_launch(const Operation& operation);
  void queue(Stream& stream, Operation operation);
  cudaError_t join_capture(Stream& stream, const WaitEvent& wait);
  void capture(Stream& stream, Operation operation);
  cudaError_t invalidated(Capture& capture, cudaError_t error, const std::string& detail);
  void core_main(Block& block);
  Work* choose_work();
  void execute(Block& block, Work& work);
  bool should_give_way(const Device& device) const;
  void finish(Work& work);
  void complete_head(Stream& stream);
  void fail(Device& device, Failure failure);
  bool process_head(Stream& stream, std::vector<std::shared_ptr<Stream>>& woken);
  void wait_for_all(std::unique_lock<std::mutex>& lock);
  void hold(Stream& stream);
  bool let_one_go();
  void start_next();

  int cores_started_ = 0;
  std::atomic<int> claimable_ = 0;  // over all devices
  unsigned sleeping_cores_ = 0;
  std::uint64_t served_ = 0;
  std::condition_variable work_available_;
  std::vector<HostWait*> host_waits_;

  // While streams are shuffled: those whose next operations run, one after the other.
  std::deque<std::shared_ptr<Stream>> order_;
  bool one_runs_ = false;  // cores execute what was taken from the order last
  std::mt19937_64 random_;
};

// The runtime, made at first use; it lives as long as the process, so that cores never outlive it.
Runtime& runtime();

// What every API function is wrapped in: refuses in a forked child, turns exceptions into error codes and
// remembers the error for cudaGetLastError.
cudaError_t api_call(const std::function<cudaError_t(Runtime&)>& function);

// The calling thread's current device, and the detail that goes with the error it is about to return.
int current_device();
void set_current_device(int device);
cudaError_t error_with_detail(cudaError_t error, std::string detail);

// The stream of a handle, or the current device's default stream.
std::shared_ptr<Stream> stream_of(Runtime& runtime, cudaStream_t handle);

}  // namespace hostcuda

struct CUstream_st {
  std::shared_ptr<hostcuda::Stream> stream;
};
struct CUevent_st {
  hostcuda::Device& device;
  bool timing;
  std::shared_ptr<hostcuda::Record> latest;  // null: never recorded

  bool completed() const { return !latest || latest->completed; }
  bool captured() const { return latest && latest->captured; }
};
struct CUgraph_st {
  std::shared_ptr<const hostcuda::Graph> graph;
};
struct CUgraphExec_st {
  std::shared_ptr<const hostcuda::Graph> graph;
  std::vector<std::shared_ptr<hostcuda::Stream>> streams;  // of its own, one for each that was captured
};
