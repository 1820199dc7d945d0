// Streams and events: order within a stream, across streams and across devices, times, and ends of life.
#include "runner.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>

namespace {

// A kernel of one thread that first takes its time.
template <class Body>
void launch_slow(cudaStream_t stream, Body body) {
  CHECK_CUDA(hostcuda::launch("slow", 1, 1, 0, stream, [body] {
    busy_for_microseconds(2000);
    body();
  }));
}

// A host function.
void wait_for_flag(void* flag) {
  while (!*static_cast<std::atomic<bool>*>(flag)) std::this_thread::yield();
}

}  // namespace

TEST(a_stream_keeps_its_order) {
  const TestStream stream;
  const DeviceArray<int> values(1000);
  for (int round = 0; round < 200; ++round) {
    CHECK_CUDA(hostcuda::launch("multiply_and_add", 10, 100, 0, stream, [values = values.data, round] {
      int& value = values[blockIdx.x * 100 + threadIdx.x];
      value = (value * 3 + round) % 1000003;
    }));
  }
  CHECK_CUDA(cudaStreamSynchronize(stream));
  long expected = 0;
  for (int round = 0; round < 200; ++round) expected = (expected * 3 + round) % 1000003;
  for (int value : values.to_host()) CHECK_EQUAL(value, expected);
}

TEST(events_order_streams) {
  const TestStream first, second;
  const TestEvent ready;
  const DeviceArray<int> values(2);
  for (int round = 1; round <= 20; ++round) {
    launch_slow(first, [v = values.data, round] { v[0] = round; });
    CHECK_CUDA(cudaEventRecord(ready, first));
    CHECK_CUDA(cudaStreamWaitEvent(second, ready));
    CHECK_CUDA(hostcuda::launch("take", 1, 1, 0, second, [v = values.data] { v[1] = v[0]; }));
    CHECK_CUDA(cudaStreamSynchronize(second));
    CHECK_EQUAL(values.to_host()[1], round);
  }
}

TEST(events_order_devices) {
  const DeviceArray<int> here(1);
  const TestStream stream_here;
  const TestEvent ready;
  CHECK_CUDA(cudaSetDevice(1));
  const DeviceArray<int> there(1);
  const TestStream stream_there;
  CHECK_CUDA(cudaSetDevice(0));
  launch_slow(stream_here, [v = here.data] { *v = 41; });
  CHECK_CUDA(cudaEventRecord(ready, stream_here));

  CHECK_CUDA(cudaSetDevice(1));
  CHECK_CUDA(cudaStreamWaitEvent(stream_there, ready));
  CHECK_CUDA(cudaMemcpyPeerAsync(there.data, 1, here.data, 0, sizeof(int), stream_there));
  CHECK_CUDA(hostcuda::launch("increment", 1, 1, 0, stream_there, [v = there.data] { *v += 1; }));
  CHECK_CUDA(cudaStreamSynchronize(stream_there));
  CHECK_EQUAL(there.to_host()[0], 42);
  CHECK_ERROR(cudaEventRecord(ready, stream_there), cudaErrorInvalidResourceHandle);
}

TEST(waiting_means_the_latest_record) {
  const TestStream first, second;
  const TestEvent event;
  const DeviceArray<int> values(2);
  CHECK_CUDA(cudaStreamWaitEvent(second, event));  // never recorded: nothing to wait for
  CHECK_CUDA(cudaStreamSynchronize(second));
  CHECK_CUDA(cudaEventQuery(event));

  launch_slow(first, [] {});
  CHECK_CUDA(cudaEventRecord(event, first));
  launch_slow(first, [v = values.data] { v[0] = 1; });
  CHECK_CUDA(cudaEventRecord(event, first));
  CHECK_CUDA(cudaStreamWaitEvent(second, event));
  CHECK_CUDA(hostcuda::launch("take", 1, 1, 0, second, [v = values.data] { v[1] = v[0]; }));
  CHECK_CUDA(cudaStreamSynchronize(second));
  CHECK_EQUAL(values.to_host()[1], 1);
}

