"""Which operators of a .tflite file leave a phone's fast processors, by what their delegates are documented to take.

A graph that a delegate does not take as a whole is cut there: the CPU computes the operator in between, and tensors are
copied there and back. Nothing here has run on a phone; the lists are those of google-ai-edge/LiteRT at f67457790
(21 August 2026), and delegates refuse some shapes and types of what they list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.sessions.litert import bare_interpreter


@dataclass(frozen=True)
class Delegate:
    """A way to another processor.

    Attributes:
        title: for people.
        source: the file that says what it takes.
        takes: names of operators, separated by spaces.
    """

    title: str
    source: str
    takes: str


DELEGATES = (
    # CAST is parsed as well, but not from uint8 (gpu_compatibility.cc): a frame becomes float on the CPU.
    Delegate("GPU", "tflite/delegates/gpu/common/model_builder.cc", """
        ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D COS CUMSUM DENSIFY DEPTHWISE_CONV_2D
        DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU
        GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC LSTM MAXIMUM
        MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE
        REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
        RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT
        SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV UNPACK"""),
    Delegate("NNAPI", "tflite/delegates/nnapi/nnapi_delegate.cc", """
        ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BIDIRECTIONAL_SEQUENCE_LSTM CAST
        CONCATENATION CONV_2D COS DENSIFY DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EMBEDDING_LOOKUP
        EQUAL EXP EXPAND_DIMS FILL FLOOR FULLY_CONNECTED GATHER GREATER GREATER_EQUAL HARD_SWISH
        HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG
        LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX LSH_PROJECTION LSTM MAXIMUM MAX_POOL_2D MEAN
        MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_ANY REDUCE_MAX REDUCE_MIN
        REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RNN RSQRT
        SELECT SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARED_DIFFERENCE SQUEEZE
        STRIDED_SLICE SUB SUM SVDF TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
        UNIDIRECTIONAL_SEQUENCE_RNN UNPACK"""),
    Delegate("Qualcomm", "litert/vendors/qualcomm/compiler/Qualcomm_QNN_Compiler.md", """
        ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_TO CAST CEIL
        CONCATENATION CONV_2D CONV_3D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
        DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER
        GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL
        LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
        NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN RELU
        RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT
        SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
        SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK"""),
    Delegate("MediaTek Neuron", "litert/vendors/mediatek/compiler/MediaTek_Neuro_Compiler.md", """
        ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE DIV
        FULLY_CONNECTED GELU GREATER HARD_SWISH L2_NORMALIZATION LEAKY_RELU LESS LOGISTIC MAXIMUM MAX_POOL_2D
        MEAN MINIMUM MUL PAD PADV2 PRELU QUANTIZE REDUCE_MAX RELU RESHAPE RESIZE_BILINEAR
        RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPLIT SQRT SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH
        TRANSPOSE TRANSPOSE_CONV"""),
)
"""Android's GPU delegate; NNAPI, which Android 15 has deprecated; and the two makers' compilers for their NPUs."""


def operators(model: bytes) -> dict[str, int]:
    """How often each operator occurs, the most frequent first."""
    return dict(Counter(op["op_name"] for op in bare_interpreter(model)._get_ops_details()).most_common())


def refused(present: Iterable[str]) -> dict[str, list[str]]:
    """Delegate's title → the operators that it does not take, sorted; delegates that take all are left out."""
    found = {delegate.title: sorted(set(present) - set(delegate.takes.split())) for delegate in DELEGATES}
    return {title: names for title, names in found.items() if names}


def report(present: Iterable[str]) -> list[str]:
    """One line for each delegate that refuses something."""
    source = {delegate.title: delegate.source for delegate in DELEGATES}
    return [f"{title} leaves {', '.join(names)} to the CPU ({source[title]})"
            for title, names in refused(present).items()]
