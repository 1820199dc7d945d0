// What only CPU cores have: the settings of the virtual devices, and the choice of an instruction set.
#include <pybind11/stl.h>

#include <fstream>
#include <string>
#include <variant>
#include <vector>

#include "bindings/gil.h"
#include "bindings/register.h"
#include "device/check.h"

#if !defined(PYALEXNET_TARGET_CUDA)
#include "checks.h"
#endif
#if defined(PYALEXNET_TARGET_PTX)
#include "device/stream.h"
#include "ptx/executor.h"
#include "ptx/launch.h"
#include "ptx/shadow.h"
#include "ptx/traffic.h"
#endif

namespace py = pybind11;

namespace pyalexnet {

#if defined(PYALEXNET_TARGET_CUDA)

void register_virtual_devices(py::module_&) {}

#else

namespace {

std::string processor_name() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "CPU";
}

// The instruction sets, best first, that modules are built for and this processor has.
std::vector<std::string> supported_instruction_sets() {
#if defined(__x86_64__)
  std::vector<std::string> sets;
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4) sets.push_back("x86_64_v4");
  if (v3) sets.push_back("x86_64_v3");
  sets.push_back("x86_64");
  return sets;
#else
  return {"aarch64"};
#endif
}

hostcuda::Call call_named(const std::string& name) {
  if (name == "allocation") return hostcuda::Call::allocation;
  require(name == "copy", "call is '", name, "'; it must be 'allocation' or 'copy'");
  return hostcuda::Call::copy;
}

hostcuda::Order order_named(const std::string& name) {
  if (name == "ascending") return hostcuda::Order::ascending;
  if (name == "descending") return hostcuda::Order::descending;
  require(name == "random", "order is '", name, "'; it must be 'ascending', 'descending' or 'random'");
  return hostcuda::Order::random;
}

// How many threads execute, and what each device's memory is. Once, before anything else is asked of the module.
void configure(int cores, uint64_t memory_bytes) {
  hostcuda::Configuration configuration;
  configuration.cores = cores;
  configuration.memory_per_device = memory_bytes;
  configuration.device_name = processor_name();
  // Where the target exists to find mistakes, memory that no kernel has written reads as NaN, and what lies beside an
  // allocation is guarded.
  configuration.fill_new_memory = !kRunsOnCores;
#if defined(PYALEXNET_TARGET_PTX)
  configuration.memory_observer = &ptx::Shadow::of_process();
#else
  if (!kRunsOnCores) check_cuda(hostcuda::guard_memory(), "hostcuda::guard_memory");
#endif
  check_cuda(hostcuda::configure(configuration), "hostcuda::configure");
}

#if defined(PYALEXNET_TARGET_PTX)

py::tuple as_tuple(const ptx::Tally& tally) {
  return py::make_tuple(tally.accesses, tally.moved, tally.ideal);
}

py::list take_traffic() {
  py::list launches;
  for (const auto& traffic : ptx::take_traffic()) {
    py::dict launch;
    launch["kernel"] = traffic->kernel;
    launch["instructions"] = traffic->instructions();
    launch["global_loads"] = as_tuple(traffic->of(ptx::Way::global_load));
    launch["global_stores"] = as_tuple(traffic->of(ptx::Way::global_store));
    launch["shared_loads"] = as_tuple(traffic->of(ptx::Way::shared_load));
    launch["shared_stores"] = as_tuple(traffic->of(ptx::Way::shared_store));
    launches.append(launch);
  }
  return launches;
}

// A whole number or an address, of whose 8 bytes a parameter takes the lower ones, or a struct as it is.
using Argument = std::variant<uint64_t, py::bytes>;

std::vector<std::string> packed(const std::vector<Argument>& arguments) {
  std::vector<std::string> all;
  for (const auto& argument : arguments) {
    if (const auto* number = std::get_if<uint64_t>(&argument)) {
      all.emplace_back(reinterpret_cast<const char*>(number), sizeof(*number));
    } else {
      all.push_back(std::get<py::bytes>(argument));
    }
  }
  return all;
}

// What the interpreter executes and how it rounds, what it counts, and kernels from text, for tests of it.
void register_ptx(py::module_& module) {
  using namespace pybind11::literals;

  module.def("architectures", &ptx::architectures);
  module.def("architecture", &ptx::architecture);
  module.def("set_architecture", &ptx::set_architecture, "architecture"_a);
  module.def("set_fused", &ptx::set_fused, "fused"_a);
  module.def("count_traffic", &ptx::count_traffic, "on"_a);
  module.def("take_traffic", &take_traffic);
  module.def("unknown_instructions", &ptx::unknown_instructions);
  module.def(
      "launch_text",
      [](const std::string& text, const std::string& kernel, unsigned blocks, unsigned threads,
         const std::vector<Argument>& arguments, const Stream& stream, size_t shared_bytes) {
        check_cuda(ptx::launch_text(text, kernel, blocks, threads, shared_bytes, stream.on(), packed(arguments)),
                   kernel.c_str());
      },
      "text"_a, "kernel"_a, "blocks"_a, "threads"_a, "arguments"_a, "stream"_a, "shared_bytes"_a = 0);
}

#endif

}  // namespace

void register_virtual_devices(py::module_& module) {
  using namespace pybind11::literals;

#if defined(PYALEXNET_TARGET_PTX)
  register_ptx(module);
#endif
  module.def("configure", &configure, "cores"_a, "memory_bytes"_a);
  module.def("supported_instruction_sets", &supported_instruction_sets);
  module.def("core_count", &hostcuda::core_count);
  module.def(
      "set_schedule",
      [](const std::string& threads, const std::string& blocks, uint64_t seed, bool shuffle_streams) {
        const hostcuda::Schedule schedule{order_named(threads), order_named(blocks), seed, shuffle_streams};
        check_cuda(hostcuda::set_schedule(schedule), "hostcuda::set_schedule");
      },
      "threads"_a = "ascending", "blocks"_a = "ascending", "seed"_a = 0, "shuffle_streams"_a = false,
      py::call_guard<GilReleased>());
  module.def(
      "set_peer_capable",
      [](int device, int peer, bool capable) {
        check_cuda(hostcuda::set_peer_capable(device, peer, capable), "hostcuda::set_peer_capable");
      },
      "device"_a, "peer"_a, "capable"_a);
  module.def(
      "set_memory_limit",
      [](int device, uint64_t bytes) {
        check_cuda(hostcuda::set_memory_limit(device, bytes), "hostcuda::set_memory_limit");
      },
      "device"_a, "bytes"_a);
  module.def("launch_counts", &hostcuda::launch_counts);
  module.def(
      "fail_call",
      [](const std::string& call, uint64_t number) {
        check_cuda(hostcuda::fail_call(call_named(call), number), "hostcuda::fail_call");
      },
      "call"_a, "number"_a);
}

#endif

}  // namespace pyalexnet
