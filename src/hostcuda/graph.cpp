// Captures and graphs.
//
// A captured operation is kept as it was queued, with the number of its stream. A replay queues all of them anew, on
// streams of the graph's own: work is made again, records are new ones. So what is in order in the capture, by streams
// and events, is in order in each replay, and nothing else is. The graph's streams begin when the launching stream gets
// there, and that one goes on when the first of them has ended, which comes after all others: a capture that is not so
// joined is refused.
#include "runtime.h"

#include <algorithm>
#include <utility>

namespace hostcuda {

namespace {

template <class T>
T* as(Operation& operation) {
  return std::get_if<T>(&operation);
}

// What a replay executes of a captured operation, with records of its own.
Operation replayed(Runtime& runtime, const Operation& captured,
                   std::map<const Record*, std::shared_ptr<Record>>& records) {
  if (const auto* work = std::get_if<std::unique_ptr<Work>>(&captured)) return (*work)->again(runtime);
  if (const auto* record = std::get_if<RecordEvent>(&captured)) {
    return RecordEvent{records[record->record.get()] = std::make_shared<Record>()};
  }
  return WaitEvent{records.at(std::get<WaitEvent>(captured).record.get())};
}

}  // namespace

// ---- capturing ----

cudaError_t Runtime::submit(Stream& stream, Operation operation) {
  if (const auto* wait = as<WaitEvent>(operation)) {
    if (const cudaError_t error = join_capture(stream, *wait)) return error;
  }
  if (!stream.capture) {
    queue(stream, std::move(operation));
  } else if (stream.capture->invalid) {
    return cudaErrorStreamCaptureInvalidated;
  } else {
    capture(stream, std::move(operation));
  }
  return cudaSuccess;
}

// A stream that waits for a captured record is captured from then on.
cudaError_t Runtime::join_capture(Stream& stream, const WaitEvent& wait) {
  const auto& record = wait.record;
  if (!record || !record->captured) {
    if (!stream.capture || !record) return cudaSuccess;
    return invalidated(*stream.capture, cudaErrorStreamCaptureIsolation,
                       "a capturing stream was to wait for an event outside of its capture");
  }
  const std::shared_ptr<Capture> joined = record->capture.lock();
  if (!joined) return error_with_detail(cudaErrorCapturedEvent, "the capture that recorded the event has ended");
  if (stream.capture && stream.capture != joined) {
    invalidated(*joined, cudaErrorStreamCaptureMerge, "");
    return invalidated(*stream.capture, cudaErrorStreamCaptureMerge, "the event is of another capture");
  }
  if (!stream.capture) {
    stream.capture = joined;
    stream.number_in_capture = joined->streams.size();
    joined->streams.push_back(stream.shared_from_this());
    joined->seen.emplace_back();
  }
  return cudaSuccess;
}

void Runtime::capture(Stream& stream, Operation operation) {
  Capture& capture = *stream.capture;
  const std::size_t number = stream.number_in_capture;
  std::vector<std::size_t>& seen = capture.seen[number];
  seen.resize(capture.streams.size());
  if (const auto* wait = as<WaitEvent>(operation)) {
    if (!wait->record) return;
    const std::vector<std::size_t>& before = wait->record->seen;
    for (std::size_t i = 0; i < before.size(); ++i) seen[i] = std::max(seen[i], before[i]);
  } else if (const auto* record = as<RecordEvent>(operation)) {
    record->record->captured = true;
    record->record->capture = stream.capture;
    record->record->seen = seen;
  } else {
    ++seen[number];
  }
  capture.operations.push_back({number, std::move(operation)});
}

cudaError_t Runtime::begin_capture(Stream& stream, cudaStreamCaptureMode mode) {
  if (stream.capture) return error_with_detail(cudaErrorIllegalState, "the stream is capturing already");
  stream.capture = std::make_shared<Capture>(Capture{.mode = mode,
                                                     .thread = std::this_thread::get_id(),
                                                     .streams = {stream.shared_from_this()},
                                                     .operations = {},
                                                     .seen = {{}}});
  stream.number_in_capture = 0;
  captures.push_back(stream.capture);
  return cudaSuccess;
}

cudaError_t Runtime::end_capture(Stream& stream, std::shared_ptr<const Graph>& graph) {
  const std::shared_ptr<Capture> ended = stream.capture;
  if (!ended) return error_with_detail(cudaErrorIllegalState, "the stream is not capturing");
  if (ended->streams.front().get() != &stream) {
    return invalidated(*ended, cudaErrorStreamCaptureUnmatched, "the capture began on another stream");
  }
  if (ended->mode != cudaStreamCaptureModeRelaxed && ended->thread != std::this_thread::get_id()) {
    return invalidated(*ended, cudaErrorStreamCaptureWrongThread, "another thread began the capture");
  }
  for (const auto& captured : ended->streams) captured->capture = nullptr;
  std::erase(captures, ended);
  if (ended->invalid) return cudaErrorStreamCaptureInvalidated;
  std::vector<std::size_t>& joined = ended->seen.front();
  joined.resize(ended->streams.size());
  for (std::size_t i = 1; i < ended->seen.size(); ++i) {
    if (!ended->seen[i].empty() && ended->seen[i][i] > joined[i]) {
      return error_with_detail(cudaErrorStreamCaptureUnjoined,
                               "work of a stream of device " + std::to_string(ended->streams[i]->device.id) +
                                   " comes before nothing of the stream that began the capture");
    }
  }
  auto found = std::make_shared<Graph>();
  for (const auto& captured : ended->streams) found->devices.push_back(&captured->device);
  found->operations = std::move(ended->operations);
  graph = std::move(found);
  return cudaSuccess;
}

// ---- what a capture forbids ----

cudaError_t Runtime::invalidated(Capture& capture, cudaError_t error, const std::string& detail) {
  capture.invalid = true;
  return error_with_detail(error, detail);
}

// Of a stream that its owner destroys.
void Runtime::invalidate_capture(Stream& stream) {
  const std::shared_ptr<Capture> capture = stream.capture;
  if (!capture) return;
  capture->invalid = true;
  if (capture->streams.front().get() != &stream) return;
  for (const auto& captured : capture->streams) captured->capture = nullptr;
  std::erase(captures, capture);
}

cudaError_t Runtime::refuse_while_capturing(const char* call) {
  cudaError_t error = cudaSuccess;
  for (const auto& capture : captures) {
    const bool forbids =
        capture->mode == cudaStreamCaptureModeGlobal ||
        (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread == std::this_thread::get_id());
    if (forbids) {
      error = invalidated(*capture, cudaErrorStreamCaptureUnsupported, std::string(call) + " while a stream captures");
    }
  }
  return error;
}

cudaError_t Runtime::refuse_waiting_for(Stream& stream) {
  if (!stream.capture) return cudaSuccess;
  return invalidated(*stream.capture, cudaErrorStreamCaptureUnsupported, "the stream is capturing");
}

cudaError_t Runtime::refuse_waiting_for(const Device& device) {
  for (const auto& stream : device.streams) {
    if (const cudaError_t error = refuse_waiting_for(*stream)) return error;
  }
  return cudaSuccess;
}

// ---- replaying ----

cudaError_t Runtime::replay(const Graph& graph, const std::vector<std::shared_ptr<Stream>>& streams, Stream& stream) {
  if (stream.capture) {
    return invalidated(*stream.capture, cudaErrorStreamCaptureUnsupported, "a graph's launch cannot be captured");
  }
  std::map<const Record*, std::shared_ptr<Record>> records;
  std::vector<Operation> operations;
  operations.reserve(graph.operations.size());
  for (const auto& captured : graph.operations) operations.push_back(replayed(*this, captured.operation, records));

  const auto begun = std::make_shared<Record>(), ended = std::make_shared<Record>();
  queue(stream, RecordEvent{begun});
  queue(*streams.front(), WaitEvent{begun});
  for (std::size_t i = 0; i < operations.size(); ++i) {
    queue(*streams[graph.operations[i].stream], std::move(operations[i]));
  }
  queue(*streams.front(), RecordEvent{ended});
  queue(stream, WaitEvent{ended});
  return cudaSuccess;
}

}  // namespace hostcuda

