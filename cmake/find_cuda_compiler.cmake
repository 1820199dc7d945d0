# Decides whether the cuda target is built, and with which compilers.
#
# Reads PYALEXNET_CUDA. Sets cuda_compiler (nvcc's path, empty: no cuda target), cuda_version, cuda_host_compiler
# (a C++ compiler that this nvcc accepts) and cuda_summary (what was decided, in one line).

set(oldest_cuda 12.0)

function(find_nvcc result)
  if(PYALEXNET_CUDA STREQUAL PYPI)
    # Version 13 of NVIDIA's packages fills nvidia/cu13/ with bin, include, lib and nvvm.
    execute_process(
      COMMAND ${Python_EXECUTABLE} -c "import nvidia; print(*nvidia.__path__, sep=';')"
      OUTPUT_VARIABLE package_dirs OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    list(TRANSFORM package_dirs APPEND /cu13)
    find_program(program nvcc NO_CACHE NO_DEFAULT_PATH PATHS ${package_dirs} PATH_SUFFIXES bin)
  elseif(DEFINED ENV{CUDACXX})
    find_program(program "$ENV{CUDACXX}" NO_CACHE)
  else()
    find_program(program nvcc NO_CACHE PATHS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  endif()
  set(${result} ${program} PARENT_SCOPE)
endfunction()

# The first host compiler with which `nvcc` compiles a file; empty where it accepts none. An nvcc refuses a GCC
# that is newer than itself, so older ones are tried after the compiler of the other targets.
function(find_cuda_host_compiler result nvcc)
  set(probe ${CMAKE_CURRENT_BINARY_DIR}/host_compiler_probe)
  file(WRITE ${probe}.cu "#include <cuda_runtime.h>\n#include <string>\n__global__ void probe_kernel() {}\n")
  foreach(candidate IN ITEMS ${CMAKE_CUDA_HOST_COMPILER} $ENV{CUDAHOSTCXX} ${CMAKE_CXX_COMPILER}
                             g++ g++-15 g++-14 g++-13 g++-12 g++-11 clang++)
    find_program(host_compiler ${candidate} NO_CACHE)
    if(host_compiler)
      execute_process(COMMAND ${nvcc} -std=c++20 -ccbin ${host_compiler} -c ${probe}.cu -o ${probe}.o
                      RESULT_VARIABLE status OUTPUT_QUIET ERROR_QUIET)
      if(status EQUAL 0)
        set(${result} ${host_compiler} PARENT_SCOPE)
        return()
      endif()
    endif()
    unset(host_compiler)
  endforeach()
  set(${result} "" PARENT_SCOPE)
endfunction()

set(cuda_compiler "")
if(PYALEXNET_CUDA STREQUAL OFF)
  set(cuda_summary "no cuda module, as PYALEXNET_CUDA=OFF asks")
  return()
endif()

find_nvcc(nvcc)
set(problem "")
if(NOT nvcc)
  if(PYALEXNET_CUDA STREQUAL PYPI)
    set(problem "${Python_EXECUTABLE} has no nvidia-cuda-nvcc of version 13. Set PYALEXNET_CUDA=PYPI as an "
                "environment variable of pip install, which then brings it. Without build isolation, install it "
                "yourself.")
  else()
    set(problem "no CUDA compiler was found (looked for nvcc in CUDACXX, PATH, CUDA_HOME, CUDA_PATH and "
                "/usr/local/cuda). Install the CUDA toolkit ${oldest_cuda} or newer, set CUDACXX to its nvcc, or "
                "set PYALEXNET_CUDA=PYPI to take the compiler from NVIDIA's packages on PyPI.")
  endif()
else()
  execute_process(COMMAND ${nvcc} --version OUTPUT_VARIABLE version_text ERROR_QUIET)
  string(REGEX MATCH "release ([0-9.]+)" release "${version_text}")
  set(cuda_version ${CMAKE_MATCH_1})
  if(NOT release OR cuda_version VERSION_LESS oldest_cuda)
    set(problem "${nvcc} is CUDA \"${cuda_version}\"; ${oldest_cuda} or newer is needed.")
  else()
    find_cuda_host_compiler(cuda_host_compiler ${nvcc})
    if(NOT cuda_host_compiler)
      set(problem "${nvcc} (CUDA ${cuda_version}) accepts none of the C++ compilers on this machine. "
                  "Set CUDAHOSTCXX to one that this CUDA version supports.")
    endif()
  endif()
endif()
string(CONCAT problem ${problem})

if(NOT problem)
  set(cuda_compiler ${nvcc})
elseif(PYALEXNET_CUDA STREQUAL AUTO)
  set(cuda_summary "no cuda module: ${problem}")
else()
  message(FATAL_ERROR "PYALEXNET_CUDA=${PYALEXNET_CUDA}, but ${problem} PYALEXNET_CUDA=OFF builds without CUDA.")
endif()