TEST(a_later_record_on_another_stream_changes_no_wait) {
  const TestStream first, second, third;
  const TestEvent event;
  std::atomic<bool> go = false;
  CHECK_CUDA(cudaLaunchHostFunc(first, wait_for_flag, &go));
  CHECK_CUDA(cudaEventRecord(event, first));
  CHECK_CUDA(cudaStreamWaitEvent(second, event));
  CHECK_CUDA(cudaEventRecord(event, third));
  CHECK_ERROR(cudaStreamQuery(second), cudaErrorNotReady);
  go = true;
  CHECK_CUDA(cudaStreamSynchronize(second));
}

TEST(queries_do_not_wait) {
  const TestStream stream;
  const TestEvent done;
  std::atomic<bool> go = false;
  CHECK_CUDA(cudaStreamQuery(stream));
  CHECK_CUDA(cudaLaunchHostFunc(stream, wait_for_flag, &go));
  CHECK_CUDA(cudaEventRecord(done, stream));
  CHECK_ERROR(cudaStreamQuery(stream), cudaErrorNotReady);
  CHECK_ERROR(cudaEventQuery(done), cudaErrorNotReady);
  CHECK_CUDA(cudaGetLastError());  // not ready is no error
  go = true;
  CHECK_CUDA(cudaEventSynchronize(done));
  CHECK_CUDA(cudaEventQuery(done));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_CUDA(cudaStreamQuery(stream));
}

