"""Weights stored in 8 or 4 bits: narrow values, and scales that many of them share.

E experts, D input width of a product, over which it sums, and H its output width. A weight is value times scale.

| scheme | values | scales |
| --- | --- | --- |
| fp8 | (E, D, H) float8_e4m3fn | (E,) fp32 |
| fp8_channels | (E, D, H) float8_e4m3fn | (E, H) fp32 |
| fp8_blocks | (E, D, H) float8_e4m3fn | (E, D / 128, H / 128) fp32, rounded up |
| mxfp4 | (E, D / 8, H) int32 | (E, D / 32, H) uint8: 2^(byte - 127), and 255 is NaN |

Blocks of 128 x 128 are those of DeepSeek-V3 (arXiv 2412.19437, 3.3), whose checkpoints hold `weight` (H, D) and
`weight_scale_inv` (H / 128, D / 128): stack the experts of both and transpose. mxfp4 is that of the OCP Microscaling
specification 1.0, with scales as gpt-oss keeps them, transposed. Its values are packed anew, once (`from_gpt_oss`): of
each 32 values along D, word t (0 to 3) holds those at 8 p + 2 t + h (p 0 to 3), in its lower half for h = 0 and in its
upper half for h = 1, because one thread feeds them to a tensor core. Sign and magnitude of p = 0 to 2 take the bits 15
and 8 to 6 of a half, shifted right by 3 p; for p = 3 these bits are 14, 11, 10 and 13. So each mask makes two bf16.

Any strides are right; kernels read fastest if the stride along D is 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from kernels.launch.checks import bind_shapes, require_dtype
from kernels.launch.integers import cdiv

Scheme = Literal["fp8", "fp8_channels", "fp8_blocks", "mxfp4"]
"""How weights are stored."""

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

BLOCK = 128
"""Rows and columns of a block that shares a scale in "fp8_blocks"."""

GROUP = 32
"""Values along D that share a scale in "mxfp4"."""

LARGEST = 448.0
"""The largest value of e4m3."""

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The values of the eight magnitudes of e2m1."""


