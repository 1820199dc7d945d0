// Captures and graphs: what is captured, that it is executed as often as it is launched and in its order, and what CUDA
// does not allow meanwhile.
#include "runner.h"

#include "checks.h"

#include <functional>
#include <thread>

namespace {

// A graph of what `work` queues on `stream`, and on streams that it forks.
struct TestGraph {
  TestGraph(cudaStream_t stream, const std::function<void()>& work,
            cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    cudaGraph_t graph = nullptr;
    CHECK_CUDA(cudaStreamBeginCapture(stream, mode));
    work();
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&handle, graph));
    CHECK_CUDA(cudaGraphDestroy(graph));
  }
  ~TestGraph() { cudaGraphExecDestroy(handle); }
  TestGraph(const TestGraph&) = delete;
  TestGraph& operator=(const TestGraph&) = delete;
  operator cudaGraphExec_t() const { return handle; }
  cudaGraphExec_t handle = nullptr;
};

void launch_slowly(cudaStream_t stream, const std::function<void()>& body) {
  CHECK_CUDA(hostcuda::launch("slowly", 1, 1, 0, stream, [body] {
    busy_for_microseconds(200);
    body();
  }));
}

// A capture that a call has made useless: whatever else is queued is refused, and it ends without a graph.
void check_that_capture_is_lost(cudaStream_t stream) {
  CHECK_ERROR(hostcuda::launch("late", 1, 1, 0, stream, [] {}), cudaErrorStreamCaptureInvalidated);
  cudaGraph_t graph = nullptr;
  CHECK_ERROR(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  CHECK(graph == nullptr);
  CHECK_CUDA(cudaStreamSynchronize(stream));
}

}  // namespace

TEST(a_graph_runs_when_it_is_launched_and_as_often) {
  const TestStream stream;
  const DeviceArray<int> values(2);
  const TestGraph graph(stream, [&] {
    launch_slowly(stream, [v = values.data] { v[0] += 1; });
    CHECK_CUDA(hostcuda::launch("add", 1, 1, 0, stream, [v = values.data] { v[1] += 10 * v[0]; }));
  });
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_EQUAL(values.to_host()[0], 0);
  const auto before = hostcuda::launch_counts()["slowly"];
  for (int round = 0; round < 5; ++round) CHECK_CUDA(cudaGraphLaunch(graph, stream));
  CHECK_CUDA(hostcuda::launch("double", 1, 1, 0, stream, [v = values.data] { v[1] *= 2; }));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_EQUAL(hostcuda::launch_counts()["slowly"] - before, 5u);
  CHECK_EQUAL(values.to_host()[0], 5);
  CHECK_EQUAL(values.to_host()[1], 2 * 10 * (1 + 2 + 3 + 4 + 5));
}

TEST(a_replay_reads_what_lies_in_memory_then) {
  const TestStream stream;
  const DeviceArray<int> values(2);
  int* pinned = nullptr;
  CHECK_CUDA(cudaHostAlloc(&pinned, sizeof(int), cudaHostAllocDefault));
  const TestGraph graph(
      stream, [&] { CHECK_CUDA(hostcuda::launch("add", 1, 1, 0, stream, [v = values.data] { v[1] += v[0]; })); });
  int expected = 0;
  for (int round = 1; round <= 4; ++round) {
    *pinned = round * round;
    expected += round * round;
    CHECK_CUDA(cudaMemcpyAsync(values.data, pinned, sizeof(int), cudaMemcpyHostToDevice, stream));
    CHECK_CUDA(cudaGraphLaunch(graph, stream));
    CHECK_CUDA(cudaStreamSynchronize(stream));
    CHECK_EQUAL(values.to_host()[1], expected);
  }
  CHECK_CUDA(cudaFreeHost(pinned));
}

// The other device's stream joins the capture by waiting for its event, and is joined to it by an event of its own.
TEST(a_graph_spans_devices) {
  const TestStream here;
  const DeviceArray<int> source(100), result(100);
  CHECK_CUDA(cudaSetDevice(1));
  const TestStream there;
  const DeviceArray<int> other(100);
  const TestEvent answered;
  CHECK_CUDA(cudaSetDevice(0));
  const TestEvent asked;
  const TestGraph graph(here, [&] {
    CHECK_CUDA(hostcuda::launch("count", 1, 100, 0, here, [v = source.data] { v[threadIdx.x] += 1 + threadIdx.x; }));
    CHECK_CUDA(cudaEventRecord(asked, here));
    CHECK_CUDA(cudaSetDevice(1));
    CHECK_CUDA(cudaStreamWaitEvent(there, asked));
    CHECK_CUDA(cudaMemcpyPeerAsync(other.data, 1, source.data, 0, 100 * sizeof(int), there));
    launch_slowly(there, [v = other.data] {
      for (int i = 0; i < 100; ++i) v[i] *= 3;
    });
    CHECK_CUDA(cudaEventRecord(answered, there));
    CHECK_CUDA(cudaSetDevice(0));
    CHECK_CUDA(cudaStreamWaitEvent(here, answered));
    CHECK_CUDA(cudaMemcpyPeerAsync(result.data, 0, other.data, 1, 100 * sizeof(int), here));
  });
  for (int round = 1; round <= 3; ++round) {
    CHECK_CUDA(cudaGraphLaunch(graph, here));
    if (round == 2) continue;  // two of them without a wait in between
    CHECK_CUDA(cudaStreamSynchronize(here));
    const std::vector<int> found = result.to_host();
    for (int i = 0; i < 100; ++i) CHECK_EQUAL(found[i], 3 * round * (1 + i));
  }
}

