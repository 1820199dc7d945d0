// Loads, stores, shuffles, and what else is no function of one lane.
//
// A warp's access to whole words goes the fast way, which looks at all lanes before it touches a register. Where that
// finds something that may be wrong, and for all other accesses, each lane is looked at by itself, which tells what.
#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "ptx/executor.h"
#include "ptx/operations.h"

namespace ptx {

namespace {

// One lane's access.
struct Lane {
  Warp& warp;
  Space space;
  unsigned size;  // of the access, in bytes
  int number;
  bool is_store;
  std::uint64_t address;

  unsigned bytes() const { return size; }
  unsigned thread() const { return warp.index * kLanes + static_cast<unsigned>(number); }
  [[noreturn]] void fail(const std::string& what) const { warp.fail(number, what); }
  std::string action() const { return std::to_string(bytes()) + (is_store ? " bytes written" : " bytes read"); }
};

unsigned bytes_of(const Access& access) {
  return unsigned{access.elements} * access.element_bytes;
}

Addresses addresses_of(Warp& warp, const Instruction& instruction) {
  Addresses addresses;
  const auto offset = static_cast<std::uint64_t>(instruction.offset);
  const Slot slot = instruction.from[0];
  if (slot == kNoSlot) {
    addresses.fill(offset);
  } else if (instruction.access.wide_base) {
    const auto* bases = warp.lanes<std::uint64_t>(slot);
    for (std::size_t lane = 0; lane < kLanes; ++lane) addresses[lane] = bases[lane] + offset;
  } else {
    const auto* bases = warp.lanes<std::uint32_t>(slot);
    for (std::size_t lane = 0; lane < kLanes; ++lane) addresses[lane] = bases[lane] + offset;
  }
  return addresses;
}

void check_alignment(const Lane& lane, std::uint64_t address, const char* space) {
  if (address % lane.bytes() == 0) return;
  lane.fail(std::string("misaligned access to ") + space + " memory: " + lane.action() + " at an address that is " +
            std::to_string(address % lane.bytes()) + " bytes behind a multiple of " + std::to_string(lane.bytes()));
}

std::byte* in_global(const Lane& lane, std::uint64_t address) {
  check_alignment(lane, address, "global");
  Region* region = lane.warp.block->regions.find(address);
  if (!region) {
    lane.fail("out of bounds of global memory: " + lane.action() + ", " + Shadow::of_process().nearest(address));
  }
  const std::uint64_t offset = address - region->begin;
  const unsigned bytes = lane.bytes();
  if (bytes > region->bytes - offset) {
    lane.fail("out of bounds of global memory: " + lane.action() + " across the end of an allocation of " +
              std::to_string(region->bytes) + " bytes");
  }
  const auto place = [&] {
    return "byte " + std::to_string(offset) + " of an allocation of " + std::to_string(region->bytes) + " bytes";
  };
  if (lane.is_store) {
    region->mark_written(offset, bytes);
  } else if (!region->is_written(offset, bytes)) {
    lane.fail("global memory read that nothing has written: " + lane.action() + " at " + place());
  }
  const BlockState& block = *lane.warp.block;
  const Accessor accessor(block.launch_number, block.rank, block.barriers, lane.thread());
  for (unsigned byte = 0; byte + kWordBytes <= bytes; byte += kWordBytes) {
    const auto other =
        lane.is_store ? region->note_write(offset + byte, accessor) : region->note_read(offset + byte, accessor);
    if (other) lane.fail("race in global memory: " + lane.action() + " at " + place() + ", with " + other->text());
  }
  return reinterpret_cast<std::byte*>(address);
}

void note_shared_access(const Lane& lane, std::uint64_t offset) {
  BlockState& block = *lane.warp.block;
  const SharedAccess access(block.time, lane.thread());
  const auto check_order_with = [&](SharedAccess other) {
    if (other.time() != access.time() || other.thread() == access.thread()) return;
    const bool is_one = other.thread() != SharedAccess::kSeveralThreads;
    lane.fail("race in shared memory: " + lane.action() + " at byte " + std::to_string(offset) + ", with " +
              (is_one ? "thread " + std::to_string(other.thread()) : "several threads") + " of the block");
  };
  // A copy of a struct in one access takes along the padding, which nothing writes: one word that is written is enough.
  bool is_written = lane.is_store;
  for (std::uint64_t byte = 0; byte < lane.bytes(); byte += kWordBytes) {
    SharedAccess& writer = block.shared_writers[(offset + byte) / kWordBytes];
    SharedAccess& reader = block.shared_readers[(offset + byte) / kWordBytes];
    const bool is_checked = lane.bytes() >= kWordBytes;
    if (is_checked) check_order_with(writer);
    if (lane.is_store) {
      if (is_checked) check_order_with(reader);
      writer = access;
      continue;
    }
    is_written = is_written || writer.time() >= block.started_at;
    reader = access.together_with(reader);
  }
  if (!is_written) {
    lane.fail("shared memory read that nothing has written: " + lane.action() + " at byte " + std::to_string(offset));
  }
}

std::byte* in_shared(const Lane& lane, std::uint64_t offset) {
  check_alignment(lane, offset, "shared");
  const std::size_t size = lane.warp.block->launch->shared_bytes();
  if (offset > size || lane.bytes() > size - offset) {
    lane.fail("out of bounds of shared memory: " + lane.action() + " at byte " + std::to_string(offset) + " of " +
              std::to_string(size));
  }
  note_shared_access(lane, offset);
  return lane.warp.block->shared + offset;
}

std::byte* in_local(const Lane& lane, std::uint64_t offset) {
  check_alignment(lane, offset, "local");
  const unsigned size = lane.warp.block->launch->program->local_bytes;
  if (offset > size || lane.bytes() > size - offset) {
    lane.fail("out of bounds of local memory: " + lane.action() + " at byte " + std::to_string(offset) + " of " +
              std::to_string(size));
  }
  return lane.warp.local + static_cast<std::size_t>(lane.number) * size + offset;
}

std::byte* in_parameters(const Lane& lane, std::uint64_t offset) {
  const auto& parameters = lane.warp.block->launch->parameters;
  if (lane.is_store) lane.fail("a parameter is written");
  if (offset > parameters.size() || lane.bytes() > parameters.size() - offset) {
    lane.fail("out of bounds of the parameters: " + lane.action() + " at byte " + std::to_string(offset) + " of " +
              std::to_string(parameters.size()));
  }
  return const_cast<std::byte*>(parameters.data()) + offset;
}

// Where the lane's bytes lie, if it may touch them.
std::byte* place_of(const Lane& lane) {
  const std::uint64_t address = lane.address;
  switch (lane.space) {
    case Space::global:
      return in_global(lane, address);
    case Space::shared:
      return in_shared(lane, address);
    case Space::local:
      return in_local(lane, address);
    case Space::parameter:
      return in_parameters(lane, address);
    case Space::generic:
      break;
  }
  if (address >= kParameterWindow) return in_parameters(lane, address - kParameterWindow);
  if (address >= kLocalWindow) return in_local(lane, address - kLocalWindow);
  if (address >= kSharedWindow) return in_shared(lane, address - kSharedWindow);
  return in_global(lane, address);
}

// A value in memory as a register takes it: extended to 64 bits by its sign or by zeros.
std::uint64_t extended(const std::byte* from, unsigned bytes, bool is_signed) {
  std::uint64_t value = 0;
  std::memcpy(&value, from, bytes);
  const unsigned spare = 64 - 8 * bytes;
  return is_signed ? static_cast<std::uint64_t>(static_cast<std::int64_t>(value << spare) >> spare) : value;
}

template <class F>
void for_each(Mask active, F function) {
  for (; active != 0; active &= active - 1) function(std::countr_zero(active));
}

// Which counter an access belongs to, where there is one. All lanes of a generic access are taken to be in one space.
std::optional<Way> way_of(const Access& access, std::uint64_t address, bool is_store) {
  const bool is_generic = access.space == Space::generic;
  if (access.space == Space::global || (is_generic && address < kSharedWindow)) {
    return is_store ? Way::global_store : Way::global_load;
  }
  if (access.space == Space::shared || (is_generic && address < kLocalWindow)) {
    return is_store ? Way::shared_store : Way::shared_load;
  }
  return std::nullopt;
}

void count(Warp& warp, const Access& access, const Addresses& addresses, Mask active, bool is_store) {
  Traffic* const traffic = warp.block->launch->traffic.get();
  if (!traffic) return;
  const auto way = way_of(access, addresses[static_cast<std::size_t>(std::countr_zero(active))], is_store);
  if (way) traffic->add(*way, addresses, active, bytes_of(access));
}

// The active lanes that have another address than the lane before them, or whose lane before them is not active.
Mask starts_of_runs(const Addresses& addresses, Mask active) {
  Mask starts = 1;
  for (std::size_t lane = 1; lane < kLanes; ++lane) starts |= Mask{addresses[lane] != addresses[lane - 1]} << lane;
  return active & (starts | ~(active << 1));
}

// Whether that many bytes at each address lie between `begin` and the end of `size` bytes, and are aligned.
bool are_inside(const Addresses& addresses, Mask active, std::uint64_t begin, std::size_t size, std::size_t bytes) {
  if (size < bytes) return false;
  std::uint32_t wrong = 0;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const bool is_wrong = addresses[lane] - begin > size - bytes || addresses[lane] % bytes != 0;
    wrong |= std::uint32_t{is_wrong} << lane;
  }
  return (wrong & active) == 0;
}

// From origin + address of each lane.
template <class T, unsigned elements>
void set_values(Warp& warp, const Access& access, std::uintptr_t origin, const Addresses& addresses, Mask active) {
  std::array<T*, elements> to;
  for (unsigned element = 0; element < elements; ++element) to[element] = warp.lanes<T>(access.values[element]);
  const auto set = [&](int lane) {
    T values[elements];
    const std::uintptr_t from = origin + addresses[static_cast<std::size_t>(lane)];
    std::memcpy(values, reinterpret_cast<const std::byte*>(from), sizeof values);
    for (unsigned element = 0; element < elements; ++element) to[element][lane] = values[element];
  };
  if (active == kAllLanes) {
    for (int lane = 0; lane < kLanes; ++lane) set(lane);
  } else {
    for_each(active, set);
  }
}

// False where a lane's access is wrong, or may be.
template <unsigned words>
bool note_shared_reads(BlockState& block, std::uint64_t offset, SharedAccess access) {
  SharedAccess* const writers = block.shared_writers.data() + offset / kWordBytes;
  SharedAccess* const readers = block.shared_readers.data() + offset / kWordBytes;
  bool is_in_order = true, is_written = false;
  for (unsigned word = 0; word < words; ++word) {
    is_in_order = is_in_order && writers[word].time() != access.time();
    is_written = is_written || writers[word].time() >= block.started_at;
    readers[word] = access.together_with(readers[word]);
  }
  return is_in_order && is_written;
}

template <class T, unsigned elements>
bool load_from_shared(Warp& warp, const Access& access, const Addresses& addresses, Mask active) {
  BlockState& block = *warp.block;
  constexpr unsigned kBytes = sizeof(T) * elements;
  if (!are_inside(addresses, active, 0, block.launch->shared_bytes(), kBytes)) return false;
  const Mask starts = starts_of_runs(addresses, active);
  for (Mask left = starts; left != 0; left &= left - 1) {
    const int first = std::countr_zero(left);
    const bool is_alone = first == kLanes - 1 || ((starts | ~active) >> (first + 1) & 1);
    const std::uint64_t thread = warp.index * kLanes + static_cast<unsigned>(first);
    const SharedAccess reader(block.time, is_alone ? thread : SharedAccess::kSeveralThreads);
    const std::uint64_t offset = addresses[static_cast<std::size_t>(first)];
    if (!note_shared_reads<kBytes / kWordBytes>(block, offset, reader)) return false;
  }
  set_values<T, elements>(warp, access, reinterpret_cast<std::uintptr_t>(block.shared), addresses, active);
  return true;
}

template <class T, unsigned elements>
bool load_from_global(Warp& warp, const Access& access, const Addresses& addresses, Mask active) {
  BlockState& block = *warp.block;
  constexpr unsigned kBytes = sizeof(T) * elements;
  Region* const region = block.regions.find(addresses[static_cast<std::size_t>(std::countr_zero(active))]);
  if (!region || !are_inside(addresses, active, region->begin, region->bytes, kBytes)) return false;
  for (Mask left = active; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    const std::uint64_t offset = addresses[static_cast<std::size_t>(lane)] - region->begin;
    if (!region->are_words_written<kBytes / kWordBytes>(offset)) return false;
    const unsigned thread = warp.index * kLanes + static_cast<unsigned>(lane);
    const Accessor reader(block.launch_number, block.rank, block.barriers, thread);
    for (unsigned byte = 0; byte < kBytes; byte += kWordBytes) {
      if (region->note_read(offset + byte, reader)) return false;
    }
  }
  set_values<T, elements>(warp, access, 0, addresses, active);
  return true;
}

template <class T, unsigned elements>
bool load_words(Warp& warp, const Access& access, const Addresses& addresses, Mask active) {
  if (access.space == Space::shared) return load_from_shared<T, elements>(warp, access, addresses, active);
  return access.space == Space::global && load_from_global<T, elements>(warp, access, addresses, active);
}

// False where nothing is loaded.
bool load_fast(Warp& warp, const Access& access, const Addresses& addresses, Mask active) {
  for (unsigned element = 0; element < access.elements; ++element) {
    if (access.register_bytes[element] != access.element_bytes) return false;
  }
  switch (access.elements * 16 + access.element_bytes) {
    case 1 * 16 + 4:
      return load_words<std::uint32_t, 1>(warp, access, addresses, active);
    case 2 * 16 + 4:
      return load_words<std::uint32_t, 2>(warp, access, addresses, active);
    case 4 * 16 + 4:
      return load_words<std::uint32_t, 4>(warp, access, addresses, active);
    case 1 * 16 + 8:
      return load_words<std::uint64_t, 1>(warp, access, addresses, active);
    case 2 * 16 + 8:
      return load_words<std::uint64_t, 2>(warp, access, addresses, active);
  }
  return false;
}

// Word by word, since a part may be read; aligned as a whole.
void make_copy(Warp& warp, int lane, const AsyncCopies::Copy& copy) {
  const unsigned bytes = bytes_of(copy.instruction->access);
  const Instruction* const waiting = std::exchange(warp.current, copy.instruction);
  std::byte* const to = place_of({warp, Space::shared, bytes, lane, /*is_store=*/true, copy.to});
  const Lane reader{warp, Space::global, bytes, lane, /*is_store=*/false, copy.from};
  if (copy.bytes_read > bytes || copy.bytes_read % kWordBytes != 0) {
    reader.fail("a copy of " + std::to_string(bytes) + " bytes reads " + std::to_string(copy.bytes_read));
  }
  if (copy.bytes_read > 0) check_alignment(reader, copy.from, "global");
  std::memset(to, 0, bytes);
  for (unsigned done = 0; done < copy.bytes_read; done += kWordBytes) {
    const Lane word{warp, Space::global, kWordBytes, lane, /*is_store=*/false, copy.from + done};
    std::memcpy(to + done, place_of(word), kWordBytes);
  }
  warp.current = waiting;
}

}  // namespace

