// What the host part of nvcc's objects calls: where a kernel is registered and how it is launched.
//
// A kernel is known by the address of its stub on the host. Its PTX is read when it is first launched.
#include "ptx/launch.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "hostcuda.h"
#include "ptx/executor.h"
#include "ptx/fat_binary.h"
#include "ptx/program.h"

namespace ptx {

namespace {

// Of shared memory: what a block has without asking for more, and the most that any GPU gives that has tensor cores.
constexpr std::size_t kSharedBytesByDefault = 48 << 10, kMostSharedBytes = 99 << 10;

struct FatBinary {
  explicit FatBinary(const void* data) : data(data) {}

  const Module& parsed(int architecture) {
    if (!module) {
      const auto texts = ptx_of(data);
      const auto text = texts.find(architecture);
      if (text == texts.end()) throw std::runtime_error("there is no PTX for sm_" + std::to_string(architecture));
      module = std::make_unique<Module>(read_module(std::string(text->second)));
    }
    return *module;
  }

  const void* data;
  std::unique_ptr<Module> module;
};

struct RegisteredKernel {
  FatBinary* fat_binary;
  std::string name;
  std::shared_ptr<const Program> program;  // null before the first launch
  std::size_t shared_bytes = kSharedBytesByDefault;
};

struct Registry {
  std::mutex mutex;
  std::map<const void*, RegisteredKernel> kernels;
  int architecture = 0;
};

// Objects register their kernels before main, in no order that is known.
Registry& registry() {
  static Registry* const registry = new Registry;
  return *registry;
}

struct Configuration {
  dim3 grid, block;
  std::size_t dynamic_shared_bytes;
  cudaStream_t stream;
};
thread_local std::vector<Configuration> configurations;

std::shared_ptr<const Program> program_named(const Module& module, const std::string& name) {
  const auto function = std::find_if(module.functions.begin(), module.functions.end(),
                                     [&](const Function& f) { return f.is_kernel && f.name == name; });
  if (function == module.functions.end()) throw std::runtime_error("there is no PTX of kernel " + name);
  return std::make_shared<const Program>(translate(module, *function));
}

// The kernel with its program. Throws std::runtime_error where there is no such kernel or it cannot be translated.
RegisteredKernel kernel_of(const void* stub) {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  const auto found = known.kernels.find(stub);
  if (found == known.kernels.end()) throw std::runtime_error("a kernel that was never registered");
  RegisteredKernel& kernel = found->second;
  if (!kernel.program) kernel.program = program_named(kernel.fat_binary->parsed(known.architecture), kernel.name);
  return kernel;
}

std::vector<std::byte> packed_parameters(const Program& program, const void* const* arguments) {
  std::vector<std::byte> packed(program.parameter_bytes);
  for (std::size_t i = 0; i < program.parameter_sizes.size(); ++i) {
    std::memcpy(packed.data() + program.parameter_offsets[i], arguments[i], program.parameter_sizes[i]);
  }
  return packed;
}

cudaError_t launch(std::shared_ptr<const Program> translated, std::size_t most_shared_bytes, dim3 grid, dim3 block,
                   const void* const* arguments, std::size_t dynamic_shared_bytes, cudaStream_t stream) {
  const Program& program = *translated;
  const auto launch = std::make_shared<const Launch>(Launch{.program = std::move(translated),
                                                            .grid = grid,
                                                            .block = block,
                                                            .dynamic_shared_bytes = dynamic_shared_bytes,
                                                            .parameters = packed_parameters(program, arguments),
                                                            .traffic = traffic_of_launch(program.name)});
  if (program.most_threads != 0 && launch->threads() > program.most_threads) {
    return hostcuda::refuse(cudaErrorInvalidValue, program.name + ": a block of " + std::to_string(launch->threads()) +
                                                       " threads; __launch_bounds__ allows " +
                                                       std::to_string(program.most_threads));
  }
  if (launch->shared_bytes() > most_shared_bytes) {
    return hostcuda::refuse(cudaErrorInvalidValue, program.name + ": " + std::to_string(launch->shared_bytes()) +
                                                       " bytes of shared memory; a block has " +
                                                       std::to_string(most_shared_bytes));
  }
  const auto run_block = [launch](const hostcuda::BlockPlace& place) {
    return Executor::of_thread().run(*launch, place);
  };
  return hostcuda::launch_blocks(program.name.c_str(), grid, block, dynamic_shared_bytes, stream, run_block);
}

cudaError_t launch_stub(const void* stub, dim3 grid, dim3 block, void** arguments, std::size_t dynamic_shared_bytes,
                        cudaStream_t stream) {
  try {
    const RegisteredKernel kernel = kernel_of(stub);
    return launch(kernel.program, kernel.shared_bytes, grid, block, arguments, dynamic_shared_bytes, stream);
  } catch (const std::runtime_error& error) {
    return hostcuda::refuse(cudaErrorInvalidDeviceFunction, error.what());
  }
}

}  // namespace

std::vector<int> architectures() {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  std::vector<int> all;
  if (known.kernels.empty()) return all;
  // Every object is compiled alike.
  for (const auto& [architecture, text] : ptx_of(known.kernels.begin()->second.fat_binary->data)) {
    all.push_back(architecture);
  }
  return all;
}

int architecture() {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  return known.architecture;
}

void set_architecture(int architecture) {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  known.architecture = architecture;
}

cudaError_t launch_text(const std::string& text, const std::string& kernel, dim3 grid, dim3 block,
                        std::size_t dynamic_shared_bytes, cudaStream_t stream,
                        const std::vector<std::string>& arguments) {
  try {
    // Kept for good, as the modules of registered kernels are: programs point into it.
    const auto& module = *new Module(read_module(text));
    const auto program = program_named(module, kernel);
    if (program->parameter_sizes.size() != arguments.size()) {
      throw std::runtime_error(kernel + " takes " + std::to_string(program->parameter_sizes.size()) +
                               " arguments, not " + std::to_string(arguments.size()));
    }
    std::vector<const void*> pointers;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      if (arguments[i].size() < program->parameter_sizes[i]) {
        throw std::runtime_error(kernel + ": argument " + std::to_string(i) + " has " +
                                 std::to_string(arguments[i].size()) + " bytes, not " +
                                 std::to_string(program->parameter_sizes[i]));
      }
      pointers.push_back(arguments[i].data());
    }
    return launch(program, kSharedBytesByDefault, grid, block, pointers.data(), dynamic_shared_bytes, stream);
  } catch (const std::runtime_error& error) {
    return hostcuda::refuse(cudaErrorInvalidDeviceFunction, error.what());
  }
}

