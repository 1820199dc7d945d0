#include "ptx/traffic.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <utility>

namespace ptx {

namespace {

constexpr unsigned kSectorBytes = 32, kBanks = 32, kBankBytes = 4;
constexpr unsigned kMostWords = kLanes * 8;  // of an access of 32 bytes a lane

// A few numbers, each once.
class Distinct {
 public:
  void add(std::uint64_t number) { numbers_[count_++] = number; }
  const std::uint64_t* begin() const { return numbers_.data(); }
  const std::uint64_t* end() const { return numbers_.data() + count_; }
  unsigned count() const { return count_; }
  void leave_each_once() {
    std::sort(numbers_.data(), numbers_.data() + count_);
    count_ = static_cast<unsigned>(std::unique(numbers_.data(), numbers_.data() + count_) - numbers_.data());
  }

 private:
  std::array<std::uint64_t, kMostWords> numbers_;
  unsigned count_ = 0;
};

template <class F>
void for_each(Mask active, F function) {
  for (; active != 0; active &= active - 1) function(static_cast<std::size_t>(std::countr_zero(active)));
}

// Accesses are aligned, so that each lies in one sector, and two have all bytes in common or none.
Tally sectors_of(const Addresses& addresses, Mask active, unsigned bytes) {
  Distinct sectors, places;
  for_each(active, [&](std::size_t lane) {
    sectors.add(addresses[lane] / kSectorBytes);
    places.add(addresses[lane]);
  });
  sectors.leave_each_once();
  places.leave_each_once();
  return {1, sectors.count(), (places.count() * bytes + kSectorBytes - 1) / kSectorBytes};
}

// Of lanes that are served together.
Tally wavefronts_of_group(const Addresses& addresses, Mask group, unsigned bytes) {
  Distinct words;
  for_each(group, [&](std::size_t lane) {
    for (unsigned byte = 0; byte < bytes; byte += kBankBytes) words.add((addresses[lane] + byte) / kBankBytes);
  });
  words.leave_each_once();
  std::array<unsigned, kBanks> wanted{};
  for (const std::uint64_t word : words) ++wanted[word % kBanks];
  return {0, *std::max_element(wanted.begin(), wanted.end()), (words.count() + kBanks - 1) / kBanks};
}

Tally wavefronts_of(const Addresses& addresses, Mask active, unsigned bytes) {
  const unsigned lanes = bytes > 2 * kBankBytes ? kLanes / 2 : kLanes;
  const Mask first_group = kAllLanes >> (kLanes - lanes);
  Tally tally{1, 0, 0};
  for (unsigned first = 0; first < kLanes; first += lanes) {
    const Tally of_group = wavefronts_of_group(addresses, active & first_group << first, bytes);
    tally.moved += of_group.moved;
    tally.ideal += of_group.ideal;
  }
  return tally;
}

struct Log {
  std::mutex mutex;
  bool is_on = false;
  std::vector<std::shared_ptr<const Traffic>> launches;
};

Log& log() {
  static Log* const log = new Log;
  return *log;
}

}  // namespace

void Traffic::add(Way way, const Addresses& addresses, Mask active, unsigned bytes) {
  const bool is_global = way == Way::global_load || way == Way::global_store;
  const Tally tally = (is_global ? sectors_of : wavefronts_of)(addresses, active, bytes);
  Counters& counters = counters_[static_cast<std::size_t>(way)];
  counters.accesses.fetch_add(tally.accesses, std::memory_order_relaxed);
  counters.moved.fetch_add(tally.moved, std::memory_order_relaxed);
  counters.ideal.fetch_add(tally.ideal, std::memory_order_relaxed);
}

void Traffic::add_instructions(std::uint64_t executed) {
  instructions_.fetch_add(executed, std::memory_order_relaxed);
}

Tally Traffic::of(Way way) const {
  const Counters& counters = counters_[static_cast<std::size_t>(way)];
  return {counters.accesses.load(), counters.moved.load(), counters.ideal.load()};
}

std::uint64_t Traffic::instructions() const {
  return instructions_.load();
}

void count_traffic(bool on) {
  const std::lock_guard lock(log().mutex);
  log().is_on = on;
}

std::shared_ptr<Traffic> traffic_of_launch(const std::string& kernel) {
  const std::lock_guard lock(log().mutex);
  if (!log().is_on) return nullptr;
  auto traffic = std::make_shared<Traffic>(kernel);
  log().launches.push_back(traffic);
  return traffic;
}

std::vector<std::shared_ptr<const Traffic>> take_traffic() {
  const std::lock_guard lock(log().mutex);
  return std::exchange(log().launches, {});
}

}  // namespace ptx
