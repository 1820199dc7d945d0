// A sequence of launches and copies that is queued once and executed as often as it is launched, on one device or two.
//
// One graph spans all devices: what one waits for from the other is an edge in it. Graphs of their own would have to meet
// by events that are recorded in one and waited for in another, in the order in which the host launches them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "device/stream.h"

namespace pyalexnet {

class Graph {
 public:
  // Captures what work() queues on the streams, and on those that wait for events of these and are waited for again;
  // nothing of it is executed. Neither the streams nor the memory of the work's arrays are kept: both must be there at
  // each launch. Throws CudaError where something cannot be captured, and passes on what work() throws; the streams are
  // as before then.
  //
  // The capture is a relaxed one: what else the thread does meanwhile, such as freeing memory that a garbage collector
  // finds, does not disturb it.
  Graph(const std::vector<const Stream*>& streams, const std::function<void()>& work);
  // Waits until the last launch is over.
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Asynchronous, and in order with whatever else is queued on the streams.
  void launch() const;

  // Where the calling thread is capturing, lets memory live as long as the graph.
  static void keep(const std::shared_ptr<void>& memory);

 private:
  void fork() const;
  void join() const;

  const std::vector<const Stream*> streams_;
  std::unique_ptr<Event> forked_;
  std::vector<std::unique_ptr<Event>> joined_;  // of the streams behind the first
  std::vector<std::shared_ptr<void>> kept_;
  cudaGraphExec_t handle_ = nullptr;
};

}  // namespace pyalexnet
