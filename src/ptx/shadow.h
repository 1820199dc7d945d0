// What the interpreter knows of each word of device memory: which of its bytes were ever written, and which threads of
// the running kernel have written and read it.
//
// Two accesses of different threads to one word race if one of them writes and no barrier of their block lies between
// them. Accesses of less than four bytes are not looked at: neighbours in a word do not race.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>

#include "hostcuda.h"

namespace ptx {

inline constexpr unsigned kWordBytes = 4;
inline constexpr std::uint8_t kWholeWord = 0b1111;  // a bit for each of its bytes

// Who accesses, in one number: the launch, the block, the thread and how many barriers it has passed.
class Accessor {
 public:
  Accessor(std::uint64_t launch, std::uint64_t block, unsigned barriers, unsigned thread)
      : bits_((launch << 40) | (block % kManyBlocks << 21) | std::uint64_t{barriers % 1024} << 11 | thread) {}
  explicit Accessor(std::uint64_t bits) : bits_(bits) {}

  std::uint64_t bits() const { return bits_; }
  // Whether the other is of the same launch, is not this thread, and nothing puts the two in order.
  bool is_unordered_with(Accessor other) const {
    if (bits_ == other.bits_ || launch() != other.launch()) return false;
    if (block() != other.block()) return true;
    return phase() == other.phase() && (thread() != other.thread() || thread() == kManyThreads);
  }
  // One that stands for this one and an earlier one, of which no launch but this one's counts.
  Accessor together_with(Accessor other) const {
    if (bits_ == other.bits_ || launch() != other.launch()) return *this;
    if (block() != other.block()) return Accessor(launch(), kManyBlocks, 0, kManyThreads);
    return phase() == other.phase() ? Accessor(bits_ | kManyThreads) : *this;
  }
  std::string text() const;

 private:
  static constexpr std::uint64_t kManyThreads = (1 << 11) - 1, kManyBlocks = (1 << 19) - 1;
  Accessor(std::uint64_t launch, std::uint64_t block, std::uint64_t barriers, std::uint64_t thread)
      : bits_((launch << 40) | block << 21 | barriers << 11 | thread) {}
  std::uint64_t launch() const { return bits_ >> 40; }
  std::uint64_t block() const { return bits_ >> 21 & kManyBlocks; }
  std::uint64_t phase() const { return bits_ >> 11 & 1023; }
  std::uint64_t thread() const { return bits_ & kManyThreads; }

  std::uint64_t bits_;
};

// One allocation. Its memory is told apart by the byte's offset from `begin`.
class Region {
 public:
  Region(std::uintptr_t begin, std::size_t bytes);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  bool contains(std::uint64_t address) const { return address - begin < bytes; }

  void mark_written(std::uint64_t offset, std::size_t count);
  void copy_written(std::uint64_t offset, const Region& from, std::uint64_t from_offset, std::size_t count);
  bool is_written(std::uint64_t offset, std::size_t count) const;
  // The same for whole words.
  template <unsigned words>
  bool are_words_written(std::uint64_t offset) const {
    std::uint8_t missing = 0;
    for (unsigned word = 0; word < words; ++word) {
      const std::atomic_ref written(written_[offset / kWordBytes + word]);
      missing |= static_cast<std::uint8_t>(~written.load(std::memory_order_relaxed) & kWholeWord);
    }
    return missing == 0;
  }

  // The accessor with which this access races, if there is one.
  std::optional<Accessor> note_read(std::uint64_t offset, Accessor reader);
  std::optional<Accessor> note_write(std::uint64_t offset, Accessor writer);

  const std::uint64_t begin;
  const std::size_t bytes;

 private:
  std::size_t words() const { return bytes / kWordBytes + 2; }

  void* memory_;
  std::uint64_t *writers_, *readers_;
  std::uint8_t* written_;  // a bit for each byte of a word
};

// All device memory. hostcuda tells what is allocated, copied and filled.
class Shadow final : public hostcuda::MemoryObserver {
 public:
  static Shadow& of_process();

  void allocated(const void* begin, std::size_t bytes) override;
  void freed(const void* begin) override;
  void filled(const void* to, std::size_t bytes) override;
  void copied(const void* to, const void* from, std::size_t bytes) override;

  // The allocation that an address lies in, or null.
  std::shared_ptr<Region> find(std::uint64_t address) const;
  // Where an address that lies in none is: "16 bytes behind the end of an allocation of 64 bytes".
  std::string nearest(std::uint64_t address) const;
  // Grows whenever a region comes or goes.
  std::uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

 private:
  mutable std::shared_mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<Region>> regions_;
  std::atomic<std::uint64_t> generation_ = 1;
};

// The regions that a core has met last.
class RegionCache {
 public:
  // To be called when a block starts: memory may have been freed.
  void refresh();
  Region* find(std::uint64_t address);

 private:
  std::array<std::shared_ptr<Region>, 8> regions_;
  std::size_t next_ = 0;
  std::uint64_t generation_ = 0;
};

}  // namespace ptx
