// Kernels, streams and events.
#include "runtime.h"

namespace hostcuda {

namespace {

struct KernelWork final : Work {
  explicit KernelWork(Kernel kernel) : Work(kernel.blocks()), kernel(std::move(kernel)) {}

  std::optional<Failure> run(Block& block, std::uint64_t begin, std::uint64_t end) override {
    for (std::uint64_t position = begin; position < end; ++position) {
      if (auto failure = block.run(kernel, position)) return failure;
    }
    return block.check_stacks(kernel);
  }

  std::unique_ptr<Work> again(Runtime& runtime) const override {
    Kernel same = kernel;
    same.schedule = runtime.schedule;
    same.block_order = Permutation(same.schedule.blocks, same.blocks(), same.schedule.seed);
    return std::make_unique<KernelWork>(std::move(same));
  }

  const char* kernel_name() const override { return kernel.name; }

  const Kernel kernel;
};

struct BlocksWork final : Work {
  BlocksWork(const char* name, BlockFunction function, std::uint64_t blocks, Runtime& runtime)
      : Work(blocks),
        name(name),
        function(std::move(function)),
        launch(++runtime.launches_numbered),
        schedule(runtime.schedule),
        order(schedule.blocks, blocks, schedule.seed) {}

  std::optional<Failure> run(Block&, std::uint64_t begin, std::uint64_t end) override {
    for (std::uint64_t position = begin; position < end; ++position) {
      if (auto detail = function({order(position), launch, schedule})) return Failure{cudaErrorLaunchFailure, *detail};
    }
    return std::nullopt;
  }

  std::unique_ptr<Work> again(Runtime& runtime) const override {
    return std::make_unique<BlocksWork>(name, function, items, runtime);
  }

  const char* kernel_name() const override { return name; }

  const char* const name;
  const BlockFunction function;
  const std::uint64_t launch;
  const Schedule schedule;
  const Permutation order;
};

struct HostFunctionWork final : Work {
  HostFunctionWork(cudaHostFn_t function, void* user_data) : Work(1), function(function), user_data(user_data) {}

  std::optional<Failure> run(Block&, std::uint64_t, std::uint64_t) override {
    try {
      function(user_data);
    } catch (const std::exception& error) {
      return Failure{cudaErrorLaunchFailure, std::string("host function: exception: ") + error.what()};
    } catch (...) {
      return Failure{cudaErrorLaunchFailure, "host function: an exception that is no std::exception"};
    }
    return std::nullopt;
  }

  std::unique_ptr<Work> again(Runtime&) const override {
    return std::make_unique<HostFunctionWork>(function, user_data);
  }

  const cudaHostFn_t function;
  void* const user_data;
};

bool launchable(dim3 grid, dim3 block) {
  constexpr unsigned kMostX = 0x7fffffff, kMostYZ = 65535;
  return grid.x >= 1 && grid.x <= kMostX && grid.y >= 1 && grid.y <= kMostYZ && grid.z >= 1 && grid.z <= kMostYZ &&
         block.x >= 1 && block.x <= 1024 && block.y >= 1 && block.y <= 1024 && block.z >= 1 && block.z <= 64 &&
         std::uint64_t{block.x} * block.y * block.z <= kMaxThreads;
}

// Queues what `make_work` makes of a kernel's launch, unless a GPU could not launch it.
cudaError_t launch_work(const char* name, dim3 grid, dim3 block, std::size_t dynamic_shared_bytes, cudaStream_t stream,
                        const std::function<std::unique_ptr<Work>(Runtime&)>& make_work) {
  return api_call([&](Runtime& runtime) {
    if (!launchable(grid, block) || dynamic_shared_bytes > runtime.configuration.shared_memory_per_block) {
      return error_with_detail(cudaErrorInvalidConfiguration,
                               std::string("kernel ") + name + ": grid (" + std::to_string(grid.x) + ", " +
                                   std::to_string(grid.y) + ", " + std::to_string(grid.z) + "), block (" +
                                   std::to_string(block.x) + ", " + std::to_string(block.y) + ", " +
                                   std::to_string(block.z) + "), " + std::to_string(dynamic_shared_bytes) +
                                   " bytes of dynamic shared memory");
    }
    const std::lock_guard lock(runtime.mutex);
    const auto target = stream_of(runtime, stream);
    if (target->device.id != current_device()) {
      return error_with_detail(cudaErrorInvalidResourceHandle,
                               std::string("kernel ") + name + ": the stream belongs to device " +
                                   std::to_string(target->device.id) + ", the current device is " +
                                   std::to_string(current_device()));
    }
    return runtime.submit(*target, make_work(runtime));
  });
}

}  // namespace

std::shared_ptr<Stream> stream_of(Runtime& runtime, cudaStream_t handle) {
  return handle ? handle->stream : runtime.device(current_device()).streams.front();
}

cudaError_t launch_threads(const char* name, dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
                           cudaStream_t stream, ThreadLoop threads) {
  return launch_work(name, grid, block, dynamic_shared_bytes, stream, [&](Runtime& runtime) {
    Kernel kernel{name, grid, block, dynamic_shared_bytes, runtime.configuration.fill_new_memory, std::move(threads),
                  {},   {}};
    kernel.schedule = runtime.schedule;
    kernel.block_order = Permutation(kernel.schedule.blocks, kernel.blocks(), kernel.schedule.seed);
    return std::make_unique<KernelWork>(std::move(kernel));
  });
}

cudaError_t launch_blocks(const char* name, dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
                          cudaStream_t stream, BlockFunction function) {
  return launch_work(name, grid, block, dynamic_shared_bytes, stream, [&](Runtime& runtime) {
    const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
    return std::make_unique<BlocksWork>(name, std::move(function), blocks, runtime);
  });
}

std::map<std::string, std::uint64_t> launch_counts() {
  Runtime& all = runtime();
  const std::lock_guard lock(all.mutex);
  return {all.launches.begin(), all.launches.end()};
}

cudaError_t set_schedule(const Schedule& schedule) {
  return api_call([&](Runtime& runtime) {
    std::unique_lock lock(runtime.mutex);
    runtime.set_schedule(lock, schedule);
    return cudaSuccess;
  });
}

}  // namespace hostcuda

