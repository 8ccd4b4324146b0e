"""What arXiv 2601.15021 published, and the defects of its code that decide how ours may differ.

CIFAR-10, ResNet-18, 512 features; dense head 512 to 512 to 10, mixtures of 8 experts 512 to 64 to 10, 2 per row in
the sparse one; 50 epochs. Sharpness on 1,000 training and 1,000 test images over all parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

EPOCHS = 50
POLICY = "top_k"  # of the sparse head
DATA = "cifar10"
SUBSET_IMAGES = 1_000
BATCHES = 352  # an epoch's: 45,000 training images in batches of 128

DEFECTS = {
    1: "the validation split shares its data set with the training split and switches the training augmentation off, "
    "so 86 to 88 % is a result without augmentation; with it the recipe reaches 94 to 95 %.",
    2: "the load loss equals the importance loss, so nothing balances the number of rows per expert.",
    3: "ties select more than k experts, and the weight of experts that are then not run is lost.",
    4: "a dropout of 0.0 becomes 0.1, and the soft gate's dropouts are lost between positional arguments.",
    5: "with k = 1 the gate gets no gradient from the task.",
    6: "the KL loss is that of the other direction, divided by E, and a flag reads False as true.",
    7: "standardised gate scores do not depend on their scale, and one expert alone gives NaN.",
    8: "the printed lambda_max is not the largest of its own list, the spectral density is empty, and the trace stops "
    "on two similar running means, 11 to 29 % off.",
    9: "the loss sweep to 0.5 lies far outside the range in which curvature describes the loss.",
    10: "the efficiency script times 40 batches for 200, counts a batch of 16 as 256, and compares unequal heads.",
}


def head_name(head: str, policy: str | None) -> str:
    """Return what a trained head is called: by its policy if that is not the paper's."""
    return policy if head == "sparse" and policy and policy != POLICY else head


@dataclass(frozen=True)
class Tolerance:
    """How far ours may lie from a published number and still reproduce it: `absolute`, or a share of the number."""

    words: str
    absolute: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True)
class Published:
    """One published number: accuracies as shares, speeds on the authors' GPU."""

    quantity: str
    head: str
    value: float
    tolerance: Tolerance

    def is_reproduced_by(self, ours: float) -> bool:
        """Return whether `ours` lies within the tolerance."""
        return abs(ours - self.value) <= self.tolerance.absolute + self.tolerance.relative * abs(self.value)


WHY = (
    "Tolerances: accuracies within 0.7 points; the best epoch within 10, for past epoch 40 validation is flat; "
    "eigenvalues within 25 %, a choice, for the paper names no spread; traces within 29 %, the greatest error of the "
    "published ones; speed within 10 %; what is counted must agree."
)
_ACCURACY = Tolerance("0.7 points", absolute=0.007)
_EIGENVALUE = Tolerance("25 %", relative=0.25)
_TRACE = Tolerance("29 %", relative=0.29)
HEADS = ("dense", "soft", "sparse")
_TABLE: dict[str, tuple[tuple[float, float, float], Tolerance]] = {
    "validation accuracy": ((0.8786, 0.8824, 0.8816), _ACCURACY),
    "test accuracy": ((0.8644, 0.8723, 0.8717), _ACCURACY),
    "best epoch": ((35, 48, 46), Tolerance("10 epochs", absolute=10)),
    "batches/s in training": ((64, 50, 32), Tolerance("10 %", relative=0.1)),
    "largest eigenvalue, train": ((2.38, 1.10, 0.72), _EIGENVALUE),
    "trace, train": ((22.7, 19.9, 15.2), _TRACE),
    "largest eigenvalue, test": ((63.9, 92.2, 68.7), _EIGENVALUE),
    "trace, test": ((1180, 1455, 1148), _TRACE),
    "parameters of the head": ((267_786, 271_960, 276_064), Tolerance("none")),
}
PUBLISHED = (
    *(
        Published(quantity, head, value, tolerance)
        for quantity, (row, tolerance) in _TABLE.items()
        for head, value in zip(HEADS, row, strict=True)
    ),
    Published("FLOPs saved, dense / sparse", "sparse", 3.77, Tolerance("0.5 %", relative=0.005)),
)