void load(Warp& warp, const Instruction& instruction, Mask active) {
  const Access& access = instruction.access;
  const Addresses addresses = addresses_of(warp, instruction);
  count(warp, access, addresses, active, /*is_store=*/false);
  if (load_fast(warp, access, addresses, active)) return;
  for_each(active, [&](int lane) {
    const std::byte* from = place_of(
        {warp, access.space, bytes_of(access), lane, /*is_store=*/false, addresses[static_cast<std::size_t>(lane)]});
    for (unsigned element = 0; element < access.elements; ++element, from += access.element_bytes) {
      const std::uint64_t value = extended(from, access.element_bytes, access.is_signed);
      if (access.register_bytes[element] == 8) {
        warp.lanes<std::uint64_t>(access.values[element])[lane] = value;
      } else {
        warp.lanes<std::uint32_t>(access.values[element])[lane] = static_cast<std::uint32_t>(value);
      }
    }
  });
}

void store(Warp& warp, const Instruction& instruction, Mask active) {
  const Access& access = instruction.access;
  const Addresses addresses = addresses_of(warp, instruction);
  count(warp, access, addresses, active, /*is_store=*/true);
  for_each(active, [&](int lane) {
    std::byte* to = place_of(
        {warp, access.space, bytes_of(access), lane, /*is_store=*/true, addresses[static_cast<std::size_t>(lane)]});
    for (unsigned element = 0; element < access.elements; ++element, to += access.element_bytes) {
      const std::uint64_t value = access.register_bytes[element] == 8
                                      ? warp.lanes<std::uint64_t>(access.values[element])[lane]
                                      : warp.lanes<std::uint32_t>(access.values[element])[lane];
      std::memcpy(to, &value, access.element_bytes);
    }
  });
}

