"""Weights stored in 8 and 4 bits: what torch reads and writes of them, against a decoder in NumPy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.problem.experts import Experts
from kernels.problem.stored import SCHEMES, Scheme, Stored, from_gpt_oss, matrix_bytes, stored
from tests.kernels.narrow import decoded, e2m1, e4m3, e8m0
from tests.kernels.oracle import exact

schemes = pytest.mark.parametrize("scheme", SCHEMES)
STEPS = {"fp8": 2.0**-4, "fp8_channels": 2.0**-4, "fp8_blocks": 2.0**-4, "mxfp4": 2.0**-2}
"""The largest error of a rounded normal value over the value."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_oracle_knows_the_formats() -> None:
    """Values of the OCP specifications of 8-bit floats and of microscaling, by their codes."""
    eights = {0x00: 0.0, 0x01: 2.0**-9, 0x07: 7 * 2.0**-9, 0x08: 2.0**-6, 0x38: 1.0, 0x7E: 448.0, 0xC0: -2.0}
    np.testing.assert_array_equal(e4m3(np.array(list(eights))), list(eights.values()))
    assert np.isnan(e4m3(np.array([0x7F, 0xFF]))).all()
    np.testing.assert_array_equal(e2m1(np.arange(8)), [0, 0.5, 1, 1.5, 2, 3, 4, 6])
    np.testing.assert_array_equal(e2m1(np.arange(8, 16)), [-0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    np.testing.assert_array_equal(e8m0(np.array([0, 127, 130])), [2.0**-127, 1, 8])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    scheme=st.sampled_from(SCHEMES),
    E=st.integers(1, 3),
    D=st.integers(1, 5),
    H=st.integers(1, 300),
    spread=st.floats(0, 20),
    seed=st.integers(0, 99),
)
def test_stored_weights_are_near_and_read_back(
    scheme: Scheme, E: int, D: int, H: int, spread: float, seed: int
) -> None:
    weights = normal(E, 32 * D, H, seed=seed)
    weights *= torch.exp(spread * normal(E, 1, H, seed=seed + 1))
    w = stored(weights, scheme)
    w.check("w")
    assert (w.scheme, w.shape) == (scheme, (E, 32 * D, H))
    read = decoded(w)
    np.testing.assert_allclose(exact(w.dequantised()), read, rtol=1e-7)
    smallest = smallest_normal(w)
    full = exact(weights)
    assert (np.abs(read - full) <= STEPS[scheme] * np.maximum(np.abs(full), smallest) * (1 + 1e-6)).all()


def smallest_normal(w: Stored) -> np.ndarray:
    """Return the least weight (E, D, H) that keeps all bits of its mantissa; mxfp4 cuts one that is nearly 8 to 6."""
    powers = exact(w.scales.float())
    _, D, H = w.shape
    if w.scheme == "mxfp4":
        return e8m0(powers)[:, np.arange(D) // 32]
    if w.scheme == "fp8_blocks":
        powers = powers[:, np.arange(D)[:, None] // 128, np.arange(H) // 128]
    return 2.0**-6 * (powers if powers.ndim == 3 else powers.reshape(len(powers), 1, -1))


def test_of_equally_near_values_the_even_code_is_taken() -> None:
    middles = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.75, -5.0, 0.3, 6.0])
    weights = torch.zeros(1, 32, 1)
    weights[0, : len(middles), 0] = middles
    expected = [0, 1, 1, 2, 2, 4, 4, -1, -4, 0.5, 6]
    assert decoded(stored(weights, "mxfp4"))[0, : len(middles), 0].tolist() == expected


@schemes
def test_zeros_stay_zero(scheme: Scheme) -> None:
    assert (decoded(stored(torch.zeros(2, 160, 130), scheme)) == 0).all()


@schemes
def test_values_lie_along_the_depth(scheme: Scheme) -> None:
    w = stored(normal(2, 64, 48), scheme)
    assert w.values.stride(1) == 1


def test_a_checkpoint_of_gpt_oss() -> None:
    """Its `blocks` hold the codes of values 2 i and 2 i + 1 in byte i, the first one in the lower bits."""
    codes = torch.randint(16, (3, 5, 64), generator=torch.Generator().manual_seed(0))  # (E, H, D)
    blocks = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8).unflatten(2, (2, 16))
    scales = torch.randint(100, 150, (3, 5, 2), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    w = from_gpt_oss(blocks, scales)
    w.check("w")
    expected = e2m1(codes.numpy()) * e8m0(scales.numpy().astype(float))[:, :, np.arange(64) // 32]
    np.testing.assert_array_equal(decoded(w), expected.transpose(0, 2, 1))
    swapped = from_gpt_oss((blocks << 4) | (blocks >> 4), scales)
    assert (decoded(swapped) != decoded(w)).any()


def test_a_checkpoint_of_deepseek() -> None:
    """It holds `weight` (H, D) and `weight_scale_inv` (H / 128, D / 128) of each expert."""
    bits = torch.randint(0x7F, (2, 200, 300), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    scales = normal(2, 2, 3).abs()
    w = Stored(bits.view(torch.float8_e4m3fn).transpose(1, 2), scales.transpose(1, 2))
    w.check("w")
    expected = e4m3(bits.numpy().astype(int)) * exact(scales)[:, np.arange(200)[:, None] // 128, np.arange(300) // 128]
    np.testing.assert_array_equal(decoded(w), expected.transpose(0, 2, 1))


@pytest.mark.parametrize("scheme", ["fp8", "fp8_channels", "mxfp4"])
def test_columns_interleave_with_their_scales(scheme: Any) -> None:
    weights = normal(2, 64, 12) * (1 + torch.arange(12))
    experts = Experts(stored(weights, scheme), None, normal(2, 6, 4), None, "swiglu")
    w1 = experts.interleaved().w1
    assert isinstance(w1, Stored)
    plain = Experts(torch.from_numpy(decoded(stored(weights, scheme))), None, normal(2, 6, 4), None, "swiglu")
    np.testing.assert_array_equal(decoded(w1), exact(plain.interleaved().w1))  # type: ignore[arg-type]


def test_columns_of_blocks_stay() -> None:
    experts = Experts(stored(normal(1, 32, 4), "fp8_blocks"), None, normal(1, 2, 4), None, "swiglu")
    assert experts.interleaved() is experts


@schemes
def test_bytes_are_those_of_the_tensors(scheme: Scheme) -> None:
    w = stored(normal(1, 160, 131), scheme)
    assert matrix_bytes(scheme, 160, 131, 2) == w.values.nbytes + w.scales.nbytes
    assert matrix_bytes(None, 160, 131, 2) == 160 * 131 * 2


RIGHT = stored(torch.zeros(2, 64, 130), "fp8_blocks")
PACKED = stored(torch.zeros(2, 64, 130), "mxfp4")


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (replace(RIGHT, values=torch.zeros(2, 64, 130)), "w must be torch.float8_e4m3fn or torch.int32, not torch.fl"),
        (replace(RIGHT, scales=torch.ones(2, 1, 2).half()), "w.scales must be torch.float32, not torch.float16"),
        (replace(PACKED, scales=torch.ones(2, 2, 130)), "w.scales must be torch.uint8, not torch.float32"),
        (replace(RIGHT, scales=torch.ones(2, 1, 3)), r"w.scales must have the shape \(2, 1, 2\) for fp8_blocks, not"),
        (replace(RIGHT, scales=torch.ones(2, 64)), r"w.scales must have the shape \(2, 130\) for fp8_channels, not"),
        (replace(RIGHT, scales=torch.ones(3)), r"w.scales must have the shape \(2,\) for fp8, not \(3,\)"),
        (replace(RIGHT, values=RIGHT.values[0]), r"w must have the shape \(E, D, H\), not \(64, 130\)"),
        (replace(PACKED, values=PACKED.values[:, :3]), "w in mxfp4 must have a multiple of 32 input columns, not 24"),
        (replace(PACKED, scales=PACKED.scales[:, :1]), r"w.scales must have the shape \(2, 2, 130\) for mxfp4, not"),
    ],
)
def test_wrong_parts_are_refused(w: Stored, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        w.check("w")


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(ValueError, match="weights in mxfp4 must have a multiple of 32 input columns, not 33"):
        stored(torch.zeros(1, 33, 4), "mxfp4")
    with pytest.raises(ValueError, match="weights are stored in fp8, fp8_channels, fp8_blocks, mxfp4, not 'int4'"):
        stored(torch.zeros(1, 32, 4), "int4")  # type: ignore[arg-type]