using namespace hostcuda;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return api_call([&](Runtime& runtime) {
    if (!stream) return error_with_detail(cudaErrorStreamCaptureUnsupported, "the default stream cannot capture");
    if (mode < cudaStreamCaptureModeGlobal || mode > cudaStreamCaptureModeRelaxed) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    return runtime.begin_capture(*stream->stream, mode);
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return api_call([&](Runtime& runtime) {
    if (!graph) return cudaErrorInvalidValue;
    *graph = nullptr;
    const std::lock_guard lock(runtime.mutex);
    std::shared_ptr<const Graph> captured;
    const cudaError_t error = runtime.end_capture(*stream_of(runtime, stream), captured);
    if (error == cudaSuccess) *graph = new CUgraph_st{std::move(captured)};
    return error;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  return api_call([&](Runtime& runtime) {
    if (!executable || !graph || flags != 0) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    auto made = std::make_unique<CUgraphExec_st>(CUgraphExec_st{graph->graph, {}});
    for (Device* device : graph->graph->devices) made->streams.push_back(std::make_shared<Stream>(*device));
    for (const auto& stream : made->streams) stream->device.streams.push_back(stream);
    *executable = made.release();
    return cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    if (!executable) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    return runtime.replay(*executable->graph, executable->streams, *stream_of(runtime, stream));
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return api_call([&](Runtime&) {
    if (!graph) return cudaErrorInvalidValue;
    delete graph;
    return cudaSuccess;
  });
}

// What has been launched goes on.
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return api_call([&](Runtime& runtime) {
    if (!executable) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    const std::unique_ptr<CUgraphExec_st> owner(executable);
    for (const auto& stream : executable->streams) {
      stream->destroyed = true;
      runtime.remove_if_idle(*stream);
    }
    return cudaSuccess;
  });
}
