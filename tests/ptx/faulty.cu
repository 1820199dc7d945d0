// Kernels that do one thing wrong each, in the line that says so. All are launched with 64 threads, an array of
// 63 elements or of 256 that nothing has written, and one of 256 zeros.

extern "C" __global__ void out_of_bounds(float* to, const float*) {
  to[threadIdx.x] = 1.0f;  // here: out_of_bounds
}

extern "C" __global__ void shared_out_of_bounds(float* to, const float* from) {
  __shared__ float values[64];
  volatile float* const place = values + 64 + static_cast<int>(from[0]);
  *place = 1.0f;  // here: shared_out_of_bounds
  to[0] = values[threadIdx.x];
}

extern "C" __global__ void misaligned(float* to, const float* from) {
  const float2 pair = *reinterpret_cast<const float2*>(from + 1);  // here: misaligned
  to[0] = pair.x + pair.y;
}

extern "C" __global__ void divergent_barrier(float* to, const float* from) {
  if (threadIdx.x < 16) {
    to[threadIdx.x] = from[0];
    __syncthreads();  // here: divergent_barrier
    to[threadIdx.x] = from[1];
  } else {
    __syncthreads();
  }
}

extern "C" __global__ void barrier_of_some_warps(float* to, const float* from) {
  if (threadIdx.x < 32) {
    to[threadIdx.x] = from[0];
    __syncthreads();
    to[threadIdx.x] = from[1];
  } else {
    __syncthreads();  // here: barrier_of_some_warps
  }
}

// Shuffles are written as PTX, since those of CUDA's headers count as lines of these.

extern "C" __global__ void bad_shuffle_mask(float* to, const float* from) {
  const float value = from[threadIdx.x];
  float other;
  asm volatile("shfl.sync.bfly.b32 %0, %1, 1, 31, 0xffff;" : "=f"(other) : "f"(value));  // here: bad_shuffle_mask
  if (threadIdx.x < 63) to[threadIdx.x] = other;
}

extern "C" __global__ void shuffle_from_outside_of_the_mask(float* to, const float* from) {
  const float value = from[threadIdx.x];
  if (threadIdx.x < 16) {
    float other;
    asm volatile("shfl.sync.bfly.b32 %0, %1, 16, 31, 0xffff;"
                 : "=f"(other)
                 : "f"(value));  // here: shuffle_from_outside_of_the_mask
    to[threadIdx.x] = other;
  }
}

extern "C" __global__ void shared_race(float* to, const float* from) {
  __shared__ float values[64];
  values[threadIdx.x] = from[threadIdx.x];
  const float next = values[threadIdx.x ^ 1];  // here: shared_race
  if (threadIdx.x < 63) to[threadIdx.x] = next;
}

extern "C" __global__ void global_race(float* to, const float* from) {
  to[threadIdx.x / 2] = from[threadIdx.x];  // here: global_race
}

extern "C" __global__ void unwritten_shared(float* to, const float* from) {
  __shared__ float values[64];
  if (threadIdx.x < 32) values[threadIdx.x] = from[threadIdx.x];
  __syncthreads();
  const float value = values[threadIdx.x];  // here: unwritten_shared
  if (threadIdx.x < 63) to[threadIdx.x] = value;
}

extern "C" __global__ void unwritten_global(float* to, const float*) {
  if (threadIdx.x < 31) to[threadIdx.x] = to[threadIdx.x + 32];  // here: unwritten_global
}

// ---- of several blocks ----

extern "C" __global__ void race_of_blocks(float* to) {
  to[threadIdx.x] = static_cast<float>(blockIdx.x);
}

// ---- right ----

extern "C" __global__ void reversed_in_order(float* to, const float* from) {
  __shared__ float values[64];
  values[threadIdx.x] = from[threadIdx.x];
  to[threadIdx.x] = 0.0f;
  __syncthreads();
  to[63 - threadIdx.x] = values[threadIdx.x];
}

extern "C" __global__ void read_twice_by_its_writer(float* to, const float*) {
  __shared__ float values[64];
  to[threadIdx.x] = values[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  const volatile float *seen = to, *seen_by_block = values;
  to[threadIdx.x] = seen[threadIdx.x] + seen[threadIdx.x];
  values[threadIdx.x] = seen_by_block[threadIdx.x] + seen_by_block[threadIdx.x];
}
