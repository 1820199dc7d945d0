#include "ptx/shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>

namespace ptx {

namespace {

// Which bytes of the word that `offset` lies in belong to the `count` bytes from there.
std::uint8_t bytes_in_word(std::uint64_t offset, std::size_t count) {
  const unsigned first = offset % kWordBytes;
  const auto in_word = static_cast<unsigned>(std::min<std::size_t>(count, kWordBytes - first));
  return static_cast<std::uint8_t>(((1u << in_word) - 1) << first);
}

}  // namespace

std::string Accessor::text() const {
  const std::string thread_text = thread() == kManyThreads ? "several threads" : "thread " + std::to_string(thread());
  return thread_text + " of block " + (block() == kManyBlocks ? "several" : std::to_string(block()));
}

// ---- a region ----

Region::Region(std::uintptr_t begin, std::size_t bytes) : begin(begin), bytes(bytes) {
  const std::size_t size = words() * (2 * sizeof(std::uint64_t) + 1);
  memory_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
  writers_ = static_cast<std::uint64_t*>(memory_);
  readers_ = writers_ + words();
  written_ = reinterpret_cast<std::uint8_t*>(readers_ + words());
}

Region::~Region() {
  munmap(memory_, words() * (2 * sizeof(std::uint64_t) + 1));
}

void Region::mark_written(std::uint64_t offset, std::size_t count) {
  while (count > 0) {
    std::uint8_t& word = written_[offset / kWordBytes];
    if (offset % kWordBytes == 0 && count >= kWordBytes) {
      const std::size_t words = count / kWordBytes;
      std::memset(&word, kWholeWord, words);
      offset += words * kWordBytes, count -= words * kWordBytes;
      continue;
    }
    const std::size_t step = std::min<std::size_t>(count, kWordBytes - offset % kWordBytes);
    std::atomic_ref(word).fetch_or(bytes_in_word(offset, count), std::memory_order_relaxed);
    offset += step, count -= step;
  }
}

void Region::copy_written(std::uint64_t offset, const Region& from, std::uint64_t from_offset, std::size_t count) {
  if (offset % kWordBytes == 0 && from_offset % kWordBytes == 0) {
    const std::size_t words = count / kWordBytes;
    std::memcpy(written_ + offset / kWordBytes, from.written_ + from_offset / kWordBytes, words);
    offset += words * kWordBytes, from_offset += words * kWordBytes, count -= words * kWordBytes;
  }
  for (; count > 0; ++offset, ++from_offset, --count) {
    const std::uint8_t bit = bytes_in_word(offset, 1);
    const std::atomic_ref word(written_[offset / kWordBytes]);
    if (from.is_written(from_offset, 1)) {
      word.fetch_or(bit, std::memory_order_relaxed);
    } else {
      word.fetch_and(static_cast<std::uint8_t>(~bit), std::memory_order_relaxed);
    }
  }
}

bool Region::is_written(std::uint64_t offset, std::size_t count) const {
  while (count > 0) {
    const std::uint8_t wanted = bytes_in_word(offset, count);
    if ((std::atomic_ref(written_[offset / kWordBytes]).load(std::memory_order_relaxed) & wanted) != wanted) {
      return false;
    }
    const std::size_t step = std::min<std::size_t>(count, kWordBytes - offset % kWordBytes);
    offset += step, count -= step;
  }
  return true;
}

// Each side stores its own name, if none that stands for it is there, before it looks for the other's, in one order for
// all cores: of two that race at the same time on two cores, at least one sees the other.
std::optional<Accessor> Region::note_read(std::uint64_t offset, Accessor reader) {
  const std::atomic_ref readers(readers_[offset / kWordBytes]);
  const Accessor before(readers.load());
  const Accessor both = reader.together_with(before);
  if (both.bits() != before.bits()) readers.store(both.bits());
  const Accessor writer(std::atomic_ref(writers_[offset / kWordBytes]).load());
  return reader.is_unordered_with(writer) ? std::optional(writer) : std::nullopt;
}

std::optional<Accessor> Region::note_write(std::uint64_t offset, Accessor writer) {
  const Accessor before(std::atomic_ref(writers_[offset / kWordBytes]).exchange(writer.bits()));
  if (writer.is_unordered_with(before)) return before;
  const Accessor reader(std::atomic_ref(readers_[offset / kWordBytes]).load());
  return writer.is_unordered_with(reader) ? std::optional(reader) : std::nullopt;
}

// ---- all regions ----

Shadow& Shadow::of_process() {
  static Shadow* const shadow = new Shadow;  // cores may still run when static objects are destroyed
  return *shadow;
}

void Shadow::allocated(const void* begin, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::unique_lock lock(mutex_);
  regions_[address] = std::make_shared<Region>(address, bytes);
  ++generation_;
}

void Shadow::freed(const void* begin) {
  const std::unique_lock lock(mutex_);
  regions_.erase(reinterpret_cast<std::uintptr_t>(begin));
  ++generation_;
}

void Shadow::filled(const void* to, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(to);
  if (const auto region = find(address)) region->mark_written(address - region->begin, bytes);
}

void Shadow::copied(const void* to, const void* from, std::size_t bytes) {
  const auto to_address = reinterpret_cast<std::uintptr_t>(to), from_address = reinterpret_cast<std::uintptr_t>(from);
  const auto to_region = find(to_address), from_region = find(from_address);
  if (!to_region) return;
  if (from_region) {
    to_region->copy_written(to_address - to_region->begin, *from_region, from_address - from_region->begin, bytes);
  } else {
    to_region->mark_written(to_address - to_region->begin, bytes);
  }
}

std::shared_ptr<Region> Shadow::find(std::uint64_t address) const {
  const std::shared_lock lock(mutex_);
  const auto after = regions_.upper_bound(address);
  if (after == regions_.begin()) return nullptr;
  const auto& region = std::prev(after)->second;
  return region->contains(address) ? region : nullptr;
}

std::string Shadow::nearest(std::uint64_t address) const {
  const std::shared_lock lock(mutex_);
  const auto after = regions_.upper_bound(address);
  std::string text;
  if (after != regions_.begin()) {
    const Region& before = *std::prev(after)->second;
    text = std::to_string(address - before.begin - before.bytes) + " bytes behind the end of an allocation of " +
           std::to_string(before.bytes) + " bytes";
  }
  if (after != regions_.end()) {
    text += (text.empty() ? "" : ", ") + std::to_string(after->second->begin - address) +
            " bytes before an allocation of " + std::to_string(after->second->bytes) + " bytes";
  }
  return text.empty() ? "no device memory is allocated" : text;
}

void RegionCache::refresh() {
  const std::uint64_t generation = Shadow::of_process().generation();
  if (generation == generation_) return;
  regions_ = {};
  generation_ = generation;
}

Region* RegionCache::find(std::uint64_t address) {
  for (const auto& region : regions_) {
    if (region && region->contains(address)) return region.get();
  }
  auto found = Shadow::of_process().find(address);
  if (!found) return nullptr;
  next_ = (next_ + 1) % regions_.size();
  regions_[next_] = std::move(found);
  return regions_[next_].get();
}

}  // namespace ptx