void ask_for_copy(Warp& warp, const Instruction& instruction, Mask active) {
  const Addresses to = addresses_of(warp, instruction);
  Addresses from;
  const auto* const sources = warp.lanes<std::uint64_t>(instruction.from[1]);
  const auto* const bytes_read = warp.lanes<std::uint32_t>(instruction.from[2]);
  Mask reading = 0;
  for_each(active, [&](int lane) {
    const auto number = static_cast<std::size_t>(lane);
    AsyncCopies& copies = warp.copies[number];
    from[number] = sources[lane];
    copies.asked_for.push_back({&instruction, to[number], from[number], bytes_read[lane], copies.closed_groups});
    if (bytes_read[lane] > 0) reading |= Mask{1} << lane;
  });
  Traffic* const traffic = warp.block->launch->traffic.get();
  if (!traffic) return;
  traffic->add(Way::shared_store, to, active, bytes_of(instruction.access));
  if (reading) traffic->add(Way::global_load, from, reading, bytes_of(instruction.access));
}

void close_copies(Warp& warp, const Instruction&, Mask active) {
  for_each(active, [&](int lane) { ++warp.copies[static_cast<std::size_t>(lane)].closed_groups; });
}

void wait_for_copies(Warp& warp, const Instruction& instruction, Mask active) {
  for_each(active, [&](int lane) {
    AsyncCopies& copies = warp.copies[static_cast<std::size_t>(lane)];
    const unsigned last_groups = std::min(copies.closed_groups, static_cast<unsigned>(instruction.offset));
    const auto is_due = [&](const AsyncCopies::Copy& copy) { return copy.group < copies.closed_groups - last_groups; };
    const auto first_left = std::find_if_not(copies.asked_for.begin(), copies.asked_for.end(), is_due);
    for (auto copy = copies.asked_for.begin(); copy != first_left; ++copy) make_copy(warp, lane, *copy);
    copies.asked_for.erase(copies.asked_for.begin(), first_left);
  });
}

