#include "exchange/exchange.h"

#include <algorithm>

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
    : source(source),
      destination(destination),
      source_copies(source.device),
      destination_copies(destination.device),
      source_ready(source.device),
      destination_ready(destination.device),
      copied(destination.device) {
  require(source.device != destination.device, "a link needs two devices; both streams are on device ", source.device);
  has_peer_access = peer_access && enable_peer_access(destination.device, source.device);
  for (int chunk = 0; chunk < kChunks; ++chunk) staged.push_back(std::make_unique<Event>(source.device));
}

Link::~Link() {
  // Copies in flight still use the staging memory and the events.
  for (const Stream* stream : {&source_copies, &destination_copies}) {
    cudaSetDevice(stream->device);
    cudaStreamSynchronize(stream->on());
  }
}

void Link::start(const Array& to, const Array& from) {
  require(!in_flight, "the link's last transfer is not finished: call finish() first");
  require(to.shape == from.shape && to.dtype == from.dtype, "the arrays differ: shape ", shape_text(to.shape), " of ",
          dtype_name(to.dtype), " and ", shape_text(from.shape), " of ", dtype_name(from.dtype));
  source.on(from);
  destination.on(to);
  const Array::Rows to_rows = to.rows("to"), from_rows = from.rows("from");
  const size_t item = item_bytes(to.dtype);
  const Block2d block{.to = static_cast<char*>(to.data),
                      .from = static_cast<const char*>(from.data),
                      .to_pitch = to_rows.pitch * item,
                      .from_pitch = from_rows.pitch * item,
                      .row_bytes = to_rows.columns * item,
                      .rows = static_cast<size_t>(to_rows.rows)};

  source.record(source_ready);
  destination.record(destination_ready);
  destination_copies.wait(destination_ready);
  if (has_peer_access) {
    destination_copies.wait(source_ready);
    copy_direct(block);
  } else {
    source_copies.wait(source_ready);
    copy_staged(block);
  }
  destination_copies.record(copied);
  in_flight = true;
}

void Link::finish() {
  require(in_flight, "the link has no transfer to finish");
  source.wait(copied);
  destination.wait(copied);
  in_flight = false;
}

void Link::copy_direct(const Block2d& block) {
  cudaMemcpy3DPeerParms parameters{};
  parameters.srcDevice = source.device;
  parameters.srcPtr = pitched(block.from, block.from_pitch, block.row_bytes, block.rows);
  parameters.dstDevice = destination.device;
  parameters.dstPtr = pitched(block.to, block.to_pitch, block.row_bytes, block.rows);
  parameters.extent = make_cudaExtent(block.row_bytes, block.rows, 1);
  PYALEXNET_CHECK_CUDA(cudaMemcpy3DPeerAsync(&parameters, destination_copies.on()));
}

void Link::copy_staged(const Block2d& block) {
  reserve_staging(block.row_bytes * block.rows);
  char* const stage = static_cast<char*>(staging.get());
  const size_t chunk_rows = (block.rows + kChunks - 1) / kChunks;
  // The last transfer's second leg must have left the staging memory before the first leg fills it again.
  source_copies.wait(copied);
  for (size_t chunk = 0, row = 0; row < block.rows; ++chunk, row += chunk_rows) {
    const size_t rows = std::min(chunk_rows, block.rows - row);
    char* const place = stage + row * block.row_bytes;
    PYALEXNET_CHECK_CUDA(cudaMemcpy2DAsync(place, block.row_bytes, block.from + row * block.from_pitch,
                                           block.from_pitch, block.row_bytes, rows, cudaMemcpyDeviceToHost,
                                           source_copies.on()));
    source_copies.record(*staged[chunk]);
    destination_copies.wait(*staged[chunk]);
    PYALEXNET_CHECK_CUDA(cudaMemcpy2DAsync(block.to + row * block.to_pitch, block.to_pitch, place, block.row_bytes,
                                           block.row_bytes, rows, cudaMemcpyHostToDevice, destination_copies.on()));
  }
}

void Link::reserve_staging(size_t bytes) {
  if (bytes <= staging_bytes) return;
  destination_copies.synchronize();  // the memory to be replaced may still be read
  PYALEXNET_CHECK_CUDA(cudaSetDevice(source.device));
  staging = pinned_memory(static_cast<int64_t>(bytes));
  staging_bytes = bytes;
}

}  // namespace pyalexnet
