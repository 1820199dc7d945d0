// The queues: what may run, what waits for what, and what a failure drops. The cores' side is in cores.cpp.
#include "runtime.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

namespace hostcuda {

namespace {

std::int64_t now_in_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int cores_in_affinity_mask() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return std::max(1u, std::thread::hardware_concurrency());
  return CPU_COUNT(&mask);
}

std::size_t physical_memory() {
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

Runtime::Runtime(const Configuration& configuration, bool memory_guarded)
    : configuration(configuration),
      memory_guarded(memory_guarded),
      core_count(configuration.cores > 0 ? configuration.cores : cores_in_affinity_mask()) {
  for (int id = 0; id < configuration.devices; ++id) {
    auto device = std::make_unique<Device>();
    device->id = id;
    device->memory_limit = configuration.memory_per_device > 0 ? configuration.memory_per_device : physical_memory();
    device->streams.push_back(std::make_shared<Stream>(*device));
    devices.push_back(std::move(device));
  }
}

// ---- queues ----

void Runtime::queue(Stream& stream, Operation operation) {
  start_cores();
  count_launch(operation);
  ++stream.submitted;
  stream.queue.push_back(std::move(operation));
  if (schedule.shuffle_streams) {
    hold(stream);
  } else if (stream.queue.size() == 1) {
    advance(stream);
  }
}

void Runtime::count_launch(const Operation& operation) {
  const auto* work = std::get_if<std::unique_ptr<Work>>(&operation);
  if (!work || !(*work)->kernel_name()) return;
  const std::string_view name = (*work)->kernel_name();
  const auto known = launches.find(name);
  ++(known != launches.end() ? known : launches.emplace(name, 0).first)->second;
}

// Takes a stream, and those that it wakes, as far as they get without a core.
void Runtime::advance(Stream& stream) {
  std::vector<std::shared_ptr<Stream>> woken = {stream.shared_from_this()};
  while (!woken.empty()) {
    const std::shared_ptr<Stream> next = std::move(woken.back());
    woken.pop_back();
    while (!next->queue.empty() && process_head(*next, woken)) complete_head(*next);
  }
}

// Whether the operation at the head of the stream is done, as far as the calling thread can bring it.
bool Runtime::process_head(Stream& stream, std::vector<std::shared_ptr<Stream>>& woken) {
  Device& device = stream.device;
  if (const auto* operation = std::get_if<RecordEvent>(&stream.queue.front())) {
    Record& record = *operation->record;
    record.completed = true;
    record.nanoseconds = now_in_nanoseconds();
    for (const std::weak_ptr<Stream>& waiting : record.waiting) {
      if (auto waiter = waiting.lock()) woken.push_back(std::move(waiter));
    }
    return true;
  }
  if (const auto* operation = std::get_if<WaitEvent>(&stream.queue.front())) {
    const auto& record = operation->record;
    if (!record || record->completed || device.failure) return true;
    record->waiting.push_back(stream.weak_from_this());
    return false;
  }
  Work& work = *std::get<std::unique_ptr<Work>>(stream.queue.front());
  if (stream.head_published) return false;
  if (device.failure || work.items == 0) return true;
  stream.head_published = true;
  work.stream = &stream;
  device.published.push_back(&work);
  ++device.claimable;
  ++claimable_;
  for (auto cores = std::min(std::uint64_t{sleeping_cores_}, work.items); cores > 0; --cores) {
    work_available_.notify_one();
  }
  return false;
}

void Runtime::complete_head(Stream& stream) {
  stream.queue.pop_front();
  stream.head_published = false;
  ++stream.completed;
  for (HostWait* wait : host_waits_) {
    if (wait->done()) wait->woken.notify_one();
  }
  if (stream.destroyed) remove_if_idle(stream);
}

void Runtime::remove_if_idle(Stream& stream) {
  if (stream.idle()) std::erase(stream.device.streams, stream.shared_from_this());
}

void Runtime::wait_until(std::unique_lock<std::mutex>& lock, std::function<bool()> done) {
  if (done()) return;
  HostWait wait{std::move(done), {}};
  host_waits_.push_back(&wait);
  wait.woken.wait(lock, wait.done);
  std::erase(host_waits_, &wait);
}

// The first failure of a device counts. What waits for other devices has to be dropped as well.
void Runtime::fail(Device& device, Failure failure) {
  if (device.failure) return;
  device.failure = std::move(failure);
  if (schedule.shuffle_streams) return;  // there nothing waits once it has been let go
  const auto streams = device.streams;
  for (const auto& stream : streams) {
    if (!stream->head_published) advance(*stream);
  }
}

void Runtime::wait_for(std::unique_lock<std::mutex>& lock, Stream& stream) {
  const std::uint64_t target = stream.submitted;
  while (stream.held > 0) let_one_go();
  wait_until(lock, [&stream, target] { return stream.completed >= target; });
}

void Runtime::wait_for(std::unique_lock<std::mutex>& lock, Device& device) {
  const auto streams = device.streams;
  for (const auto& stream : streams) wait_for(lock, *stream);
}

void Runtime::wait_for(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Record>& record) {
  while (record->held) let_one_go();
  wait_until(lock, [record] { return record->completed; });
}

void Runtime::wait_for_all(std::unique_lock<std::mutex>& lock) {
  const auto is_busy = [](const auto& device) {
    return std::any_of(device->streams.begin(), device->streams.end(), [](const auto& s) { return !s->idle(); });
  };
  // Other host threads may queue more meanwhile.
  auto busy = devices.begin();
  while ((busy = std::find_if(devices.begin(), devices.end(), is_busy)) != devices.end()) wait_for(lock, **busy);
}

cudaError_t Runtime::report(std::unique_lock<std::mutex>& lock, Device& device) {
  if (!device.failure) return cudaSuccess;
  wait_for(lock, device);
  if (!device.failure) return cudaSuccess;  // another host thread has had it meanwhile
  Failure failure = *std::exchange(device.failure, std::nullopt);
  return error_with_detail(failure.error, std::move(failure.detail));
}

}  // namespace hostcuda
