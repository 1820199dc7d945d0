// Shuffled streams: every order that CUDA allows, and none other.
#include "runner.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <set>

namespace {

constexpr std::uint64_t seeds = 40;

// What has run, in its order.
using Log = std::vector<int>;

void launch_logged(cudaStream_t stream, Log& log, int id) {
  CHECK_CUDA(hostcuda::launch("logged", 1, 1, 0, stream, [&log, id] { log.push_back(id); }));
}

std::size_t place(const Log& log, int id) {
  return static_cast<std::size_t>(std::find(log.begin(), log.end(), id) - log.begin());
}

// Ten operations on each of three streams that nothing orders; the ten of the first have the numbers 0 to 9. They take
// `microseconds`, and the host as long between them.
Log unordered_work(std::uint64_t seed, int microseconds) {
  Log log;
  const TestStream streams[3];
  shuffle_streams(seed);
  for (int round = 0; round < 10; ++round) {
    for (int s = 0; s < 3; ++s) {
      CHECK_CUDA(hostcuda::launch("logged", 1, 1, 0, streams[s], [&log, id = 10 * s + round, microseconds] {
        busy_for_microseconds(microseconds * (id % 3));
        log.push_back(id);
      }));
      busy_for_microseconds(microseconds);
    }
  }
  CHECK_CUDA(cudaDeviceSynchronize());
  return log;
}

struct Pinned {
  Pinned() { CHECK_CUDA(cudaHostAlloc(&data, sizeof *data, cudaHostAllocDefault)); }
  ~Pinned() { cudaFreeHost(data); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  int* data = nullptr;
};

}  // namespace

TEST(a_seed_gives_one_order) {
  std::set<Log> orders;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const Log log = unordered_work(seed, 0);
    CHECK_EQUAL(log.size(), 30u);
    for (int id = 0; id < 30; ++id) CHECK(id % 10 == 0 || place(log, id - 1) < place(log, id));
    CHECK(log == unordered_work(seed, 20));
    orders.insert(log);
  }
  CHECK(orders.size() > seeds / 2);
}

TEST(any_stream_may_be_first_and_any_may_be_last) {
  std::set<int> first, last;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const Log log = unordered_work(seed, 0);
    first.insert(log.front() / 10);
    last.insert(log.back() / 10);
  }
  CHECK(first == (std::set<int>{0, 1, 2}));
  CHECK(last == (std::set<int>{0, 1, 2}));
}

TEST(streams_change_places_in_a_long_queue) {
  std::size_t most_changes = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    Log log;
    const TestStream streams[2];
    shuffle_streams(seed);
    for (int round = 0; round < 200; ++round) launch_logged(streams[round % 2], log, round % 2);
    CHECK_CUDA(cudaDeviceSynchronize());
    // About every third operation runs while the host queues; the second half is what it left for the wait.
    std::size_t changes = 0;
    for (std::size_t i = 101; i < log.size(); ++i) changes += log[i] != log[i - 1];
    most_changes = std::max(most_changes, changes);
  }
  CHECK(most_changes > 2);
}

