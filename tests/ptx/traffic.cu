// Kernels whose traffic is known, for one block of 64 threads. `from` and `to` have 4096 elements or more and begin at a
// multiple of 256 bytes.

extern "C" __global__ void coalesced(float* to, const float* from) {
  to[threadIdx.x] = from[threadIdx.x];
}

extern "C" __global__ void stride_2(float* to, const float* from) {
  to[threadIdx.x] = from[2 * threadIdx.x];
}

extern "C" __global__ void stride_32(float* to, const float* from) {
  to[32 * threadIdx.x] = from[threadIdx.x];
}

extern "C" __global__ void one_behind(float* to, const float* from) {
  to[threadIdx.x] = from[threadIdx.x + 1];
}

extern "C" __global__ void broadcast(float* to, const float* from) {
  to[threadIdx.x] = from[threadIdx.x / 32];
}

extern "C" __global__ void four_at_once(float4* to, const float4* from) {
  to[threadIdx.x] = from[threadIdx.x];
}

extern "C" __global__ void half_of_the_lanes(float* to, const float* from) {
  if (threadIdx.x % 2 == 0) to[threadIdx.x] = from[threadIdx.x];
}

extern "C" __global__ void bytes(unsigned char* to, const unsigned char* from) {
  to[threadIdx.x] = from[threadIdx.x];
}

// ---- shared memory: written at distances of 1, read as the name says ----

template <int distance>
__device__ void read_shared(float* to, const float* from) {
  __shared__ float values[64 * 32];
  for (int i = 0; i < 32; ++i) values[64 * i + threadIdx.x] = from[threadIdx.x];
  __syncthreads();
  to[threadIdx.x] = values[distance * threadIdx.x];
}

extern "C" __global__ void shared_broadcast(float* to, const float* from) {
  read_shared<0>(to, from);
}

extern "C" __global__ void shared_no_conflict(float* to, const float* from) {
  read_shared<1>(to, from);
}

extern "C" __global__ void shared_conflict_of_2(float* to, const float* from) {
  read_shared<2>(to, from);
}

extern "C" __global__ void shared_conflict_of_32(float* to, const float* from) {
  read_shared<32>(to, from);
}

// ---- vectors in shared memory, which take a warp several wavefronts ----

__device__ float sum(float4 v) {
  return v.x + v.y + v.z + v.w;
}
__device__ float sum(float2 v) {
  return v.x + v.y;
}

template <class Vector, int distance, int sharers = 1>
__device__ void read_vectors(float* to, const Vector* from) {
  __shared__ Vector values[256];
  for (int i = 0; i < 4; ++i) values[64 * i + threadIdx.x] = from[threadIdx.x];
  __syncthreads();
  to[threadIdx.x] = sum(values[distance * (threadIdx.x / sharers)]);
}

extern "C" __global__ void pairs_in_order(float* to, const float2* from) {
  read_vectors<float2, 1>(to, from);
}

extern "C" __global__ void fours_in_order(float* to, const float4* from) {
  read_vectors<float4, 1>(to, from);
}

extern "C" __global__ void fours_at_every_second(float* to, const float4* from) {
  read_vectors<float4, 2>(to, from);
}

extern "C" __global__ void fours_shared_by_16(float* to, const float4* from) {
  read_vectors<float4, 1, 16>(to, from);
}
