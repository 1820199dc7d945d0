#include "device/graph.h"

namespace pyalexnet {

namespace {

thread_local std::vector<std::shared_ptr<void>>* kept_by_capture = nullptr;

// Ends a capture whatever happens, and destroys the graph that is left.
struct Captured {
  explicit Captured(const Stream& stream) : stream(stream) {
    PYALEXNET_CHECK_CUDA(cudaStreamBeginCapture(stream.on(), cudaStreamCaptureModeRelaxed));
    is_open = true;
  }
  ~Captured() {
    kept_by_capture = nullptr;
    if (is_open) cudaStreamEndCapture(stream.on(), &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
  }
  void end() {
    is_open = false;
    PYALEXNET_CHECK_CUDA(cudaStreamEndCapture(stream.on(), &graph));
  }

  const Stream& stream;
  bool is_open = false;
  cudaGraph_t graph = nullptr;
};

}  // namespace

Graph::Graph(const std::vector<const Stream*>& streams, const std::function<void()>& work) : streams_(streams) {
  require(!streams.empty(), "streams is empty; there must be at least one");
  forked_ = std::make_unique<Event>(streams_.front()->device);
  for (size_t i = 1; i < streams_.size(); ++i) joined_.push_back(std::make_unique<Event>(streams_[i]->device));
  Captured captured(*streams_.front());
  kept_by_capture = &kept_;
  fork();
  work();
  join();
  captured.end();
  PYALEXNET_CHECK_CUDA(cudaGraphInstantiate(&handle_, captured.graph, 0));
}

Graph::~Graph() {
  for (const Stream* stream : streams_) {
    cudaSetDevice(stream->device);
    cudaStreamSynchronize(stream->on());
  }
  cudaGraphExecDestroy(handle_);
}

void Graph::launch() const {
  join();
  PYALEXNET_CHECK_CUDA(cudaGraphLaunch(handle_, streams_.front()->on()));
  fork();
}

void Graph::keep(const std::shared_ptr<void>& memory) {
  if (kept_by_capture) kept_by_capture->push_back(memory);
}

// All streams go on from where the first one is.
void Graph::fork() const {
  if (joined_.empty()) return;
  streams_.front()->record(*forked_);
  for (size_t i = 1; i < streams_.size(); ++i) streams_[i]->wait(*forked_);
}

// The first stream goes on when all are done.
void Graph::join() const {
  for (size_t i = 1; i < streams_.size(); ++i) {
    streams_[i]->record(*joined_[i - 1]);
    streams_.front()->wait(*joined_[i - 1]);
  }
}

}  // namespace pyalexnet