TEST(random_programs_keep_what_events_order) {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    Log log;
    std::vector<std::pair<int, int>> orders;  // what comes before what
    {
      std::vector<cudaStream_t> streams(6);
      std::vector<cudaEvent_t> events(8);
      const auto select_device_of = [](std::size_t index) { CHECK_CUDA(cudaSetDevice(static_cast<int>(index % 2))); };
      for (std::size_t s = 0; s < streams.size(); ++s) {
        select_device_of(s);
        CHECK_CUDA(cudaStreamCreateWithFlags(&streams[s], cudaStreamNonBlocking));
      }
      for (std::size_t e = 0; e < events.size(); ++e) {
        select_device_of(e);
        CHECK_CUDA(cudaEventCreateWithFlags(&events[e], cudaEventDefault));
      }
      shuffle_streams(seed);
      std::map<std::size_t, int> last_of_stream, last_before_event;
      for (int id = 0; id < 300; ++id) {
        const std::size_t s = random() % streams.size();
        select_device_of(s);
        launch_logged(streams[s], log, id);
        if (last_of_stream.contains(s)) orders.emplace_back(last_of_stream[s], id);
        last_of_stream[s] = id;
        // Then one of the device's events is recorded there, or any event is waited for.
        const std::size_t e = random() % events.size();
        if (random() % 2 == 0 && e % 2 == s % 2) {
          CHECK_CUDA(cudaEventRecord(events[e], streams[s]));
          last_before_event[e] = id;
        } else if (random() % 2 == 0 && last_before_event.contains(e)) {
          CHECK_CUDA(cudaStreamWaitEvent(streams[s], events[e]));
          launch_logged(streams[s], log, 1000 + id);
          orders.emplace_back(last_before_event[e], 1000 + id);
          orders.emplace_back(id, 1000 + id);
          last_of_stream[s] = 1000 + id;
        }
        if (random() % 50 == 0) CHECK_CUDA(cudaStreamSynchronize(streams[random() % streams.size()]));
      }
      for (cudaEvent_t event : events) CHECK_CUDA(cudaEventDestroy(event));
      for (cudaStream_t stream : streams) CHECK_CUDA(cudaStreamDestroy(stream));
    }
    for (std::size_t device : {0, 1}) {
      CHECK_CUDA(cudaSetDevice(static_cast<int>(device)));
      CHECK_CUDA(cudaDeviceSynchronize());
    }
    for (const auto& [before, after] : orders)
      CHECK(place(log, before) < place(log, after) && place(log, after) < log.size());
  }
}

TEST(copies_come_early_and_late) {
  std::set<int> read, copied;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const TestStream computing, copying;
    const DeviceArray<int> from(1), to(1), seen(1);
    *from.data = 1;
    shuffle_streams(seed);
    CHECK_CUDA(hostcuda::launch("read", 1, 1, 0, computing, [to = to.data, seen = seen.data] { *seen = *to; }));
    CHECK_CUDA(hostcuda::launch("write", 1, 1, 0, computing, [from = from.data] { *from = 2; }));
    CHECK_CUDA(cudaMemcpyPeerAsync(to.data, 0, from.data, 0, sizeof(int), copying));
    CHECK_CUDA(cudaDeviceSynchronize());
    read.insert(seen.to_host()[0]);
    copied.insert(to.to_host()[0]);
  }
  CHECK(read == (std::set<int>{0, 1}));    // the copy after the reader of where it goes, or before
  CHECK(copied == (std::set<int>{1, 2}));  // the copy before the writer of where it comes from, or after
}

TEST(work_may_start_before_the_host_waits) {
  int started_alone = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const TestStream stream;
    std::atomic<bool> started = false;
    shuffle_streams(seed);
    CHECK_CUDA(hostcuda::launch("start", 1, 1, 0, stream, [&started] { started = true; }));
    for (int tries = 0; tries < 100 && !started; ++tries) busy_for_microseconds(100);
    started_alone += started;
    CHECK_CUDA(cudaStreamSynchronize(stream));
    CHECK(started);
  }
  CHECK(0 < started_alone && started_alone < static_cast<int>(seeds));
}

TEST(a_wait_for_one_stream_need_not_start_another) {
  std::set<std::size_t> done;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    Log log;
    const TestStream awaited, other;
    shuffle_streams(seed);
    launch_logged(other, log, 0);
    launch_logged(awaited, log, 1);
    CHECK_CUDA(cudaStreamSynchronize(awaited));
    CHECK(place(log, 1) < log.size());
    const std::size_t done_by_now = log.size();  // asking lets the other one start
    CHECK_ERROR(cudaStreamQuery(other), done_by_now == 2 ? cudaSuccess : cudaErrorNotReady);
    done.insert(done_by_now);
    CHECK_CUDA(cudaDeviceSynchronize());
  }
  CHECK(done == (std::set<std::size_t>{1, 2}));
}

TEST(a_host_that_asks_gets_its_answer) {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    Log log;
    const TestStream first, second;
    const TestEvent begin, end, between;
    shuffle_streams(seed);
    CHECK_CUDA(cudaEventRecord(begin, first));
    launch_logged(first, log, 0);
    CHECK_CUDA(cudaEventRecord(between, first));
    CHECK_CUDA(cudaStreamWaitEvent(second, between));
    launch_logged(second, log, 1);
    CHECK_CUDA(cudaEventRecord(end, second));
    cudaError_t answer = cudaErrorNotReady;
    if (seed % 3 == 0) {
      while ((answer = cudaStreamQuery(second)) == cudaErrorNotReady) {
      }
    } else if (seed % 3 == 1) {
      while ((answer = cudaEventQuery(end)) == cudaErrorNotReady) {
      }
    } else {
      float milliseconds = 0;
      while ((answer = cudaEventElapsedTime(&milliseconds, begin, end)) == cudaErrorNotReady) {
      }
    }
    CHECK_CUDA(answer);
    CHECK(log == (Log{0, 1}));
  }
}

