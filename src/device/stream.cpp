#include "device/stream.h"

namespace pyalexnet {

Event::Event(int device) : device(device) {
  PYALEXNET_CHECK_CUDA(cudaSetDevice(device));
  PYALEXNET_CHECK_CUDA(cudaEventCreateWithFlags(&handle, cudaEventDefault));
}

Event::~Event() {
  cudaSetDevice(device);
  cudaEventDestroy(handle);
}

void Event::synchronize() const {
  PYALEXNET_CHECK_CUDA(cudaSetDevice(device));
  PYALEXNET_CHECK_CUDA(cudaEventSynchronize(handle));
}

float Event::elapsed_ms_since(const Event& start) const {
  float elapsed_ms = 0.0f;
  PYALEXNET_CHECK_CUDA(cudaEventElapsedTime(&elapsed_ms, start.handle, handle));
  return elapsed_ms;
}

Stream::Stream(int device) : device(device) {
  select_device();
  PYALEXNET_CHECK_CUDA(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking));
}

Stream::~Stream() {
  cudaSetDevice(device);
  cudaStreamDestroy(handle);
}

void Stream::record(const Event& event) const {
  require(event.device == device, "event is of device ", event.device, "; the stream that records it is of device ",
          device);
  select_device();
  PYALEXNET_CHECK_CUDA(cudaEventRecord(event.handle, handle));
}

void Stream::wait(const Event& event) const {
  select_device();
  PYALEXNET_CHECK_CUDA(cudaStreamWaitEvent(handle, event.handle, 0));
}

void Stream::synchronize() const {
  select_device();
  PYALEXNET_CHECK_CUDA(cudaStreamSynchronize(handle));
}

void Stream::require_here(const Array& array) const {
  require(array.device == device, "an array of shape ", shape_text(array.shape), " is on device ", array.device,
          "; the stream is on device ", device);
}

void Stream::select_device() const {
  PYALEXNET_CHECK_CUDA(cudaSetDevice(device));
}

void copy(const Array& dst, const Array& src, const Stream& stream) {
  require(dst.dtype == src.dtype, "copy: src has dtype ", dtype_name(src.dtype), "; dst has ", dtype_name(dst.dtype));
  require(dst.shape == src.shape, "copy: src has shape ", shape_text(src.shape), "; dst has ", shape_text(dst.shape));
  for (const Array* array : {&dst, &src}) {
    require(array->device == kHost || array->device == stream.device, "copy: an array is on device ", array->device,
            "; the stream is on device ", stream.device);
  }
  const int64_t item = item_bytes(dst.dtype);
  const cudaStream_t handle = stream.on();
  if (dst.contiguous() && src.contiguous()) {
    PYALEXNET_CHECK_CUDA(cudaMemcpyAsync(dst.data, src.data, dst.size() * item, cudaMemcpyDefault, handle));
    return;
  }
  // Trailing axes that are contiguous in both make up one run; the axes before it are rows at one pitch.
  const auto with_runs = [&](Array array, int64_t run, size_t axes) {
    array.shape.resize(axes), array.strides.resize(axes);
    array.shape.push_back(run), array.strides.push_back(1);
    return array;
  };
  int64_t run = 1;
  size_t axes = dst.shape.size();
  while (axes > 0 && dst.strides[axes - 1] == run && src.strides[axes - 1] == run) run *= dst.shape[--axes];
  const Array::Rows to = with_runs(dst, run, axes).rows("dst"), from = with_runs(src, run, axes).rows("src");
  PYALEXNET_CHECK_CUDA(cudaMemcpy2DAsync(dst.data, to.pitch * item, src.data, from.pitch * item, run * item, to.rows,
                                         cudaMemcpyDefault, handle));
}

}  // namespace pyalexnet
