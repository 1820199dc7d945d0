// Streams and events as Python objects. Both know their device and select it before each call.
#pragma once

#include "device/array.h"

namespace pyalexnet {

class Event {
 public:
  explicit Event(int device);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void synchronize() const;
  // Milliseconds from `start` to this event; both must be complete. Throws CudaError otherwise.
  float elapsed_ms_since(const Event& start) const;

  const int device;
  cudaEvent_t handle = nullptr;
};

class Stream {
 public:
  explicit Stream(int device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Makes the stream's device current on this thread and gives the handle that launchers take. Throws
  // std::invalid_argument when one of `arrays` lies on another device.
  template <class... Arrays>
  cudaStream_t on(const Arrays&... arrays) const {
    (require_here(arrays), ...);
    select_device();
    return handle;
  }

  void record(const Event& event) const;
  void wait(const Event& event) const;
  void synchronize() const;

  const int device;

 private:
  void require_here(const Array& array) const;
  void select_device() const;

  cudaStream_t handle = nullptr;
};

// Copies src to dst in stream order; each in host memory or on the stream's device, same dtype and shape.
// Host memory must stay untouched until the stream is synchronised. Rows may lie apart from each other in
// either.
void copy(const Array& dst, const Array& src, const Stream& stream);

}  // namespace pyalexnet