TEST(branches_of_a_graph_are_not_in_order_but_their_join_is) {
  const TestStream first, second;
  const TestEvent fork, join;
  const DeviceArray<int> values(3);
  const TestGraph graph(first, [&] {
    CHECK_CUDA(cudaEventRecord(fork, first));
    CHECK_CUDA(cudaStreamWaitEvent(second, fork));
    launch_slowly(first, [v = values.data] { v[0] += 1; });
    launch_slowly(second, [v = values.data] { v[1] += 1; });
    CHECK_CUDA(cudaEventRecord(join, second));
    CHECK_CUDA(cudaStreamWaitEvent(first, join));
    CHECK_CUDA(hostcuda::launch("sum", 1, 1, 0, first, [v = values.data] { v[2] = v[0] + v[1]; }));
  });
  for (int round = 1; round <= 3; ++round) {
    // On whichever stream: a graph comes after its own last launch, but not after other work of that one's stream.
    CHECK_CUDA(cudaGraphLaunch(graph, round == 2 ? second : first));
    CHECK_CUDA(cudaStreamSynchronize(round == 2 ? second : first));
    CHECK_EQUAL(values.to_host()[2], 2 * round);
  }
  // Outside of a capture the streams are as they were.
  CHECK_CUDA(hostcuda::launch("direct", 1, 1, 0, second, [v = values.data] { v[2] = 7; }));
  CHECK_CUDA(cudaStreamSynchronize(second));
  CHECK_EQUAL(values.to_host()[2], 7);
}

TEST(fills_copies_and_host_functions_are_captured) {
  const TestStream stream;
  const DeviceArray<int> values(4);
  std::vector<int> pageable(4, 5);
  int calls = 0;
  const TestGraph graph(stream, [&] {
    CHECK_CUDA(cudaMemsetAsync(values.data, 0xff, 4 * sizeof(int), stream));
    CHECK_CUDA(cudaMemcpyAsync(values.data, pageable.data(), 2 * sizeof(int), cudaMemcpyHostToDevice, stream));
    CHECK_CUDA(cudaLaunchHostFunc(stream, [](void* count) { ++*static_cast<int*>(count); }, &calls));
  });
  CHECK_EQUAL(calls, 0);
  pageable[1] = 6;  // the graph has the address, not the value
  for (int round = 1; round <= 2; ++round) {
    CHECK_CUDA(cudaGraphLaunch(graph, stream));
    CHECK_CUDA(cudaStreamSynchronize(stream));
    CHECK_EQUAL(calls, round);
  }
  CHECK(values.to_host() == (std::vector<int>{5, 6, -1, -1}));
}

