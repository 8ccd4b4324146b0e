"""The checks of shapes and dtypes, and what they remember."""

import pytest
import torch

import kernels.launch.checks
from kernels.launch.checks import bind_shapes, remembered, require_dtype
from kernels.launch.launch import recording, require_device
from kernels.problem.routes import Gate, TopK


def test_letters_get_sizes() -> None:
    sizes = bind_shapes(x=(torch.zeros(0, 3), "N D"), w=(torch.zeros(2, 3, 4), "E D H"))
    assert sizes == {"N": 0, "D": 3, "E": 2, "H": 4}


def test_a_letter_may_be_taken_twice() -> None:
    assert bind_shapes(w2=(torch.zeros(4, 2), "H C"), w1=(torch.zeros(3, 8), "D 2H"))["H"] == 4
    with pytest.raises(ValueError, match=r"^w1 must have the shape \(D, 2H = 8\), not \(3, 7\)$"):
        bind_shapes(w2=(torch.zeros(4, 2), "H C"), w1=(torch.zeros(3, 7), "D 2H"))


@pytest.mark.parametrize("shape", [(2, 5, 4), (3, 4), (2, 3, 4, 1), (2, 3, 0)])
def test_a_shape_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^w must have the shape \(E, D = 3, H\), not \("):
        bind_shapes(x=(torch.zeros(7, 3), "N D"), w=(torch.zeros(shape), "E D H"))


def test_dtypes_must_agree() -> None:
    half, single = torch.zeros(1, dtype=torch.float16), torch.zeros(1)
    require_dtype(torch.float16, torch.float32, a=half, b=half)
    with pytest.raises(ValueError, match=r"^a must be torch.float16, not torch.float32$"):
        require_dtype(torch.float16, a=single)
    with pytest.raises(ValueError, match=r"^b must have the dtype of a, torch.float16, not torch.float32$"):
        require_dtype(torch.float16, torch.float32, a=half, b=single)


def test_a_check_runs_once_for_tensors_laid_out_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    @remembered
    def length(x: torch.Tensor, routing: object, k: int | None) -> int:
        runs.append((x, routing, k))
        if k == 0:
            raise ValueError("k must not be 0")
        return x.shape[0]

    def gate(temperature: float = 1.0) -> Gate:
        return Gate(torch.zeros(2, 3), None, 1, temperature)

    x = torch.zeros(2, 4)
    for _ in range(2):
        assert length(x, gate(), 1) == 2
    assert length(torch.ones(2, 4), gate(), 1) == 2
    assert len(runs) == 1
    wide = torch.zeros(3, 5)
    others = [wide[:2, :4], wide.flatten()[1:9].view(2, 4), x.half(), torch.zeros(4, 2).t(), x[:1]]
    calls = [*((other, gate(), 1) for other in others), (x, gate(2.0), 1), (x, gate(), None)]
    for call in (*calls, (x, TopK(torch.zeros(2, 3), torch.zeros(2, 3)), 1)):
        before = len(runs)
        assert length(*call) == len(call[0])
        assert len(runs) == before + 1
    for _ in range(2):
        before = len(runs)
        with pytest.raises(ValueError, match="k must not be 0"):
            length(x, gate(), 0)
        assert len(runs) == before + 1
    monkeypatch.setattr(kernels.launch.checks, "MOST_REMEMBERED", 1)
    length(x, gate(), 5)
    before = len(runs)
    length(x, gate(), 5)
    assert len(runs) == before
    length(x, gate(), 1)
    assert len(runs) == before + 1


def test_what_was_right_while_recorded_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")

    @remembered
    def check(x: torch.Tensor) -> None:
        require_device(x=x)

    with recording():
        check(torch.zeros(3))
    with pytest.raises(ValueError, match="x is on cpu"):
        check(torch.zeros(3))
