// Copies and fills. Every copy is a box of rows; cores take pieces of it.
#include "runtime.h"

#include <algorithm>
#include <cstring>

namespace hostcuda {

namespace {

// What a core copies at once: some ten microseconds.
constexpr std::size_t kPieceBytes = 256 << 10;

// One side of a copy: rows of some width, `pitch` bytes apart, in slices `slice_pitch` bytes apart.
struct Side {
  std::byte* begin;
  std::size_t pitch, slice_pitch;
};

struct Box {
  std::size_t width, height, depth;  // bytes, rows, slices
  bool empty() const { return width == 0 || height == 0 || depth == 0; }

  // From the first to behind the last byte that one side of the copy touches.
  std::size_t extent(const Side& side) const {
    return (depth - 1) * side.slice_pitch + (height - 1) * side.pitch + width;
  }
};

// Items are pieces: as many whole rows as make kPieceBytes, or parts of one row.
struct CopyWork final : Work {
  CopyWork(Side to, Side from, Box box, MemoryObserver* observer)
      : Work(pieces_per_row(box) * ((box.height * box.depth + rows_per_piece(box) - 1) / rows_per_piece(box))),
        to(to),
        from(from),
        box(box),
        observer(observer) {}

  static std::size_t rows_per_piece(const Box& box) { return std::max<std::size_t>(1, kPieceBytes / box.width); }
  static std::size_t pieces_per_row(const Box& box) { return (box.width + kPieceBytes - 1) / kPieceBytes; }

  std::optional<Failure> run(Block&, std::uint64_t begin, std::uint64_t end) override {
    if (fails) return Failure{cudaErrorLaunchFailure, "the copy was chosen to fail"};
    for (std::uint64_t piece = begin; piece < end; ++piece) {
      const std::size_t offset = piece % pieces_per_row(box) * kPieceBytes;
      const std::size_t first = piece / pieces_per_row(box) * rows_per_piece(box);
      const std::size_t last = std::min(first + rows_per_piece(box), box.height * box.depth);
      for (std::size_t row = first; row < last; ++row) {
        const std::size_t bytes = std::min(kPieceBytes, box.width - offset);
        std::memmove(at(to, row) + offset, at(from, row) + offset, bytes);
        if (observer) observer->copied(at(to, row) + offset, at(from, row) + offset, bytes);
      }
    }
    return std::nullopt;
  }

  std::unique_ptr<Work> again(Runtime& runtime) const override {
    auto same = std::make_unique<CopyWork>(to, from, box, observer);
    same->fails = runtime.fails(Call::copy);
    return same;
  }

  std::byte* at(const Side& side, std::size_t row) const {
    return side.begin + row / box.height * side.slice_pitch + row % box.height * side.pitch;
  }

  // Reads the source now, into memory of its own, so that its owner may change it before the copy runs.
  void stage() {
    staged.resize(box.width * box.height * box.depth);
    for (std::size_t row = 0; row < box.height * box.depth; ++row) {
      std::memcpy(staged.data() + row * box.width, at(from, row), box.width);
    }
    from = {staged.data(), box.width, box.width * box.height};
  }

  const Side to;
  Side from;
  const Box box;
  MemoryObserver* const observer;
  std::vector<std::byte> staged;
  bool fails = false;  // as fail_call() chose
};

struct FillWork final : Work {
  FillWork(std::byte* begin, int value, std::size_t bytes, MemoryObserver* observer)
      : Work((bytes + kPieceBytes - 1) / kPieceBytes), begin(begin), value(value), bytes(bytes), observer(observer) {}

  std::optional<Failure> run(Block&, std::uint64_t first, std::uint64_t last) override {
    const std::size_t offset = first * kPieceBytes;
    const std::size_t piece = std::min(last * kPieceBytes, bytes) - offset;
    std::memset(begin + offset, value, piece);
    if (observer) observer->filled(begin + offset, piece);
    return std::nullopt;
  }

  std::unique_ptr<Work> again(Runtime&) const override {
    return std::make_unique<FillWork>(begin, value, bytes, observer);
  }

