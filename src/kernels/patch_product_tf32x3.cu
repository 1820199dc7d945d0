#include "kernels/patch_product_in.cuh"

namespace pyalexnet {

#if !defined(PYALEXNET_TARGET_CPU)  // where fp32's tiles serve all
PYALEXNET_PATCH_PRODUCT_IN(, Precision::kTf32x3);
#endif

}  // namespace pyalexnet