TEST(a_failure_in_a_graph_names_the_kernel_and_the_next_launch_is_as_new) {
  const TestStream stream;
  const DeviceArray<int> values(2);
  const TestGraph graph(stream, [&] {
    CHECK_CUDA(hostcuda::launch("trap_unless_set", 2, 1, 0, stream, [v = values.data] {
      if (v[0] == 0 && blockIdx.x == 1) __trap();
    }));
    CHECK_CUDA(hostcuda::launch("count", 1, 1, 0, stream, [v = values.data] { v[1] += 1; }));
  });
  CHECK_CUDA(cudaGraphLaunch(graph, stream));
  CHECK_ERROR(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  check_detail_has("kernel trap_unless_set, block (1, 0, 0)");
  CHECK_EQUAL(values.to_host()[1], 0);
  const int set = 1;
  CHECK_CUDA(cudaMemcpy(values.data, &set, sizeof set, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaGraphLaunch(graph, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_EQUAL(values.to_host()[1], 1);
}

TEST(a_launch_that_is_refused_is_not_captured) {
  const TestStream stream;
  const TestGraph graph(stream, [&] {
    CHECK_ERROR(hostcuda::launch("too_many_threads", 1, 2048, 0, stream, [] {}), cudaErrorInvalidConfiguration);
    check_detail_has("kernel too_many_threads");
  });
  CHECK_CUDA(cudaGraphLaunch(graph, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
}

TEST(a_chosen_copy_fails_in_a_replay) {
  const TestStream stream;
  const DeviceArray<int> values(2);
  CHECK_CUDA(hostcuda::fail_call(hostcuda::Call::copy, 2));
  const auto copy = [&] {
    CHECK_CUDA(cudaMemcpyAsync(values.data + 1, values.data, sizeof(int), cudaMemcpyDeviceToDevice, stream));
  };
  const TestGraph graph(stream, copy);
  CHECK_CUDA(cudaGraphLaunch(graph, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_CUDA(cudaGraphLaunch(graph, stream));
  CHECK_ERROR(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  check_detail_has("the copy was chosen to fail");
}

TEST(a_graph_may_be_destroyed_while_it_runs) {
  const TestStream stream;
  const DeviceArray<int> values(1);
  for (int round = 0; round < 20; ++round) {
    const TestGraph graph(stream, [&] { launch_slowly(stream, [v = values.data] { *v += 1; }); });
    CHECK_CUDA(cudaGraphLaunch(graph, stream));
  }
  CHECK_CUDA(cudaStreamSynchronize(stream));
  CHECK_EQUAL(values.to_host()[0], 20);
}

TEST(waiting_for_what_is_captured_is_refused_and_ends_the_capture) {
  const TestStream stream;
  const TestEvent event;
  const std::vector<std::function<cudaError_t()>> calls = {
      [&] { return cudaStreamSynchronize(stream); },
      [&] { return cudaStreamQuery(stream); },
      [&] { return cudaDeviceSynchronize(); },
  };
  for (const auto mode :
       {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed}) {
    for (const auto& call : calls) {
      CHECK_CUDA(cudaStreamBeginCapture(stream, mode));
      CHECK_ERROR(call(), cudaErrorStreamCaptureUnsupported);
      check_that_capture_is_lost(stream);
    }
  }
  const TestGraph graph(stream, [&] {
    CHECK_CUDA(cudaEventRecord(event, stream));
    CHECK_ERROR(cudaEventSynchronize(event), cudaErrorCapturedEvent);
    CHECK_ERROR(cudaEventQuery(event), cudaErrorCapturedEvent);
  });
  float milliseconds = 0;
  CHECK_ERROR(cudaEventElapsedTime(&milliseconds, event, event), cudaErrorCapturedEvent);
  CHECK_ERROR(cudaStreamWaitEvent(stream, event), cudaErrorCapturedEvent);
  CHECK_CUDA(cudaEventRecord(event, stream));
  CHECK_CUDA(cudaEventSynchronize(event));
}

TEST(calls_that_may_wait_are_refused_unless_the_capture_is_relaxed) {
  const TestStream stream, other;
  const TestEvent event;
  void *memory = nullptr, *pinned = nullptr;
  char bytes[8] = {};
  const auto take_memory = [&] {
    CHECK_CUDA(cudaMalloc(&memory, 8));
    CHECK_CUDA(cudaHostAlloc(&pinned, 8, cudaHostAllocDefault));
  };
  const std::vector<std::function<cudaError_t()>> calls = {
      [&] { return cudaMemcpy(memory, bytes, 8, cudaMemcpyHostToDevice); },
      [&] { return cudaStreamSynchronize(other); },
      [&] { return cudaStreamQuery(other); },
      [&] { return cudaEventSynchronize(event); },
      [&] { return cudaEventQuery(event); },
      [&] { return cudaFree(memory); },
      [&] { return cudaFreeHost(pinned); },
      [&] { return cudaMalloc(&memory, 8); },
      [&] { return cudaHostAlloc(&pinned, 8, cudaHostAllocDefault); },
  };
  take_memory();
  for (const auto& call : calls) {
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    CHECK_ERROR(call(), cudaErrorStreamCaptureUnsupported);
    check_detail_has("while a stream captures");
    check_that_capture_is_lost(stream);
  }
  // Other threads may, unless the capture is a global one.
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  std::thread([&] { CHECK_CUDA(cudaStreamSynchronize(other)); }).join();
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
  CHECK_CUDA(cudaGraphDestroy(graph));
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  std::thread([&] { CHECK_ERROR(cudaStreamSynchronize(other), cudaErrorStreamCaptureUnsupported); }).join();
  check_that_capture_is_lost(stream);
  take_memory();
  const TestGraph relaxed(
      stream,
      [&] {
        for (const auto& call : calls) CHECK_CUDA(call());
      },
      cudaStreamCaptureModeRelaxed);
}

TEST(captures_begin_and_end_where_they_must) {
  const TestStream stream, other;
  const TestEvent event;
  cudaGraph_t graph = nullptr;
  CHECK_ERROR(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed), cudaErrorStreamCaptureUnsupported);
  CHECK_ERROR(cudaStreamBeginCapture(stream, static_cast<cudaStreamCaptureMode>(3)), cudaErrorInvalidValue);
  CHECK_ERROR(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);

  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CHECK_ERROR(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaErrorIllegalState);
  CHECK_CUDA(cudaEventRecord(event, stream));
  CHECK_CUDA(cudaStreamWaitEvent(other, event));
  CHECK_ERROR(cudaStreamEndCapture(other, &graph), cudaErrorStreamCaptureUnmatched);
  check_that_capture_is_lost(stream);
  CHECK_CUDA(cudaStreamSynchronize(other));

  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  std::thread([&] { CHECK_ERROR(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureWrongThread); }).join();
  check_that_capture_is_lost(stream);
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  std::thread([&] { CHECK_CUDA(cudaStreamEndCapture(stream, &graph)); }).join();

  cudaGraphExec_t executable = nullptr;
  CHECK_ERROR(cudaGraphInstantiate(&executable, nullptr), cudaErrorInvalidValue);
  CHECK_ERROR(cudaGraphInstantiate(&executable, graph, 1), cudaErrorInvalidValue);
  CHECK_CUDA(cudaGraphInstantiate(&executable, graph));
  CHECK_CUDA(cudaGraphDestroy(graph));
  CHECK_CUDA(cudaGraphLaunch(executable, stream));  // of nothing
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  CHECK_ERROR(cudaGraphLaunch(executable, stream), cudaErrorStreamCaptureUnsupported);
  check_that_capture_is_lost(stream);
  CHECK_CUDA(cudaGraphExecDestroy(executable));
  CHECK_ERROR(cudaGraphExecDestroy(nullptr), cudaErrorInvalidValue);
  CHECK_ERROR(cudaGraphDestroy(nullptr), cudaErrorInvalidValue);
  CHECK_ERROR(cudaGraphLaunch(nullptr, stream), cudaErrorInvalidValue);
}

TEST(dependencies_do_not_cross_a_captures_border) {
  const TestStream stream, other, third;
  const TestEvent before, fork, join, of_third;
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaEventRecord(before, other));
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  CHECK_ERROR(cudaStreamWaitEvent(stream, before), cudaErrorStreamCaptureIsolation);
  check_that_capture_is_lost(stream);

  // Work that nothing of the first stream waits for.
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaEventRecord(fork, stream));
  CHECK_CUDA(cudaStreamWaitEvent(other, fork));
  CHECK_CUDA(cudaEventRecord(join, other));
  CHECK_CUDA(hostcuda::launch("forgotten", 1, 1, 0, other, [] {}));
  CHECK_CUDA(cudaStreamWaitEvent(stream, join));  // recorded before the work
  CHECK_ERROR(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
  CHECK(graph == nullptr);

  // By way of a third stream it is joined.
  const TestGraph joined(stream, [&] {
    CHECK_CUDA(cudaEventRecord(fork, stream));
    CHECK_CUDA(cudaStreamWaitEvent(other, fork));
    CHECK_CUDA(hostcuda::launch("first", 1, 1, 0, other, [] {}));
    CHECK_CUDA(cudaEventRecord(join, other));
    CHECK_CUDA(cudaStreamWaitEvent(third, join));
    CHECK_CUDA(hostcuda::launch("second", 1, 1, 0, third, [] {}));
    CHECK_CUDA(cudaEventRecord(of_third, third));
    CHECK_CUDA(cudaStreamWaitEvent(stream, of_third));
  });

  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaStreamBeginCapture(other, cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaEventRecord(fork, stream));
  CHECK_ERROR(cudaStreamWaitEvent(other, fork), cudaErrorStreamCaptureMerge);
  check_that_capture_is_lost(stream);
  check_that_capture_is_lost(other);
}

TEST(a_stream_that_is_destroyed_ends_its_capture) {
  const TestStream stream;
  const TestEvent fork;
  cudaStream_t other = nullptr, origin = nullptr;
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  CHECK_CUDA(cudaEventRecord(fork, stream));
  CHECK_CUDA(cudaStreamWaitEvent(other, fork));
  CHECK_CUDA(cudaStreamDestroy(other));
  CHECK_ERROR(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  CHECK_CUDA(cudaStreamCreateWithFlags(&origin, cudaStreamNonBlocking));
  CHECK_CUDA(cudaStreamBeginCapture(origin, cudaStreamCaptureModeGlobal));
  CHECK_CUDA(cudaStreamDestroy(origin));
  CHECK_CUDA(cudaDeviceSynchronize());  // no capture forbids it any more
}
