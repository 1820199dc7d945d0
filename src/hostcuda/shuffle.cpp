// Shuffled streams: operations run one at a time, in an order that a seed draws among those that CUDA allows.
//
// The order is drawn ahead of the cores, so that it depends on the seed and on the host's calls alone, not on how fast
// anything runs. An operation is held until it is let go, which gives it the place at the end of the order. A wait is
// let go after the record that it is for, so the cores, which take the order from its front, never meet a wait that
// is not over.
//
// Whenever the host queues an operation, some are let go: perhaps this one, perhaps none. When it waits for one, as
// many are let go as that takes. So an operation may run long before others that were queued earlier on other streams,
// or as late as the first call that waits for it. There is always one that can be let go: the one that was queued
// first, for a wait is queued after its record.
#include "runtime.h"

namespace hostcuda {

namespace {

// After one in so many draws one more operation is let go, or a stream's rank is drawn anew.
constexpr std::uint64_t kDrawsARelease = 4, kDrawsARank = 8;

const Operation& first_held(const Stream& stream) {
  return stream.queue[stream.queue.size() - stream.held];
}

bool can_be_let_go(const Stream& stream) {
  if (stream.held == 0) return false;
  const auto* wait = std::get_if<WaitEvent>(&first_held(stream));
  return !wait || !wait->record || !wait->record->held;
}

}  // namespace

void Runtime::set_schedule(std::unique_lock<std::mutex>& lock, const Schedule& wanted) {
  if (schedule.shuffle_streams || wanted.shuffle_streams) wait_for_all(lock);
  schedule = wanted;
  random_.seed(wanted.seed);
}

// Holds what has just been queued on the stream.
void Runtime::hold(Stream& stream) {
  if (stream.held++ == 0) stream.rank = random_();
  if (const auto* operation = std::get_if<RecordEvent>(&stream.queue.back())) operation->record->held = true;
  while (random_() % kDrawsARelease == 0 && let_one_go()) {
  }
}

// Of the streams whose next operation can be let go, the one of the highest rank; it keeps its rank for a while, so that
// some streams stay behind others for long. False if nothing is held.
bool Runtime::let_one_go() {
  Stream* chosen = nullptr;
  for (const auto& device : devices) {
    for (const auto& stream : device->streams) {
      if (can_be_let_go(*stream) && (!chosen || stream->rank > chosen->rank)) chosen = stream.get();
    }
  }
  if (!chosen) return false;
  if (const auto* operation = std::get_if<RecordEvent>(&first_held(*chosen))) operation->record->held = false;
  --chosen->held;
  if (random_() % kDrawsARank == 0) chosen->rank = random_();
  order_.push_back(chosen->shared_from_this());
  start_next();
  return true;
}

// A host that asks again and again until something is done must not ask for ever.
cudaError_t Runtime::not_ready() {
  if (!one_runs_) let_one_go();
  return cudaErrorNotReady;
}

// Goes through the order until cores have something to do.
void Runtime::start_next() {
  std::vector<std::shared_ptr<Stream>> woken;  // stays empty: whoever waits comes after the record
  while (!one_runs_ && !order_.empty()) {
    const std::shared_ptr<Stream> stream = std::move(order_.front());
    order_.pop_front();
    if (process_head(*stream, woken)) {
      complete_head(*stream);
    } else {
      one_runs_ = true;
    }
  }
}

}  // namespace hostcuda
