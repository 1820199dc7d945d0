#include "exchange/exchange.h"

#include <algorithm>

#include "device/graph.h"

namespace pyalexnet {

struct Link::Block2d {
  char* to;
  const char* from;
  size_t to_pitch, from_pitch, row_bytes, rows;  // pitches in bytes
};

namespace {

// Lets `device` reach `peer`'s memory. False where the hardware or its driver refuses.
bool enable_peer_access(int device, int peer) {
  int can_access = 0;
  PYALEXNET_CHECK_CUDA(cudaDeviceCanAccessPeer(&can_access, device, peer));
  if (!can_access) return false;
  PYALEXNET_CHECK_CUDA(cudaSetDevice(device));
  const cudaError_t code = cudaDeviceEnablePeerAccess(peer, 0);
  if (code == cudaErrorPeerAccessAlreadyEnabled) {
    cudaGetLastError();
    return true;
  }
  PYALEXNET_CHECK_CUDA(code);
  return true;
}

cudaPitchedPtr pitched(const char* data, size_t pitch, size_t row_bytes, size_t rows) {
  return make_cudaPitchedPtr(const_cast<char*>(data), pitch, row_bytes, rows);
}

}  // namespace

Link::Link(const Stream& source, const Stream& destination, bool peer_access)
    : source_(source),
      destination_(destination),
      source_copies_(source.device),
      destination_copies_(destination.device),
      source_ready_(source.device),
      destination_ready_(destination.device),
      copied_(destination.device) {
  has_peer_access_ =
      source.device == destination.device || (peer_access && enable_peer_access(destination.device, source.device));
  for (int chunk = 0; chunk < kChunks; ++chunk) staged_.push_back(std::make_unique<Event>(source.device));
}

Link::~Link() {
  // Copies in flight still use the staging memory and the events.
  for (const Stream* stream : {&source_copies_, &destination_copies_}) {
    cudaSetDevice(stream->device);
    cudaStreamSynchronize(stream->on());
  }
}

void Link::start(const Array& to, const Array& from) {
  require(!in_flight_, "the link's last transfer is not finished: call finish() first");
  require(to.shape == from.shape && to.dtype == from.dtype, "the arrays differ: shape ", shape_text(to.shape), " of ",
          dtype_name(to.dtype), " and ", shape_text(from.shape), " of ", dtype_name(from.dtype));
  source_.on(from);
  destination_.on(to);
  const Array::Rows to_rows = to.rows("to"), from_rows = from.rows("from");
  const size_t item = item_bytes(to.dtype);
  const Block2d block{.to = static_cast<char*>(to.data),
                      .from = static_cast<const char*>(from.data),
                      .to_pitch = to_rows.pitch * item,
                      .from_pitch = from_rows.pitch * item,
                      .row_bytes = to_rows.columns * item,
                      .rows = static_cast<size_t>(to_rows.rows)};

  source_.record(source_ready_);
  destination_.record(destination_ready_);
  destination_copies_.wait(destination_ready_);
  if (has_peer_access_) {
    destination_copies_.wait(source_ready_);
    copy_direct(block);
  } else {
    source_copies_.wait(source_ready_);
    copy_staged(block);
  }
  destination_copies_.record(copied_);
  in_flight_ = true;
}

void Link::finish() {
  require(in_flight_, "the link has no transfer to finish");
  in_flight_ = false;
  source_.wait(copied_);
  destination_.wait(copied_);
}

void Link::copy_direct(const Block2d& block) {
  cudaMemcpy3DPeerParms parameters{};
  parameters.srcDevice = source_.device;
  parameters.srcPtr = pitched(block.from, block.from_pitch, block.row_bytes, block.rows);
  parameters.dstDevice = destination_.device;
  parameters.dstPtr = pitched(block.to, block.to_pitch, block.row_bytes, block.rows);
  parameters.extent = make_cudaExtent(block.row_bytes, block.rows, 1);
  PYALEXNET_CHECK_CUDA(cudaMemcpy3DPeerAsync(&parameters, destination_copies_.on()));
}

void Link::copy_staged(const Block2d& block) {
  reserve_staging(block.row_bytes * block.rows);
  Graph::keep(staging_);
  char* const stage = static_cast<char*>(staging_.get());
  const size_t chunk_rows = (block.rows + kChunks - 1) / kChunks;
  for (size_t chunk = 0, row = 0; row < block.rows; ++chunk, row += chunk_rows) {
    const size_t rows = std::min(chunk_rows, block.rows - row);
    char* const place = stage + row * block.row_bytes;
    PYALEXNET_CHECK_CUDA(cudaMemcpy2DAsync(place, block.row_bytes, block.from + row * block.from_pitch,
                                           block.from_pitch, block.row_bytes, rows, cudaMemcpyDeviceToHost,
                                           source_copies_.on()));
    source_copies_.record(*staged_[chunk]);
    destination_copies_.wait(*staged_[chunk]);
    PYALEXNET_CHECK_CUDA(cudaMemcpy2DAsync(block.to + row * block.to_pitch, block.to_pitch, place, block.row_bytes,
                                           block.row_bytes, rows, cudaMemcpyHostToDevice, destination_copies_.on()));
  }
}

void Link::reserve_staging(size_t bytes) {
  if (bytes <= staging_bytes_) return;
  destination_copies_.synchronize();  // the memory to be replaced may still be read
  PYALEXNET_CHECK_CUDA(cudaSetDevice(source_.device));
  staging_ = pinned_memory(static_cast<int64_t>(bytes));
  staging_bytes_ = bytes;
}

}  // namespace pyalexnet