using namespace hostcuda;

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* user_data) {
  return api_call([&](Runtime& runtime) {
    if (!function) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    return runtime.submit(*stream_of(runtime, stream), std::make_unique<HostFunctionWork>(function, user_data));
  });
}

// ---- streams ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return api_call([&](Runtime& runtime) {
    if (!stream || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    Device& device = runtime.device(current_device());
    device.streams.push_back(std::make_shared<Stream>(device));
    *stream = new CUstream_st{device.streams.back()};
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    if (!stream) return cudaErrorInvalidResourceHandle;
    const std::lock_guard lock(runtime.mutex);
    const std::unique_ptr<CUstream_st> owner(stream);
    runtime.invalidate_capture(*stream->stream);
    stream->stream->destroyed = true;
    runtime.remove_if_idle(*stream->stream);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    std::unique_lock lock(runtime.mutex);
    const auto target = stream_of(runtime, stream);
    if (const cudaError_t error = runtime.refuse_waiting_for(*target)) return error;
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaStreamSynchronize")) return error;
    runtime.wait_for(lock, *target);
    return runtime.report(lock, target->device);
  });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    std::unique_lock lock(runtime.mutex);
    const auto target = stream_of(runtime, stream);
    if (const cudaError_t error = runtime.refuse_waiting_for(*target)) return error;
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaStreamQuery")) return error;
    if (target->device.failure) return runtime.report(lock, target->device);
    return target->idle() ? cudaSuccess : runtime.not_ready();
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return api_call([&](Runtime& runtime) {
    if (!event) return cudaErrorInvalidResourceHandle;
    if (flags != 0) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    return runtime.submit(*stream_of(runtime, stream), WaitEvent{event->latest});
  });
}

cudaError_t cudaDeviceSynchronize() {
  return api_call([&](Runtime& runtime) {
    std::unique_lock lock(runtime.mutex);
    Device& device = runtime.device(current_device());
    if (const cudaError_t error = runtime.refuse_waiting_for(device)) return error;
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaDeviceSynchronize")) return error;
    runtime.wait_for(lock, device);
    return runtime.report(lock, device);
  });
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return api_call([&](Runtime& runtime) {
    if (!event || (flags & ~(cudaEventBlockingSync | cudaEventDisableTiming)) != 0) return cudaErrorInvalidValue;
    Device& device = runtime.device(current_device());
    const bool timing = !(flags & cudaEventDisableTiming);
    *event = new CUevent_st{.device = device, .timing = timing, .latest = nullptr};
    return cudaSuccess;
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return api_call([&](Runtime& runtime) {
    if (!event) return cudaErrorInvalidResourceHandle;
    const std::lock_guard lock(runtime.mutex);
    delete event;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return api_call([&](Runtime& runtime) {
    if (!event) return cudaErrorInvalidResourceHandle;
    const std::lock_guard lock(runtime.mutex);
    const auto target = stream_of(runtime, stream);
    if (&target->device != &event->device) return cudaErrorInvalidResourceHandle;
    const auto record = std::make_shared<Record>();
    const cudaError_t error = runtime.submit(*target, RecordEvent{record});
    if (error == cudaSuccess) event->latest = record;
    return error;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return api_call([&](Runtime& runtime) {
    if (!event) return cudaErrorInvalidResourceHandle;
    std::unique_lock lock(runtime.mutex);
    if (event->captured()) return cudaErrorCapturedEvent;
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaEventQuery")) return error;
    if (event->device.failure) return runtime.report(lock, event->device);
    return event->completed() ? cudaSuccess : runtime.not_ready();
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return api_call([&](Runtime& runtime) {
    if (!event) return cudaErrorInvalidResourceHandle;
    std::unique_lock lock(runtime.mutex);
    if (event->captured()) return cudaErrorCapturedEvent;
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaEventSynchronize")) return error;
    Device& device = event->device;  // the event may be destroyed meanwhile
    if (event->latest) runtime.wait_for(lock, event->latest);
    return runtime.report(lock, device);
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return api_call([&](Runtime& runtime) {
    if (!milliseconds) return cudaErrorInvalidValue;
    if (!start || !end) return cudaErrorInvalidResourceHandle;
    const std::lock_guard lock(runtime.mutex);
    if (!start->timing || !end->timing || !start->latest || !end->latest || &start->device != &end->device) {
      return cudaErrorInvalidResourceHandle;
    }
    if (start->captured() || end->captured()) return cudaErrorCapturedEvent;
    if (!start->completed() || !end->completed()) return runtime.not_ready();
    const std::int64_t nanoseconds = end->latest->nanoseconds - start->latest->nanoseconds;
    *milliseconds = static_cast<float>(static_cast<double>(nanoseconds) * 1e-6);
    return cudaSuccess;
  });
}