TEST(pinned_memory_may_be_read_late_and_pageable_memory_is_read_at_once) {
  std::set<int> arrived;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const TestStream stream;
    const DeviceArray<int> of_pinned(1), of_pageable(6);
    const Pinned pinned;
    *pinned.data = 1;
    std::vector<int> pageable = {1, 2, -1, 3, 4, -1};
    shuffle_streams(seed);
    CHECK_CUDA(cudaMemcpyAsync(of_pinned.data, pinned.data, sizeof(int), cudaMemcpyDefault, stream));
    CHECK_CUDA(cudaMemcpy2DAsync(of_pageable.data, 2 * sizeof(int), pageable.data(), 3 * sizeof(int), 2 * sizeof(int),
                                 2, cudaMemcpyDefault, stream));
    *pinned.data = 2;
    pageable.assign(6, 9);
    CHECK_CUDA(cudaStreamSynchronize(stream));
    arrived.insert(of_pinned.to_host()[0]);
    CHECK(of_pageable.to_host() == (std::vector<int>{1, 2, 3, 4, 0, 0}));
  }
  CHECK(arrived.contains(2));
}

TEST(pinned_memory_that_is_freed_too_early_is_noticed) {
  std::set<int> arrived;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const TestStream stream;
    const DeviceArray<int> array(1);
    shuffle_streams(seed);
    {
      const Pinned pinned;
      *pinned.data = 1;
      CHECK_CUDA(cudaMemcpyAsync(array.data, pinned.data, sizeof(int), cudaMemcpyDefault, stream));
    }
    arrived.insert(array.to_host()[0]);
  }
  CHECK(arrived.contains(-1));
}

TEST(pageable_memory_may_be_written_late) {
  std::set<int> before;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const TestStream stream;
    const DeviceArray<int> zero(1);
    int value = 1;
    shuffle_streams(seed);
    CHECK_CUDA(cudaMemcpyAsync(&value, zero.data, sizeof value, cudaMemcpyDefault, stream));
    if (cudaStreamQuery(stream) == cudaErrorNotReady) before.insert(value);
    CHECK_CUDA(cudaStreamSynchronize(stream));
    CHECK_EQUAL(value, 0);
    value = 1;
    CHECK_CUDA(cudaMemcpy(&value, zero.data, sizeof value, cudaMemcpyDefault));
    CHECK_EQUAL(value, 0);
  }
  CHECK(before.contains(1));
}

TEST(a_new_schedule_waits_for_what_is_queued) {
  Log log, ids;
  const TestStream streams[3];
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    shuffle_streams(seed);
    for (const TestStream& stream : streams) launch_logged(stream, log, static_cast<int>(seed));
    ids.insert(ids.end(), 3, static_cast<int>(seed));
  }
  CHECK_CUDA(hostcuda::set_schedule({}));
  CHECK(log == ids);
  launch_logged(streams[0], log, -1);
  CHECK_CUDA(cudaStreamSynchronize(streams[0]));
  CHECK_EQUAL(log.back(), -1);
}

TEST(failures_of_shuffled_work_are_reported_once) {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    Log log;
    const TestStream failing, other;
    const TestEvent event;
    shuffle_streams(seed);
    launch_logged(other, log, 0);
    CHECK_CUDA(hostcuda::launch("trapping", 1, 1, 0, failing, [] { __trap(); }));
    CHECK_CUDA(cudaEventRecord(event, failing));
    CHECK_CUDA(cudaStreamWaitEvent(other, event));
    launch_logged(other, log, 1);
    CHECK_ERROR(cudaStreamSynchronize(other), cudaErrorLaunchFailure);
    CHECK(place(log, 1) == log.size());
    CHECK_CUDA(cudaDeviceSynchronize());
    launch_logged(other, log, 2);
    CHECK_CUDA(cudaStreamSynchronize(other));
    CHECK_EQUAL(log.back(), 2);
  }
}
