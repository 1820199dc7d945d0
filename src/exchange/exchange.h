// The exchange between two devices, or two streams of one: how one tower's activations and gradients reach the other.
//
// A Link carries arrays one way, from a source device to a destination device. It is used in pairs of calls:
//
//   start(to, from)   the data in `from` is complete once the source's compute stream gets here; begin to copy it
//   finish()          work queued from here on, on either compute stream, may touch `to` and `from` again
//
// What is ordered, and by which event:
//   1. start records `source_ready_` on the source's compute stream (the writer of `from` comes before it) and
//      `destination_ready_` on the destination's (earlier readers of `to` come before it). The link's own copy
//      streams wait for both, so the copy reads finished data and overwrites nothing that is still being read.
//   2. The copy runs on copy streams: compute that is queued on either device after start runs beside it.
//   3. The copy streams record `copied_`; finish makes both compute streams wait for it, so that readers of `to`
//      see the whole copy and writers of `from` do not overtake it. Nor does the next transfer, whose start comes
//      after finish on both streams.
//
// Where the destination may access the source's memory (peer access), or both are one device, the copy is one
// device-to-device copy. Where that is refused, it is staged: rows go to pinned host memory on a stream of the source's
// device and from there on a stream of the destination's, in a few chunks so that both legs run at once. Both move the
// same bytes, so the bits that arrive are the same.
//
// Everything is ordered by events on the devices: the host waits only where staging memory grows and where a link ends. So
// transfers can be captured (device/graph.h), once the staging memory has its size.
#pragma once

#include <vector>

#include "device/stream.h"

namespace pyalexnet {

class Link {
 public:
  // `source` and `destination` are two compute streams, of two devices of this target or of one; both must outlive the
  // link. `peer_access` false never asks for it. Throws CudaError when a stream cannot be made.
  Link(const Stream& source, const Stream& destination, bool peer_access);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // `to` on the destination, `from` on the source: same shape, rows of the last axis at any pitch. Throws
  // std::invalid_argument when a transfer is still unfinished.
  void start(const Array& to, const Array& from);
  void finish();

  // Whether copies go straight from device to device.
  bool peer() const { return has_peer_access_; }

 private:
  struct Block2d;  // rows of bytes in each array
  void copy_direct(const Block2d& block);
  void copy_staged(const Block2d& block);
  void reserve_staging(size_t bytes);

  static constexpr int kChunks = 4;

  const Stream& source_;
  const Stream& destination_;
  bool has_peer_access_ = false;
  bool in_flight_ = false;
  Stream source_copies_, destination_copies_;
  Event source_ready_, destination_ready_, copied_;
  std::vector<std::unique_ptr<Event>> staged_;  // one a chunk, on the source's device
  std::shared_ptr<void> staging_;               // pinned host memory
  size_t staging_bytes_ = 0;
};

}  // namespace pyalexnet