@dataclass(frozen=True)
class Stored:
    """Weights of one product, in the layouts that this module lists; the scheme follows from dtype and dimensions."""

    values: Tensor
    scales: Tensor

    @property
    def scheme(self) -> Scheme:
        """How the weights are stored."""
        if self.values.dtype == torch.int32:
            return "mxfp4"
        by_dimensions: dict[int, Scheme] = {1: "fp8", 2: "fp8_channels"}
        return by_dimensions.get(self.scales.ndim, "fp8_blocks")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (E, D, H) of the weights."""
        shape = tuple(self.values.shape)
        return (shape[0], 8 * shape[1], *shape[2:]) if self.scheme == "mxfp4" and len(shape) > 1 else shape

    def check(self, name: str) -> None:
        """Raise ValueError unless values and scales, which messages call `name` and `name`.scales, fit each other."""
        packed = self.scheme == "mxfp4"
        require_dtype(torch.float8_e4m3fn, torch.int32, **{name: self.values})
        require_dtype(torch.uint8 if packed else torch.float32, **{f"{name}.scales": self.scales})
        E, D, H = bind_shapes(**{name: (self, "E D H")}).values()
        if packed and D % GROUP:
            raise ValueError(f"{name} in mxfp4 must have a multiple of {GROUP} input columns, not {D}")
        shape = scales_shape(self.scheme, E, D, H)
        if tuple(self.scales.shape) != shape:
            given = tuple(self.scales.shape)
            raise ValueError(f"{name}.scales must have the shape {shape} for {self.scheme}, not {given}")

    def dequantised(self) -> Tensor:
        """Return the weights (E, D, H) in fp32."""
        _, D, H = self.shape
        if self.scheme == "mxfp4":
            powers = torch.where(self.scales == 255, torch.nan, _power(self.scales.int() - 127))
            return _unpacked(self.values) * powers.repeat_interleave(GROUP, dim=1)
        scales = self.scales
        if self.scheme == "fp8_blocks":
            scales = scales.repeat_interleave(BLOCK, dim=1)[:, :D].repeat_interleave(BLOCK, dim=2)[:, :, :H]
        return self.values.float() * (scales if scales.ndim == 3 else scales.reshape(len(scales), 1, -1))

    def with_columns(self, change: Callable[[Tensor], Tensor]) -> "Stored":
        """Return the weights with their columns changed, such as their order; not for "fp8_blocks"."""
        by_column = self.scheme in ("fp8_channels", "mxfp4")
        bytes_wide = self.values.view(torch.uint8) if self.scheme != "mxfp4" else self.values
        values = _depth_first(change(bytes_wide)).view(self.values.dtype)
        return Stored(values, change(self.scales) if by_column else self.scales)

    @staticmethod
    def empty(scheme: Scheme, E: int, D: int, H: int, new: Callable[..., Tensor]) -> "Stored":
        """Return weights whose tensors `new` makes, as it makes any from a shape and a dtype."""
        scales = scales_shape(scheme, E, D, H)
        if scheme == "mxfp4":
            return Stored(new(E, H, D // 8, dtype=torch.int32).transpose(1, 2), new(*scales, dtype=torch.uint8))
        values = new(E, H, D, dtype=torch.float8_e4m3fn).transpose(1, 2)
        return Stored(values, new(*scales, dtype=torch.float32))


def scales_shape(scheme: Scheme, E: int, D: int, H: int) -> tuple[int, ...]:
    """Return the shape of the scales of weights (E, D, H)."""
    shapes = {
        "fp8": (E,),
        "fp8_channels": (E, H),
        "fp8_blocks": (E, cdiv(D, BLOCK), cdiv(H, BLOCK)),
        "mxfp4": (E, cdiv(D, GROUP), H),
    }
    return shapes[scheme]


def matrix_bytes(scheme: Scheme | None, D: int, H: int, size: int) -> int:
    """Return the bytes of one expert's weights (D, H), with their scales; not stored, a weight has `size` bytes."""
    if scheme is None:
        return D * H * size
    scales = 1
    for length in scales_shape(scheme, 1, D, H):
        scales *= length
    return D * H // 2 + scales if scheme == "mxfp4" else D * H + 4 * scales


