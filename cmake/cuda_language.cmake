# CUDA as a language of the directory that includes this, with the compilers that find_cuda_compiler.cmake found and
# without architectures: the directory chooses them. CMAKE_CUDA_RUNTIME_LIBRARY is to be set before.
#
# Sets cuda_options, with which all kernels are compiled.

set(CMAKE_CUDA_COMPILER ${cuda_compiler})
set(CMAKE_CUDA_HOST_COMPILER ${cuda_host_compiler})
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)

# -ftz: denormals are zero, which makes division and square root cheaper; no value here needs them.
# Unknown pragmas: nvcc hands its own on to the host compiler.
set(cuda_options -ftz=true -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas
                 $<$<BOOL:${PYALEXNET_WERROR}>:-Werror=all-warnings -Xcompiler=-Werror>)