void pack(Warp& warp, const Instruction& instruction, Mask active) {
  const auto* low = warp.lanes<std::uint32_t>(instruction.from[0]);
  const auto* high = warp.lanes<std::uint32_t>(instruction.from[1]);
  auto* to = warp.lanes<std::uint64_t>(instruction.to);
  for_each(active, [&](int lane) { to[lane] = std::uint64_t{high[lane]} << 32 | low[lane]; });
}

void unpack(Warp& warp, const Instruction& instruction, Mask active) {
  const auto* from = warp.lanes<std::uint64_t>(instruction.from[0]);
  for_each(active, [&](int lane) {
    const std::uint64_t value = from[lane];
    const auto set = [&](Slot slot, std::uint64_t half) {
      if (slot != kNoSlot) warp.lanes<std::uint32_t>(slot)[lane] = static_cast<std::uint32_t>(half);
    };
    set(instruction.to, value);
    set(instruction.second_to, value >> 32);
  });
}

void add_offset(Warp& warp, const Instruction& instruction, Mask active) {
  const auto* from = warp.lanes<std::uint64_t>(instruction.from[0]);
  auto* to = warp.lanes<std::uint64_t>(instruction.to);
  for_each(active, [&](int lane) { to[lane] = from[lane] + static_cast<std::uint64_t>(instruction.offset); });
}