def stored(weights: Tensor, scheme: Scheme) -> Stored:
    """Return weights (E, D, H) stored in `scheme`, rounded to the nearest value; the largest sets each scale.

    Experts are rounded one by one, so a large layer needs little more memory than its result.

    >>> w1 = stored(torch.randn(8, 64, 48), "mxfp4")
    >>> w1.shape, w1.values.shape, w1.scales.shape
    ((8, 64, 48), torch.Size([8, 8, 48]), torch.Size([8, 2, 48]))

    Raises:
        ValueError: The scheme is unknown, or D is no multiple of 32, which mxfp4 needs.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"weights are stored in {', '.join(SCHEMES)}, not {scheme!r}")
    E, D, H = weights.shape
    if scheme == "mxfp4" and D % GROUP:
        raise ValueError(f"weights in mxfp4 must have a multiple of {GROUP} input columns, not {D}")
    result = Stored.empty(scheme, E, D, H, weights.new_empty)
    for e in range(E):
        expert = _rounded(weights[e : e + 1].float(), scheme)
        result.values[e : e + 1] = expert.values
        result.scales[e : e + 1] = expert.scales
    return result


def _rounded(weights: Tensor, scheme: Scheme) -> Stored:
    """Return fp32 weights (E, D, H) stored in `scheme`."""
    _, D, H = weights.shape
    if scheme == "mxfp4":
        largest = weights.abs().unflatten(1, (-1, GROUP)).amax(dim=2)  # (E, D / 32, H)
        exponents = (torch.frexp(largest).exponent - 3).clamp(-127, 127)  # the largest power of e2m1 is 4
        codes = _codes(weights / _power(exponents).repeat_interleave(GROUP, dim=1))
        return Stored(_packed(codes), (exponents + 127).to(torch.uint8))
    if scheme == "fp8_blocks":
        padded = torch.nn.functional.pad(weights.abs(), (0, -H % BLOCK, 0, -D % BLOCK))
        largest = padded.unflatten(2, (-1, BLOCK)).amax(dim=3).unflatten(1, (-1, BLOCK)).amax(dim=2)
    else:
        largest = weights.abs().amax(dim=(1, 2) if scheme == "fp8" else 1)
    scales = torch.where(largest > 0, largest / LARGEST, 1.0)
    ones = Stored(torch.ones_like(weights, dtype=torch.float8_e4m3fn), scales).dequantised()
    return Stored((weights / ones).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scales)


def from_gpt_oss(blocks: Tensor, scales: Tensor) -> Stored:
    """Return the weights of a gpt-oss checkpoint.

    Args:
        blocks: (E, H, D / 32, 16) uint8: each byte holds two values of e2m1, the first of them in its lower bits.
        scales: (E, H, D / 32) uint8.
    """
    codes = torch.stack((blocks & 15, blocks >> 4), dim=-1).flatten(2)  # (E, H, D)
    return Stored(_packed(codes.transpose(1, 2)), scales.transpose(1, 2))


def _depth_first(weights: Tensor) -> Tensor:
    """Return the same (E, D, H) with a stride of 1 along D."""
    return weights.transpose(1, 2).contiguous().transpose(1, 2)


def _power(exponents: Tensor) -> Tensor:
    """Return 2^exponents in fp32."""
    return torch.ldexp(torch.ones_like(exponents, dtype=torch.float32), exponents)


def _codes(scaled: Tensor) -> Tensor:
    """Return the code of the nearest e2m1, of equally near ones that with an even code: sign in bit 3, magnitude."""
    values = torch.tensor(E2M1, device=scaled.device)
    middles = (values[1:] + values[:-1]) / 2
    code: Tensor = torch.bucketize(scaled.abs().contiguous(), middles)
    code += (code % 2) * (scaled.abs() == torch.cat((middles, values[:1]))[code])
    return torch.where(scaled.signbit(), code + 8, code)


def _packed(codes: Tensor) -> Tensor:
    """Return codes (E, D, H) as words (E, D / 8, H)."""
    c = codes.long().transpose(1, 2).unflatten(2, (-1, 4, 4, 2))  # (E, H, D / 32, p, t, h)
    sign, magnitude = c >> 3, c & 7
    halves = (sign << 15) | (magnitude << 6)
    last = (sign << 14) | (magnitude >> 1 << 10) | ((magnitude & 1) << 13)
    parts = [*(halves[:, :, :, p] >> 3 * p for p in range(3)), last[:, :, :, 3]]
    both = parts[0] | parts[1] | parts[2] | parts[3]  # (E, H, D / 32, t, h)
    words = both[..., 0] | (both[..., 1] << 16)
    signed: Tensor = words - (words >> 31 << 32)
    return signed.to(torch.int32).flatten(2).contiguous().transpose(1, 2)


def _unpacked(words: Tensor) -> Tensor:
    """Return words (E, D / 8, H) as values (E, D, H) in fp32, not scaled."""
    w = words.transpose(1, 2).unflatten(2, (-1, 4))  # (E, H, D / 32, t)
    h = torch.stack((w & 0xFFFF, w >> 16 & 0xFFFF), dim=-1)  # (E, H, D / 32, t, h)
    halves = [(h << 3 * p) & 0x81C0 for p in range(3)]
    halves.append((h << 1 & 0x8000) | (h >> 3 & 0x180) | (h >> 7 & 0x40))
    bits = torch.stack(halves, dim=3)  # (E, H, D / 32, p, t, h)
    values = torch.tensor(E2M1, device=words.device)[bits >> 6 & 7] * torch.where(bits >= 0x8000, -1.0, 1.0)
    return values.flatten(2).transpose(1, 2)