std::vector<std::string> unknown_instructions() {
  Registry& known = registry();
  std::vector<const void*> stubs;
  {
    const std::lock_guard lock(known.mutex);
    for (const auto& [stub, kernel] : known.kernels) stubs.push_back(stub);
  }
  std::vector<std::string> problems;
  for (const void* stub : stubs) {
    for (std::string& problem : problems_of(*kernel_of(stub).program)) problems.push_back(std::move(problem));
  }
  return problems;
}

}  // namespace ptx

// CUDA declares these in its own headers, for its compiler alone.
extern "C" {

void** __cudaRegisterFatBinary(void* data) {
  return reinterpret_cast<void**>(new ptx::FatBinary(data));
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) {
  return 1;
}

void __cudaRegisterFunction(void** fat_binary, const char* stub, char*, const char* name, int, void*, void*, void*,
                            void*, int*) {
  ptx::Registry& known = ptx::registry();
  const std::lock_guard lock(known.mutex);
  known.kernels[stub] = {reinterpret_cast<ptx::FatBinary*>(fat_binary), name, nullptr};
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t dynamic_shared_bytes, cudaStream_t stream) {
  ptx::configurations.push_back({grid, block, dynamic_shared_bytes, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* dynamic_shared_bytes,
                                       cudaStream_t* stream) {
  const ptx::Configuration configuration = ptx::configurations.back();
  ptx::configurations.pop_back();
  *grid = configuration.grid;
  *block = configuration.block;
  *dynamic_shared_bytes = configuration.dynamic_shared_bytes;
  *stream = configuration.stream;
  return cudaSuccess;
}

// A kernel's handle is its stub's address.
cudaError_t __cudaGetKernel(const void** kernel, const void* stub) {
  *kernel = stub;
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments,
                               std::size_t dynamic_shared_bytes, cudaStream_t stream) {
  return ptx::launch_stub(kernel, grid, block, arguments, dynamic_shared_bytes, stream);
}
// The enumeration's values are CUDA's.
cudaError_t cudaFuncSetAttribute(const void* stub, int attribute, int value) {
  constexpr int kMaxDynamicSharedMemorySize = 8;
  ptx::Registry& known = ptx::registry();
  const std::lock_guard lock(known.mutex);
  const auto found = known.kernels.find(stub);
  if (found == known.kernels.end()) {
    return hostcuda::refuse(cudaErrorInvalidDeviceFunction, "a kernel that was never registered");
  }
  if (attribute != kMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<std::size_t>(value) > ptx::kMostSharedBytes) {
    return hostcuda::refuse(cudaErrorInvalidValue, found->second.name + ": attribute " + std::to_string(attribute) +
                                                       " is to be " + std::to_string(value));
  }
  found->second.shared_bytes = static_cast<std::size_t>(value);
  return cudaSuccess;
}
// What older nvcc calls.
cudaError_t cudaLaunchKernel(const void* stub, dim3 grid, dim3 block, void** arguments,
                             std::size_t dynamic_shared_bytes, cudaStream_t stream) {
  return ptx::launch_stub(stub, grid, block, arguments, dynamic_shared_bytes, stream);
}

}  // extern "C"