void fail_with_problem(Warp& warp, const Instruction& instruction, Mask active) {
  warp.fail(std::countr_zero(active), instruction.problem);
}

void trap(Warp& warp, const Instruction&, Mask active) {
  warp.fail(std::countr_zero(active), "trap: the kernel ends itself");
}

void shuffle(Warp& warp, const Instruction& instruction, Mask active) {
  const auto* values = warp.lanes<std::uint32_t>(instruction.from[0]);
  const auto* distances = warp.lanes<std::uint32_t>(instruction.from[1]);
  const auto* clamps = warp.lanes<std::uint32_t>(instruction.from[2]);
  const auto* masks = warp.lanes<Mask>(instruction.from[3]);
  std::uint32_t results[kLanes];
  Mask in_range = 0;
  for_each(active, [&](int lane) {
    // The clamp's upper bits cut the warp into segments, its lower ones bound the lane within its segment.
    const int distance = static_cast<int>(distances[lane] & 31), clamp = static_cast<int>(clamps[lane] & 31);
    const int segment = static_cast<int>(clamps[lane] >> 8 & 31);
    const int first = lane & segment, bound = first | (clamp & ~segment);
    int source = lane;
    bool fits = false;
    switch (static_cast<ShuffleMode>(instruction.offset)) {
      case ShuffleMode::up:
        source = lane - distance;
        fits = source >= bound;
        break;
      case ShuffleMode::down:
        source = lane + distance;
        fits = source <= bound;
        break;
      case ShuffleMode::butterfly:
        source = lane ^ distance;
        fits = source <= bound;
        break;
      case ShuffleMode::index:
        source = first | (distance & ~segment);
        fits = source <= bound;
        break;
    }
    if (!fits) source = lane;
    if (!(masks[lane] >> source & 1)) {
      warp.fail(lane, "bad shuffle mask: the value is that of lane " + std::to_string(source) + ", which is not in it");
    }
    results[lane] = values[source];
    in_range |= Mask{fits} << lane;
  });
  auto* to = warp.lanes<std::uint32_t>(instruction.to);
  for_each(active, [&](int lane) { to[lane] = results[lane]; });
  if (instruction.second_to != kNoSlot) {
    Mask& predicate = warp.predicate(instruction.second_to);
    predicate = (predicate & ~active) | (in_range & active);
  }
}

}  // namespace ptx