TEST(elapsed_time) {
  const TestStream stream;
  const TestEvent start, end, untimed(cudaEventDisableTiming), never;
  float milliseconds = 0;
  CHECK_CUDA(cudaEventRecord(start, stream));
  launch_slow(stream, [] {});
  CHECK_CUDA(cudaEventRecord(end, stream));
  CHECK_CUDA(cudaEventRecord(untimed, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_CUDA(cudaEventElapsedTime(&milliseconds, start, end));
  CHECK(milliseconds >= 2.0f && milliseconds < 5000.0f);  // two milliseconds of work; a busy machine adds to it
  CHECK_CUDA(cudaEventElapsedTime(&milliseconds, end, start));
  CHECK(milliseconds <= -2.0f);
  CHECK_ERROR(cudaEventElapsedTime(&milliseconds, start, untimed), cudaErrorInvalidResourceHandle);
  CHECK_ERROR(cudaEventElapsedTime(&milliseconds, start, never), cudaErrorInvalidResourceHandle);
  CHECK_ERROR(cudaEventElapsedTime(nullptr, start, end), cudaErrorInvalidValue);
}

TEST(host_functions_keep_the_order) {
  const TestStream stream;
  const DeviceArray<int> value(1);
  launch_slow(stream, [v = value.data] { *v = 5; });
  CHECK_CUDA(cudaLaunchHostFunc(stream, [](void* v) { *static_cast<int*>(v) *= 2; }, value.data));
  CHECK_CUDA(hostcuda::launch("increment", 1, 1, 0, stream, [v = value.data] { *v += 1; }));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_EQUAL(value.to_host()[0], 11);
  CHECK_ERROR(cudaLaunchHostFunc(stream, nullptr, nullptr), cudaErrorInvalidValue);
}

TEST(streams_and_events_end_when_their_work_is_done) {
  const DeviceArray<int> values(1);
  for (int round = 0; round < 50; ++round) {
    cudaStream_t first = nullptr, second = nullptr;
    cudaEvent_t event = nullptr;
    CHECK_CUDA(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    CHECK_CUDA(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    CHECK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    CHECK_CUDA(hostcuda::launch("slow", 1, 1, 0, first, [] { busy_for_microseconds(100); }));
    CHECK_CUDA(cudaEventRecord(event, first));
    CHECK_CUDA(cudaStreamWaitEvent(second, event));
    CHECK_CUDA(hostcuda::launch("increment", 1, 1, 0, second, [v = values.data] { *v += 1; }));
    CHECK_CUDA(cudaEventDestroy(event));
    CHECK_CUDA(cudaStreamDestroy(second));
    CHECK_CUDA(cudaStreamDestroy(first));
    CHECK_CUDA(cudaDeviceSynchronize());
  }
  CHECK_EQUAL(values.to_host()[0], 50);
  CHECK_ERROR(cudaStreamDestroy(nullptr), cudaErrorInvalidResourceHandle);
  CHECK_ERROR(cudaEventDestroy(nullptr), cudaErrorInvalidResourceHandle);
}

TEST(a_failure_releases_who_waits_for_it) {
  const TestStream failing;
  const TestEvent event;
  CHECK_CUDA(cudaSetDevice(1));
  const DeviceArray<int> value(1);
  const TestStream waiting;
  CHECK_CUDA(cudaSetDevice(0));
  CHECK_CUDA(hostcuda::launch("trapping", 1, 1, 0, failing, [] { __trap(); }));
  CHECK_CUDA(cudaEventRecord(event, failing));
  CHECK_CUDA(cudaSetDevice(1));
  CHECK_CUDA(cudaStreamWaitEvent(waiting, event));
  CHECK_CUDA(hostcuda::launch("write", 1, 1, 0, waiting, [v = value.data] { *v = 1; }));
  CHECK_CUDA(cudaStreamSynchronize(waiting));
  CHECK_EQUAL(value.to_host()[0], 1);
  CHECK_ERROR(cudaEventSynchronize(event), cudaErrorLaunchFailure);
}

TEST(many_launches) {
  const DeviceArray<int> counts(2);
  const TestStream first, second;
  for (int round = 0; round < 20000; ++round) {
    CHECK_CUDA(hostcuda::launch("count", 1, 1, 0, first, [c = counts.data] { c[0] += 1; }));
    CHECK_CUDA(hostcuda::launch("count", 1, 1, 0, second, [c = counts.data] { c[1] += 1; }));
  }
  CHECK_CUDA(cudaDeviceSynchronize());
  CHECK(counts.to_host() == (std::vector<int>{20000, 20000}));
}

TEST(many_host_threads) {
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([t, &failures] {
      try {
        CHECK_CUDA(cudaSetDevice(t % 2));
        const TestStream stream;
        const TestEvent event;
        const DeviceArray<int> value(1);
        for (int round = 1; round <= 200; ++round) {
          CHECK_CUDA(hostcuda::launch("count", 1, 1, 0, stream, [v = value.data] { *v += 1; }));
          CHECK_CUDA(cudaEventRecord(event, stream));
          CHECK_CUDA(cudaEventSynchronize(event));
          CHECK_EQUAL(*value.data, round);
        }
      } catch (const std::exception&) {
        ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(failures.load(), 0);
}

TEST(one_device_gets_all_cores) {
  hostcuda::Configuration configuration;
  configuration.cores = 2;
  CHECK_CUDA(hostcuda::configure(configuration));
  constexpr unsigned blocks = 400;
  const DeviceArray<std::size_t> core_of(blocks);
  CHECK_CUDA(hostcuda::launch("busy", blocks, 1, 0, nullptr, [core_of = core_of.data] {
    busy_for_microseconds(200);
    core_of[blockIdx.x] = std::hash<std::thread::id>{}(std::this_thread::get_id());
  }));
  const std::vector<std::size_t> cores = core_of.to_host();
  CHECK_EQUAL(std::set<std::size_t>(cores.begin(), cores.end()).size(), 2u);
}

TEST(two_devices_share_the_cores) {
  hostcuda::Configuration configuration;
  configuration.cores = 2;
  CHECK_CUDA(hostcuda::configure(configuration));
  constexpr unsigned blocks = 1000;
  static std::atomic<unsigned> done[2];
  static unsigned done_by_the_other = 0;
  for (int device : {0, 1}) {
    CHECK_CUDA(cudaSetDevice(device));
    CHECK_CUDA(hostcuda::launch("busy", blocks, 1, 0, nullptr, [device] {
      busy_for_microseconds(200);
      if (++done[device] == blocks && done[1 - device] < blocks) done_by_the_other = done[1 - device];
    }));
  }
  for (int device : {0, 1}) {
    CHECK_CUDA(cudaSetDevice(device));
    CHECK_CUDA(cudaDeviceSynchronize());
  }
  // With even shares the other device is nearly done when the first one is; one after the other it would be at 0.
  CHECK(done_by_the_other > blocks / 4);
}

TEST(a_stream_belongs_to_its_device) {
  const TestStream stream;
  CHECK_CUDA(cudaSetDevice(1));
  CHECK_ERROR(hostcuda::launch("foreign", 1, 1, 0, stream, [] {}), cudaErrorInvalidResourceHandle);
  check_detail_has("the stream belongs to device 0, the current device is 1");
}
