"""Every operation of the evaluator against numbers worked out by hand from Apple's description of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.coreml.reference import Evaluator, MilProgram, Operation, TensorType, read_package
from export.coreml.reference.evaluate import HANDLERS
from export.coreml.reference.read import Text, unpack
from export.coreml.reference.resampling import grid
from runtime.errors import UserError


def t(*values: Any, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """Floats in one line; `shape` spreads them."""
    tensor = torch.tensor(values, dtype=torch.float32)
    return tensor.reshape(shape) if shape else tensor


def i(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


RAMP = t(*range(1, 10), shape=(1, 1, 3, 3))
TWO = t(0, 1, 2, 3, shape=(1, 1, 2, 2))
EPSILON = {"epsilon": t(0.0)[0]}

CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("abs", {"x": t(-2, 3)}, [2, 3]),
    ("ceil", {"x": t(1.2, -1.2)}, [2, -1]),
    ("floor", {"x": t(1.2, -1.2)}, [1, -2]),
    ("round", {"x": t(0.5, 1.5, -0.6)}, [0, 2, -1]),
    ("sign", {"x": t(-3, 0, 5)}, [-1, 0, 1]),
    ("square", {"x": t(-3, 2)}, [9, 4]),
    ("sqrt", {"x": t(9, 4)}, [3, 2]),
    ("rsqrt", {"x": t(0.25), **EPSILON}, [2]),
    ("inverse", {"x": t(3), "epsilon": t(1)[0]}, [0.25]),
    ("exp", {"x": t(0)}, [1]),
    ("exp2", {"x": t(3)}, [8]),
    ("log", {"x": t(1)}, [0]),
    ("erf", {"x": t(0, 40)}, [0, 1]),
    ("sin", {"x": t(0)}, [0]),
    ("cos", {"x": t(0)}, [1]),
    ("tanh", {"x": t(0, 40)}, [0, 1]),
    ("logical_not", {"x": torch.tensor([True, False])}, [0, 1]),
    ("identity", {"x": t(7)}, [7]),
    ("clip", {"x": t(-1, 0.5, 9), "alpha": t(0)[0], "beta": t(6)[0]}, [0, 0.5, 6]),
    ("threshold", {"x": t(-1, 3), "alpha": t(2)[0]}, [2, 3]),
    ("cast", {"x": t(-1.7, 1.7), "dtype": "int32"}, [-1, 1]),
    ("cast", {"x": t(0, 0.3), "dtype": "bool"}, [0, 1]),
    ("cast", {"x": i(2), "dtype": "fp32"}, [2.0]),
    ("add", {"x": t(1, 2), "y": t(10)}, [11, 12]),
    ("sub", {"x": t(1, 2), "y": t(10)}, [-9, -8]),
    ("mul", {"x": t(1, 2), "y": t(10)}, [10, 20]),
    ("real_div", {"x": t(1, 2), "y": t(4)}, [0.25, 0.5]),
    ("floor_div", {"x": t(7, -7), "y": t(2)}, [3, -4]),
    ("mod", {"x": t(7, -7), "y": t(4)}, [3, 1]),
    ("pow", {"x": t(2, 3), "y": t(3)}, [8, 27]),
    ("maximum", {"x": t(1, 5), "y": t(3)}, [3, 5]),
    ("minimum", {"x": t(1, 5), "y": t(3)}, [1, 3]),
    ("equal", {"x": t(1, 2), "y": t(2)}, [0, 1]),
    ("not_equal", {"x": t(1, 2), "y": t(2)}, [1, 0]),
    ("greater", {"x": t(1, 2, 3), "y": t(2)}, [0, 0, 1]),
    ("greater_equal", {"x": t(1, 2, 3), "y": t(2)}, [0, 1, 1]),
    ("less", {"x": t(1, 2, 3), "y": t(2)}, [1, 0, 0]),
    ("less_equal", {"x": t(1, 2, 3), "y": t(2)}, [1, 1, 0]),
    ("logical_and", {"x": torch.tensor([True, True]), "y": torch.tensor([True, False])}, [1, 0]),
    ("logical_or", {"x": torch.tensor([True, False]), "y": torch.tensor([False, False])}, [1, 0]),
    ("logical_xor", {"x": torch.tensor([True, True]), "y": torch.tensor([True, False])}, [0, 1]),
    ("select", {"cond": torch.tensor([True, False]), "a": t(1, 2), "b": t(3, 4)}, [1, 4]),
    ("relu", {"x": t(-1, 2)}, [0, 2]),
    ("relu6", {"x": t(-1, 7)}, [0, 6]),
    ("sigmoid", {"x": t(0)}, [0.5]),
    ("silu", {"x": t(0, 40)}, [0, 40]),
    ("softplus", {"x": t(0)}, [np.log(2)]),
    ("softsign", {"x": t(1, -3)}, [0.5, -0.75]),
    ("gelu", {"x": t(0, 40, -40)}, [0, 40, 0]),
    ("gelu", {"x": t(1), "mode": "SIGMOID_APPROXIMATION"}, [1 / (1 + np.exp(-1.702))]),
    ("gelu", {"x": t(1), "mode": "TANH_APPROXIMATION"}, [0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * 1.044715))]),
    ("leaky_relu", {"x": t(-10, 2), "alpha": t(0.1)[0]}, [-1, 2]),
    ("elu", {"x": t(2, -40), "alpha": t(3)[0]}, [2, -3]),
    ("linear_activation", {"x": t(2), "alpha": t(3)[0], "beta": t(1)[0]}, [7]),
    ("scaled_tanh", {"x": t(40), "alpha": t(3)[0], "beta": t(1)[0]}, [3]),
    ("prelu", {"x": t(-1, -1, shape=(1, 2, 1, 1)), "alpha": t(0.5, 0.25)}, [[[[-0.5]], [[-0.25]]]]),
    ("clamped_relu", {"x": t(-4, 1, 9), "alpha": t(0.5)[0], "beta": t(6)[0]}, [-2, 1, 6]),
    ("sigmoid_hard", {"x": t(-9, 0, 1, 9), "alpha": t(0.25)[0], "beta": t(0.5)[0]}, [0, 0.5, 0.75, 1]),
    ("thresholded_relu", {"x": t(-4, -3, 2), "alpha": t(-3)[0]}, [0, -3, 2]),
    ("softmax", {"x": t(0, np.log(3), shape=(1, 2)), "axis": i(1)[0]}, [[0.25, 0.75]]),
    ("reduce_mean", {"x": RAMP, "axes": i(-2, -1), "keep_dims": torch.tensor(True)}, [[[[5]]]]),
    ("reduce_mean", {"x": RAMP}, 5),
    ("reduce_sum", {"x": RAMP, "axes": i(-1)}, [[[6, 15, 24]]]),
    ("reduce_max", {"x": RAMP, "axes": i(-2)}, [[[7, 8, 9]]]),
    ("reduce_min", {"x": RAMP, "axes": i(-2)}, [[[1, 2, 3]]]),
    ("reduce_log_sum_exp", {"x": t(0, 0), "axes": i(0)}, np.log(2)),
    ("reduce_l2_norm", {"x": t(3, 4), "axes": i(0)}, 5),
    ("reduce_argmax", {"x": t(1, 5, 5, 2, shape=(1, 4)), "axis": i(1)[0]}, [1]),
    ("reduce_argmin", {"x": t(3, 1, shape=(1, 2)), "axis": i(1)[0], "keep_dims": torch.tensor(True)}, [[1]]),
    ("linear", {"x": t(1, 2, shape=(1, 2)), "weight": t(1, 0, 3, 4, shape=(2, 2)), "bias": t(0, 10)}, [[1, 21]]),
    ("matmul", {"x": t(1, 2, shape=(2, 1)), "y": t(3, 4, shape=(2, 1)), "transpose_x": torch.tensor(True)}, [[11]]),
    ("matmul", {"x": t(1, 2, shape=(1, 2)), "y": t(3, 4, shape=(1, 2)), "transpose_y": torch.tensor(True)}, [[11]]),
    ("einsum", {"values": (t(1, 2, shape=(1, 2)), t(3, 4, shape=(2, 1))), "equation": "ij,jk->ik"}, [[11]]),
    # moving values about
    ("reshape", {"x": t(1, 2, 3, 4, shape=(2, 2)), "shape": i(0, 1, -1)}, [[[1, 2]], [[3, 4]]]),
    ("expand_dims", {"x": t(1, 2), "axes": i(0, 2)}, [[[1], [2]]]),
    ("squeeze", {"x": t(1, 2, shape=(1, 2, 1)), "axes": i(0)}, [[1], [2]]),
    ("squeeze", {"x": t(1, 2, shape=(1, 2, 1))}, [1, 2]),
    ("transpose", {"x": t(1, 2, 3, 4, shape=(2, 2)), "perm": i(1, 0)}, [[1, 3], [2, 4]]),
    ("flatten2d", {"x": t(*range(8), shape=(2, 2, 2)), "axis": i(2)[0]}, [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ("slice_by_index", {"x": t(*range(6)), "begin": i(1), "end": i(5), "stride": i(2)}, [1, 3]),
    ("slice_by_index", {"x": t(*range(6)), "begin": i(-1), "end": i(0), "squeeze_mask": i(1)}, 5),
    ("slice_by_index", {"x": t(0, 1, 2), "begin": i(2), "end": i(0), "stride": i(-1), "end_mask": i(1)}, [2, 1, 0]),
    ("slice_by_index", {"x": t(0, 1, 2), "begin": i(2), "end": i(2), "begin_mask": i(1)}, [0, 1]),
    ("slice_by_size", {"x": t(*range(6)), "begin": i(2), "size": i(-1)}, [2, 3, 4, 5]),
    ("slice_by_size", {"x": t(*range(6)), "begin": i(2), "size": i(2)}, [2, 3]),
    ("concat", {"values": (t(1, 2), t(3)), "axis": i(0)[0]}, [1, 2, 3]),
    ("concat", {"values": (t(1, 2), t(3, 4)), "axis": i(0)[0], "interleave": torch.tensor(True)}, [1, 3, 2, 4]),
    ("stack", {"values": (t(1), t(2)), "axis": i(0)[0]}, [[1], [2]]),
    ("tile", {"x": t(1, 2), "reps": i(2)}, [1, 2, 1, 2]),
    ("pad", {"x": t(1, 2, shape=(1, 2)), "pad": i(0, 1, 2, 0), "constant_val": t(9)[0]}, [[9, 9, 1, 2], [9, 9, 9, 9]]),
    ("pad", {"x": t(1, 2, 3, shape=(1, 1, 3)), "pad": i(0, 0, 2, 1), "mode": "reflect"}, [[[3, 2, 1, 2, 3, 2]]]),
    ("pad", {"x": t(1, 2, shape=(1, 1, 2)), "pad": i(1, 1), "mode": "replicate"}, [[[1, 1, 2, 2]]]),
    ("crop", {"x": RAMP, "crop_height": i(1, 0), "crop_width": i(0, 2)}, [[[[4], [7]]]]),
    ("reverse", {"x": t(1, 2, 3), "axes": i(0)}, [3, 2, 1]),
    ("shape", {"x": RAMP}, [1, 1, 3, 3]),
    ("fill", {"shape": i(1, 2), "value": t(3)[0]}, [[3, 3]]),
    ("fill_like", {"ref_tensor": t(1, 2), "value": t(3)[0]}, [3, 3]),
    ("range_1d", {"start": i(1)[0], "end": i(6)[0], "step": i(2)[0]}, [1, 3, 5]),
    ("gather", {"x": t(*range(6), shape=(2, 3)), "indices": i(2, -3), "axis": i(1)[0]}, [[2, 0], [5, 3]]),
    ("gather", {"x": t(4, 5, 6), "indices": i(1)[0], "axis": i(0)[0]}, 5),
    ("gather_along_axis", {"x": t(1, 2, 3, 4, shape=(2, 2)), "indices": i(1, 0).reshape(2, 1), "axis": i(1)[0]},
     [[2], [3]]),
    ("pixel_shuffle", {"x": t(1, 2, 3, 4, shape=(1, 4, 1, 1)), "upscale_factor": i(2)[0]}, [[[[1, 2], [3, 4]]]]),
    ("pixel_unshuffle", {"x": t(1, 2, 3, 4, shape=(1, 1, 2, 2)), "downscale_factor": i(2)[0]},
     [[[[1]], [[2]], [[3]], [[4]]]]),
    # eight channels tell the two orders apart: depth_to_space takes block positions from channels 0, 2, 4, 6
    ("depth_to_space", {"x": t(*range(8), shape=(1, 8, 1, 1)), "block_size": i(2)[0]},
     [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]]),
    ("space_to_depth", {"x": t(0, 2, 4, 6, 1, 3, 5, 7, shape=(1, 2, 2, 2)), "block_size": i(2)[0]},
     [[[[v]] for v in range(8)]]),
    ("cumsum", {"x": t(1, 2, 3), "axis": i(0)[0]}, [1, 3, 6]),
    # windows
    ("conv", {"x": RAMP, "weight": t(1, 0, 0, 1, shape=(1, 1, 2, 2)), "bias": t(100)}, [[[[106, 108], [112, 114]]]]),
    ("conv", {"x": RAMP, "weight": t(1, 0, 0, 1, shape=(1, 1, 2, 2)), "dilations": i(2, 2)}, [[[[10]]]]),
    ("conv", {"x": RAMP, "weight": t(1, shape=(1, 1, 1, 1)), "strides": i(2, 2)}, [[[[1, 3], [7, 9]]]]),
    ("conv", {"x": t(1, 2, 3, 4, shape=(1, 2, 1, 2)), "weight": t(10, 100, shape=(2, 1, 1, 1)), "groups": i(2)[0]},
     [[[[10, 20]], [[300, 400]]]]),
    ("conv", {"x": t(1, 2, shape=(1, 1, 1, 2)), "weight": t(1, 1, shape=(1, 1, 1, 2)), "pad_type": "custom",
              "pad": i(0, 0, 1, 0)}, [[[[1, 3]]]]),
    ("conv", {"x": t(1, 2, shape=(1, 1, 1, 2)), "weight": t(1, 1, shape=(1, 1, 1, 2)), "pad_type": "same"},
     [[[[3, 2]]]]),
    ("conv", {"x": t(1, 2, shape=(1, 1, 1, 2)), "weight": t(1, 1, shape=(1, 1, 1, 2)), "pad_type": "same_lower"},
     [[[[1, 3]]]]),
    ("conv", {"x": t(1, 2, 4, shape=(1, 1, 3)), "weight": t(1, 1, shape=(1, 1, 2))}, [[[3, 6]]]),
    ("conv_transpose", {"x": t(1, 2, shape=(1, 1, 1, 2)), "weight": t(1, 10, shape=(1, 1, 1, 2)), "strides": i(1, 2),
                        "bias": t(1)}, [[[[2, 11, 3, 21]]]]),
    ("conv_transpose", {"x": t(1, 2, shape=(1, 1, 1, 2)), "weight": t(1, 10, shape=(1, 1, 1, 2)), "strides": i(1, 2),
                        "pad_type": "custom", "pad": i(0, 0, 1, 1)}, [[[[10, 2]]]]),
    ("conv_transpose", {"x": t(1, 2, shape=(1, 1, 1, 2)), "weight": t(1, shape=(1, 1, 1, 1)), "strides": i(1, 2),
                        "output_shape": i(1, 1, 1, 4)}, [[[[1, 0, 2, 0]]]]),
    ("max_pool", {"x": RAMP, "kernel_sizes": i(2, 2), "strides": i(2, 2), "pad_type": "valid"}, [[[[5]]]]),
    ("max_pool", {"x": RAMP, "kernel_sizes": i(2, 2), "strides": i(2, 2), "pad_type": "valid",
                  "ceil_mode": torch.tensor(True)}, [[[[5, 6], [8, 9]]]]),
    ("max_pool", {"x": -RAMP, "kernel_sizes": i(3, 3), "strides": i(2, 2), "pad_type": "custom",
                  "pad": i(1, 1, 1, 1)}, [[[[-1, -2], [-4, -5]]]]),
    ("avg_pool", {"x": RAMP, "kernel_sizes": i(2, 2), "strides": i(1, 1), "pad_type": "valid"}, [[[[3, 4], [6, 7]]]]),
    ("avg_pool", {"x": t(8, shape=(1, 1, 1, 1)), "kernel_sizes": i(2, 2), "pad_type": "custom",
                  "pad": i(1, 0, 1, 0)}, [[[[2]]]]),
    ("avg_pool", {"x": t(8, shape=(1, 1, 1, 1)), "kernel_sizes": i(2, 2), "pad_type": "custom",
                  "pad": i(1, 0, 1, 0), "exclude_padding_from_average": torch.tensor(True)}, [[[[8]]]]),
    ("avg_pool", {"x": t(1, 2, 3, shape=(1, 1, 1, 3)), "kernel_sizes": i(1, 2), "strides": i(1, 2),
                  "pad_type": "valid", "ceil_mode": torch.tensor(True)}, [[[[1.5, 3]]]]),
    ("batch_norm", {"x": t(5, 7, shape=(1, 2, 1, 1)), "mean": t(1, 1), "variance": t(4, 9), "gamma": t(1, 10),
                    "beta": t(0, 1), **EPSILON}, [[[[2]], [[21]]]]),
    ("instance_norm", {"x": t(1, 3, shape=(1, 1, 1, 2)), "gamma": t(10), "beta": t(1), **EPSILON}, [[[[-9, 11]]]]),
    ("layer_norm", {"x": t(1, 3, shape=(1, 2)), "axes": i(-1), "gamma": t(10, 1), "beta": t(0, 1), **EPSILON},
     [[-10, 2]]),
    # other sizes: 2×2 with values 0 1 / 2 3 makes the column grid visible in the first row
    ("upsample_bilinear", {"x": TWO[:, :, :1], "scale_factor_width": i(2)[0], "align_corners": torch.tensor(False)},
     [[[[0, 0.25, 0.75, 1]]]]),
    ("upsample_bilinear", {"x": TWO[:, :, :1], "scale_factor_width": i(2)[0]}, [[[[0, 1 / 3, 2 / 3, 1]]]]),
    ("upsample_bilinear", {"x": TWO[:, :, :1], "scale_factor_width": i(2)[0], "align_corners": torch.tensor(False),
                           "half_pixel_centers": torch.tensor(False)}, [[[[0, 0.5, 1, 1]]]]),
    ("upsample_bilinear", {"x": TWO[..., :1], "scale_factor_height": i(2)[0], "align_corners": torch.tensor(False)},
     [[[[0], [0.5], [1.5], [2]]]]),
    ("resize_bilinear", {"x": TWO, "target_size_height": i(1)[0], "target_size_width": i(4)[0],
                         "sampling_mode": "UNALIGN_CORNERS"}, [[[[1, 1.25, 1.75, 2]]]]),
    ("resize", {"x": TWO, "shape": i(3, 0), "resized_dims": i(2)[0], "sampling_mode": "STRICT_ALIGN_CORNERS"},
     [[[[0, 1], [1, 2], [2, 3]]]]),
    ("resize", {"x": TWO, "shape": i(2, 3), "resized_dims": i(2)[0], "interpolation_mode": "NEAREST_NEIGHBOR"},
     [[[[0, 0, 1], [2, 2, 3]]]]),
    ("upsample_nearest_neighbor", {"x": TWO, "scale_factor_width": t(1.5)[0]}, [[[[0, 0, 1], [2, 2, 3]]]]),
    ("resize_nearest_neighbor", {"x": RAMP, "target_size_height": i(1)[0], "target_size_width": i(2)[0]},
     [[[[1, 2]]]]),
    # quantised forms
    ("const", {"val": t(3)}, [3]),
    ("constexpr_affine_dequantize", {"quantized_data": i(1, 2, 3, 4).reshape(2, 2), "zero_point": i(1, 2),
                                     "scale": t(10, 100), "axis": i(0)[0]}, [[0, 10], [100, 200]]),
    ("constexpr_blockwise_shift_scale", {"data": i(1, 2, 3, 4).reshape(1, 4), "scale": t(10, 100, shape=(1, 2)),
                                         "offset": i(1, 3).reshape(1, 2)}, [[0, 10, 0, 100]]),
    ("constexpr_cast", {"source_val": t(2), "output_dtype": "fp32"}, [2]),
    # 0b11100100 holds 0, 1, 2, 3 from the lowest bits upwards, 0b01 the fifth index
    ("constexpr_lut_to_dense", {"indices": i(0b11100100, 0b01), "lut": t(5, 6, 7, 8), "shape": i(5)}, [5, 6, 7, 8, 6]),
    # two palettes, one per row
    ("constexpr_lut_to_dense", {"indices": i(0, 1, 1, 0).reshape(2, 2), "lut": t(5, 6, 7, 8, shape=(2, 1, 2, 1))},
     [[5, 6], [8, 7]]),
    ("constexpr_lut_to_dense", {"indices": i(0, 1).reshape(2, 1), "lut": t(1, 2, 3, 4, shape=(1, 1, 2, 2)),
                                "vector_axis": i(0)[0]}, [[1], [2], [3], [4]]),
    ("constexpr_sparse_to_dense", {"nonzero_data": t(7, 8), "mask": i(0b101), "shape": i(3)}, [7, 0, 8]),
    ("constexpr_sparse_to_dense", {"nonzero_data": t(7), "mask": i(0, 1)}, [0, 7]),
    ("quantize", {"input": t(-1000, 0.5, 1.5, 2.6, 1000), "scale": t(1)[0], "output_dtype": "int8"},
     [-128, 0, 2, 3, 127]),
    ("quantize", {"input": t(-1, 2, shape=(2, 1)), "scale": t(0.5, 1), "zero_point": i(10, 20), "axis": i(0)[0],
                  "output_dtype": "uint8"}, [[8], [22]]),
    ("dequantize", {"input": i(8, 22), "scale": t(0.5)[0], "zero_point": i(10)[0]}, [-1, 6]),
]


@pytest.mark.parametrize(("kind", "parameters", "expected"), CASES,
                         ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_an_operation_gives_the_numbers_of_its_description(kind: str, parameters: dict[str, Any],
                                                           expected: Any) -> None:
    result = HANDLERS[kind](parameters)
    expected = np.array(expected, dtype=np.float64)
    assert tuple(result.shape) == expected.shape
    np.testing.assert_allclose(result.double().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_every_operation_that_the_evaluator_knows_has_a_case() -> None:
    own_tests = {"split", "resample"}
    assert HANDLERS.keys() - own_tests == {kind for kind, _, _ in CASES}


def test_split_gives_the_parts_by_number_and_by_size() -> None:
    halves = HANDLERS["split"]({"x": t(1, 2, 3, 4), "num_splits": i(2)[0], "axis": i(0)[0]})
    assert [part.tolist() for part in halves] == [[1, 2], [3, 4]]
    parts = HANDLERS["split"]({"x": t(1, 2, 3), "split_sizes": i(1, 2), "axis": i(0)[0]})
    assert [part.tolist() for part in parts] == [[1], [2, 3]]


@pytest.mark.parametrize(("mode", "target", "expected"), [
    # the tables in MIL's description of resize_bilinear, for an axis of two pixels
    ("UNALIGN_CORNERS", 5, [0, 0.1, 0.5, 0.9, 1]),
    ("STRICT_ALIGN_CORNERS", 5, [0, 0.25, 0.5, 0.75, 1]),
    ("DEFAULT", 5, [0, 0.4, 0.8, 1, 1]),
    ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
    ("UNALIGN_CORNERS", 6, [0, 0, 1 / 3, 2 / 3, 1, 1]),
    ("ALIGN_CORNERS", 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ("DEFAULT", 6, [0, 1 / 3, 2 / 3, 1, 1, 1]),
    ("OFFSET_CORNERS", 6, [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12]),
    ("STRICT_ALIGN_CORNERS", 1, [0]),
    ("ALIGN_CORNERS", 1, [0.5]),
])
def test_the_grids_are_those_of_the_description(mode: str, target: int, expected: list[float]) -> None:
    np.testing.assert_allclose(grid(mode, 2, target), expected, atol=1e-12)


def sample(x: float, y: float, padding: str, *, mode: str = "unnormalized", corners: bool = True,
           sampling: str = "bilinear", outside: float = 0.0) -> float:
    """One place of the 3×3 ramp 1..9."""
    result = HANDLERS["resample"]({
        "x": RAMP, "coordinates": t(x, y, shape=(1, 1, 1, 2)), "sampling_mode": sampling, "padding_mode": padding,
        "padding_value": t(outside)[0], "coordinates_mode": mode, "align_corners": torch.tensor(corners)})
    return float(result)


@pytest.mark.parametrize(("value", "expected"), [
    (sample(1, 0, "border"), 2), (sample(0, 1, "border"), 4), (sample(0.5, 0.5, "border"), 3),
    (sample(-5, 0, "border"), 1), (sample(9, 9, "border"), 9),
    (sample(-0.5, 0, "constant"), 0.5), (sample(-0.5, 0, "constant", outside=10), 5.5),
    (sample(-7, 0, "constant"), 0),
    # |1 2 3| continues 2 1 about the pixel's centre, 3 2 about its edge
    (sample(3, 0, "reflection"), 2), (sample(-1, 0, "reflection"), 2), (sample(-2, 0, "reflection"), 3),
    (sample(3, 0, "symmetric"), 3), (sample(-1, 0, "symmetric"), 1), (sample(-2, 0, "symmetric"), 2),
    (sample(-1, -1, "border", mode="normalized_minus_one_to_one"), 1),
    (sample(1, 1, "border", mode="normalized_minus_one_to_one"), 9),
    (sample(0.5, 0.5, "border", mode="normalized_zero_to_one"), 5),
    # without corners −1 is half a pixel outside of the first centre
    (sample(-1, -1, "constant", mode="normalized_minus_one_to_one", corners=False), 0.25),
    (sample(0.5, 0.5, "border", mode="normalized_zero_to_one", corners=False), 5),
    (sample(1.4, 0.6, "border", sampling="nearest"), 5),
])
def test_resample_reads_the_place_that_its_conventions_name(value: float, expected: float) -> None:
    assert value == pytest.approx(expected)


def program(*operations: Operation, inputs: dict[str, TensorType], outputs: tuple[str, ...]) -> MilProgram:
    return MilProgram(inputs, outputs, operations, "CoreML7", None)


HALVES = TensorType("FLOAT16", (2,))
SINGLES = TensorType("FLOAT32", (2,))


def test_a_result_declared_float16_is_rounded_and_one_declared_float32_is_not() -> None:
    operations = (Operation("cast", {"x": ("x",), "dtype": (Text("fp16"),)}, (("half", HALVES),)),
                  Operation("mul", {"x": ("half",), "y": (t(2048, 1)[0],)}, (("y", HALVES),)),
                  Operation("add", {"x": ("y",), "y": (t(1)[0],)}, (("sum", HALVES),)))
    found = Evaluator(program(*operations, inputs={"x": SINGLES}, outputs=("sum",)))(
        {"x": np.array([1.0, 70000.0], np.float32)})["sum"]
    assert found.tolist() == [2048, np.inf]  # 2049 has no float16 (ties to even: 2048), 70000 exceeds 65504


def test_the_sum_inside_an_operation_is_not_rounded() -> None:
    dot = Operation("reduce_sum", {"x": ("x",)}, (("y", TensorType("FLOAT16", ())),))
    x = np.array([2048, 1, 1, -2048], np.float32)
    found = Evaluator(program(dot, inputs={"x": TensorType("FLOAT16", (4,))}, outputs=("y",)))({"x": x})["y"]
    assert found == 2  # float16 accumulation would give 0


def test_unknown_operations_are_all_refused_by_name() -> None:
    operations = (Operation("lstm", {"x": ("x",)}, (("y", SINGLES),)),
                  Operation("relu", {"x": ("x",)}, (("z", SINGLES),)),
                  Operation("crop_resize", {"x": ("x",)}, (("w", SINGLES),)))
    with pytest.raises(UserError, match="crop_resize, lstm"):
        Evaluator(program(*operations, inputs={"x": SINGLES}, outputs=("y",)))


def test_a_result_of_another_shape_than_declared_is_refused() -> None:
    op = Operation("concat", {"values": ("x", "x"), "axis": (i(0)[0],)}, (("y", SINGLES),))
    with pytest.raises(UserError, match=r"concat 'y' gave shape \(4,\)"):
        Evaluator(program(op, inputs={"x": SINGLES}, outputs=("y",)))({"x": np.zeros(2, np.float32)})


def test_an_integer_outside_of_its_declared_type_is_refused() -> None:
    op = Operation("cast", {"x": ("x",), "dtype": (Text("uint8"),)}, (("y", TensorType("UINT8", (2,))),))
    run = Evaluator(program(op, inputs={"x": SINGLES}, outputs=("y",)))
    assert run({"x": np.array([0, 255], np.float32)})["y"].tolist() == [0, 255]
    with pytest.raises(UserError, match=r"declared UINT8, but reaches 0\.\.256"):
        run({"x": np.array([0, 256], np.float32)})


@pytest.mark.parametrize("given", [{}, {"y": np.zeros(2)}, {"x": np.zeros(3)}])
def test_missing_unknown_and_misshaped_inputs_are_refused(given: dict[str, Any]) -> None:
    op = Operation("relu", {"x": ("x",)}, (("y", SINGLES),))
    with pytest.raises(UserError, match="input"):
        Evaluator(program(op, inputs={"x": SINGLES}, outputs=("y",)))(given)


def test_an_observer_sees_what_depends_on_the_input_and_no_constants() -> None:
    operations = (Operation("const", {"val": (t(1, 1),)}, (("c", SINGLES),)),
                  Operation("square", {"x": ("c",)}, (("c2", SINGLES),)),
                  Operation("add", {"x": ("x",), "y": ("c2",)}, (("y", SINGLES),)),
                  Operation("relu", {"x": ("y",)}, (("z", SINGLES),)))
    seen: dict[str, list[float]] = {}
    Evaluator(program(*operations, inputs={"x": SINGLES}, outputs=("z",)))(
        {"x": np.array([-3, 4], np.float32)}, observe=lambda name, value: seen.update({name: value.tolist()}))
    assert seen == {"x": [-3, 4], "y": [-2, 5], "z": [0, 5]}


def test_packed_numbers_are_read_from_the_lowest_bit_across_bytes() -> None:
    # six bits each: 1, 2, 3 → 000001, 000010, 000011; bytes 0b10_000001, 0b0011_0000, 0b00
    assert unpack(np.array([0b10000001, 0b00110000, 0b00], np.uint8), 6, 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize("broken", ["nothing", "no manifest", "no weights", "cut weights", "not ours"])
def test_a_damaged_package_is_refused(tmp_path: Path, broken: str) -> None:
    package = tmp_path / "x.mlpackage"
    if broken in {"no weights", "cut weights"}:
        package = save_tiny(tmp_path)
        weights = package / "Data/com.apple.CoreML/weights/weight.bin"
        if broken == "no weights":
            weights.unlink()
        else:
            weights.write_bytes(weights.read_bytes()[:80])
    elif broken == "not ours":
        package.mkdir()
        (package / "Manifest.json").write_text("{}")
    elif broken == "no manifest":
        package.mkdir()
    with pytest.raises(UserError, match="mlpackage"):
        read_package(package)


def save_tiny(folder: Path, dtype: type = np.float32, target: str = "iOS18") -> Path:
    """A package written by coremltools' own builder: x + w, with w = 0..31 in the weight file."""
    ct = pytest.importorskip("coremltools", reason="coremltools writes the package")
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813

    @mb.program(input_specs=[mb.TensorSpec(shape=(32,))], opset_version=getattr(ct.target, target))  # type: ignore[untyped-decorator]
    def add(x: Any) -> Any:
        return mb.add(x=x, y=np.arange(32, dtype=np.float32), name="y")

    precision = ct.precision.FLOAT16 if dtype == np.float16 else ct.precision.FLOAT32
    model = ct.convert(add, minimum_deployment_target=getattr(ct.target, target), compute_precision=precision,
                       skip_model_load=True)
    path = folder / "tiny.mlpackage"
    model.save(str(path))
    return path


def test_a_package_cannot_name_weights_outside_of_itself(tmp_path: Path) -> None:
    package = save_tiny(tmp_path)
    folder = package / "Data/com.apple.CoreML"
    (folder / "weights/weight.bin").rename(tmp_path / "other.bin")  # valid, and three folders up
    model = folder / "model.mlmodel"
    inside, outside = b"@model_path/weights/weight.bin", b"@model_path/../../../other.bin"
    assert inside in model.read_bytes()
    model.write_bytes(model.read_bytes().replace(inside, outside))
    with pytest.raises(UserError, match="expected a file inside it"):
        read_package(package)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_are_read_from_the_file_that_the_package_names(tmp_path: Path, dtype: type) -> None:
    evaluator = Evaluator(read_package(save_tiny(tmp_path, dtype)))
    name = next(iter(evaluator.program.inputs))
    found = evaluator({name: np.full(32, 0.5, np.float32)})
    np.testing.assert_array_equal(found["y"], np.arange(32) + 0.5)
    wanted = "FLOAT16" if dtype == np.float16 else "FLOAT32"
    assert any(kind.dtype == wanted and op.kind == "add" for op in evaluator.program.operations
               for _, kind in op.outputs)
