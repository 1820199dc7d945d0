"""The part of Caffe's protobuf messages that nets of this kind use; all other fields are passed over.

Field numbers and names are those of Caffe's ``caffe.proto``. Arrays of packed numbers are declared as the bytes that
they are on the wire, so that NumPy takes them as a whole.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pyalexnet.system.extras import importing_extra

# Name, number and type of each field; * marks those that may occur several times.
_MESSAGES = {
    "BlobShape": "dim*=1:int64",
    "BlobProto": "num=1:int64 channels=2:int64 height=3:int64 width=4:int64 data*=5:bytes shape=7:BlobShape "
    "double_data*=8:bytes",
    "ConvolutionParameter": "num_output=1:uint32 bias_term=2:bool pad*=3:uint32 kernel_size*=4:uint32 group=5:uint32 "
    "stride*=6:uint32 pad_h=9:uint32 pad_w=10:uint32 kernel_h=11:uint32 kernel_w=12:uint32 stride_h=13:uint32 "
    "stride_w=14:uint32 axis=16:int32 dilation*=18:uint32",
    "PoolingParameter": "pool=1:PoolMethod kernel_size=2:uint32 stride=3:uint32 pad=4:uint32 kernel_h=5:uint32 "
    "kernel_w=6:uint32 stride_h=7:uint32 stride_w=8:uint32 pad_h=9:uint32 pad_w=10:uint32 global_pooling=12:bool",
    "LRNParameter": "local_size=1:uint32 alpha=2:float beta=3:float norm_region=4:NormRegion k=5:float",
    "InnerProductParameter": "num_output=1:uint32 bias_term=2:bool axis=5:int32 transpose=6:bool",
    "PowerParameter": "power=1:float scale=2:float shift=3:float",
    "ReLUParameter": "negative_slope=1:float",
    "DropoutParameter": "dropout_ratio=1:float",
    "SliceParameter": "slice_dim=1:uint32 slice_point*=2:uint32 axis=3:int32",
    "ConcatParameter": "concat_dim=1:uint32 axis=2:int32",
    "InputParameter": "shape*=1:BlobShape",
    "TransformationParameter": "scale=1:float crop_size=3:uint32 mean_value*=5:float",
    "LayerParameter": "name=1:string type=2:string bottom*=3:string top*=4:string blobs*=7:BlobProto "
    "transform_param=100:TransformationParameter concat_param=104:ConcatParameter "
    "convolution_param=106:ConvolutionParameter dropout_param=108:DropoutParameter "
    "inner_product_param=117:InnerProductParameter lrn_param=118:LRNParameter pooling_param=121:PoolingParameter "
    "power_param=122:PowerParameter relu_param=123:ReLUParameter slice_param=126:SliceParameter "
    "input_param=143:InputParameter",
    "V1LayerParameter": "bottom*=2:string top*=3:string name=4:string type=5:V1LayerType blobs*=6:BlobProto "
    "concat_param=9:ConcatParameter convolution_param=10:ConvolutionParameter dropout_param=12:DropoutParameter "
    "inner_product_param=17:InnerProductParameter lrn_param=18:LRNParameter pooling_param=19:PoolingParameter "
    "power_param=21:PowerParameter relu_param=30:ReLUParameter slice_param=31:SliceParameter "
    "transform_param=36:TransformationParameter",
    "NetParameter": "name=1:string layers*=2:V1LayerParameter input*=3:string input_dim*=4:int64 "
    "input_shape*=8:BlobShape layer*=100:LayerParameter",
}
_ENUMS = {
    "PoolMethod": "MAX=0 AVE=1 STOCHASTIC=2",
    "NormRegion": "ACROSS_CHANNELS=0 WITHIN_CHANNEL=1",
    "V1LayerType": "NONE=0 ACCURACY=1 BNLL=2 CONCAT=3 CONVOLUTION=4 DATA=5 DROPOUT=6 EUCLIDEAN_LOSS=7 FLATTEN=8 "
    "HDF5_DATA=9 HDF5_OUTPUT=10 IM2COL=11 IMAGE_DATA=12 INFOGAIN_LOSS=13 INNER_PRODUCT=14 LRN=15 "
    "MULTINOMIAL_LOGISTIC_LOSS=16 POOLING=17 RELU=18 SIGMOID=19 SOFTMAX=20 SOFTMAX_LOSS=21 SPLIT=22 TANH=23 "
    "WINDOW_DATA=24 ELTWISE=25 POWER=26 SIGMOID_CROSS_ENTROPY_LOSS=27 HINGE_LOSS=28 MEMORY_DATA=29 ARGMAX=30 "
    "THRESHOLD=31 DUMMY_DATA=32 SLICE=33 MVN=34 ABSVAL=35 SILENCE=36 CONTRASTIVE_LOSS=37 EXP=38 DECONVOLUTION=39",
}
_DEFAULTS = {
    "ConvolutionParameter": {"bias_term": "true", "group": "1", "axis": "1"},
    "PoolingParameter": {"stride": "1"},
    "LRNParameter": {"local_size": "5", "alpha": "1", "beta": "0.75", "k": "1"},
    "InnerProductParameter": {"bias_term": "true", "axis": "1"},
    "PowerParameter": {"power": "1", "scale": "1", "shift": "0"},
    "DropoutParameter": {"dropout_ratio": "0.5"},
    "SliceParameter": {"axis": "1", "slice_dim": "1"},
    "ConcatParameter": {"axis": "1", "concat_dim": "1"},
    "TransformationParameter": {"scale": "1"},
}


@cache
def _classes() -> dict[str, Any]:
    """The messages' classes; in a pool of their own, whatever else in the process knows Caffe.

    Raises:
        MissingLibraryError: protobuf is not installed.
    """
    with importing_extra():
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in (each.split("=") for each in values.split()):
            enum.value.add(name=value, number=int(number))
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for each in fields.split():
            label, kind = each.split(":")
            called, number = label.split("=")
            field = message.field.add(name=called.rstrip("*"), number=int(number))
            field.label = kinds.LABEL_REPEATED if called.endswith("*") else kinds.LABEL_OPTIONAL
            if kind in _MESSAGES or kind in _ENUMS:
                field.type = kinds.TYPE_MESSAGE if kind in _MESSAGES else kinds.TYPE_ENUM
                field.type_name = f".caffe.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
            default = _DEFAULTS.get(name, {}).get(field.name)
            if default is not None:
                field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in _MESSAGES}


def new_net() -> Any:
    """An empty NetParameter."""
    return _classes()["NetParameter"]()


def new_blob() -> Any:
    """An empty BlobProto."""
    return _classes()["BlobProto"]()