  std::byte* const begin;
  const int value;
  const std::size_t bytes;
  MemoryObserver* const observer;
};

enum class Place { pageable, pinned, device, out_of_range };

// Where the memory is; out_of_range if it begins in an allocation of ours and runs past its end.
Place place_of(Runtime& runtime, const void* begin, std::size_t bytes) {
  const auto found = runtime.find_allocation(begin);
  if (found == runtime.allocations.end()) return Place::pageable;
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(begin) - found->first;
  if (bytes > found->second.bytes - offset) return Place::out_of_range;
  return found->second.type == cudaMemoryTypeDevice ? Place::device : Place::pinned;
}

bool kind_fits(cudaMemcpyKind kind, Place to, Place from) {
  const bool to_device = to == Place::device, from_device = from == Place::device;
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    case cudaMemcpyDefault:
      return true;
  }
  return false;
}

cudaError_t copy(Runtime& runtime, Side to, Side from, Box box, cudaMemcpyKind kind, cudaStream_t stream, bool wait) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (box.empty()) return cudaSuccess;
  if (!to.begin || !from.begin) return cudaErrorInvalidValue;
  std::unique_lock lock(runtime.mutex);
  if (wait) {
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaMemcpy")) return error;
  }
  const Place to_place = place_of(runtime, to.begin, box.extent(to));
  const Place from_place = place_of(runtime, from.begin, box.extent(from));
  if (to_place == Place::out_of_range || from_place == Place::out_of_range) {
    return error_with_detail(cudaErrorInvalidValue, std::string("the copy runs past the end of the ") +
                                                        (to_place == Place::out_of_range ? "destination" : "source") +
                                                        "'s allocation");
  }
  if (!kind_fits(kind, to_place, from_place)) {
    return error_with_detail(cudaErrorInvalidValue, std::string("the copy's kind does not fit: the destination is ") +
                                                        (to_place == Place::device ? "device" : "host") +
                                                        " memory, the source " +
                                                        (from_place == Place::device ? "device" : "host") + " memory");
  }
  const auto target = stream_of(runtime, stream);
  const bool pageable = to_place == Place::pageable || from_place == Place::pageable;
  const bool on_device = to_place == Place::device || from_place == Place::device;
  // CUDA may let the host go on, once it has read what lies in the host's memory.
  const bool goes_on = !wait && (!pageable || (on_device && runtime.schedule.shuffle_streams));
  auto work = std::make_unique<CopyWork>(to, from, box, runtime.configuration.memory_observer);
  if (target->capture) return runtime.submit(*target, std::move(work));
  work->fails = runtime.fails(Call::copy);
  if (goes_on && from_place == Place::pageable) work->stage();
  const cudaError_t error = runtime.submit(*target, std::move(work));
  if (goes_on || error) return error;
  runtime.wait_for(lock, *target);
  return runtime.report(lock, target->device);
}

Side side(const void* begin, std::size_t pitch, std::size_t slice_pitch) {
  return {static_cast<std::byte*>(const_cast<void*>(begin)), pitch, slice_pitch};
}

cudaError_t copy_bytes(Runtime& runtime, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                       cudaStream_t stream, bool wait) {
  return copy(runtime, side(to, bytes, bytes), side(from, bytes, bytes), {bytes, 1, 1}, kind, stream, wait);
}

}  // namespace

}  // namespace hostcuda

using namespace hostcuda;

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return api_call([&](Runtime& runtime) { return copy_bytes(runtime, to, from, bytes, kind, nullptr, true); });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return api_call([&](Runtime& runtime) { return copy_bytes(runtime, to, from, bytes, kind, stream, false); });
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
    return copy(runtime, side(to, to_pitch, 0), side(from, from_pitch, 0), {width, height, 1}, kind, stream, false);
  });
}

cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, std::size_t bytes,
                                cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    if (!runtime.has_device(to_device) || !runtime.has_device(from_device)) return cudaErrorInvalidDevice;
    return copy_bytes(runtime, to, from, bytes, cudaMemcpyDeviceToDevice, stream, false);
  });
}

cudaError_t cudaMemcpy3DPeerAsync(const cudaMemcpy3DPeerParms* p, cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    if (!p || p->srcArray || p->dstArray) return cudaErrorInvalidValue;
    if (!runtime.has_device(p->srcDevice) || !runtime.has_device(p->dstDevice)) return cudaErrorInvalidDevice;
    const auto side_of = [](const cudaPitchedPtr& memory, const cudaPos& position) {
      const std::size_t slice = memory.pitch * memory.ysize;
      const std::size_t offset = position.z * slice + position.y * memory.pitch + position.x;
      return Side{static_cast<std::byte*>(memory.ptr) + offset, memory.pitch, slice};
    };
    const cudaExtent extent = p->extent;
    if (extent.width + p->dstPos.x > p->dstPtr.pitch || extent.width + p->srcPos.x > p->srcPtr.pitch) {
      return cudaErrorInvalidPitchValue;
    }
    if (!p->dstPtr.ptr || !p->srcPtr.ptr) return cudaErrorInvalidValue;
    return copy(runtime, side_of(p->dstPtr, p->dstPos), side_of(p->srcPtr, p->srcPos),
                {extent.width, extent.height, extent.depth}, cudaMemcpyDeviceToDevice, stream, false);
  });
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    if (bytes == 0) return cudaSuccess;
    const std::lock_guard lock(runtime.mutex);
    const Place place = place_of(runtime, pointer, bytes);
    if (place != Place::device && place != Place::pinned) return cudaErrorInvalidValue;
    return runtime.submit(*stream_of(runtime, stream),
                          std::make_unique<FillWork>(static_cast<std::byte*>(pointer), value, bytes,
                                                     runtime.configuration.memory_observer));
  });
}
