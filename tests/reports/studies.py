"""Synthetic studies: files as `train`, `policies` and `sharpness` write them, with numbers drawn around chosen ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SEEDS = (0, 1, 2)
CLASSES, EXPERTS = 10, 8
TEST = {"dense": 0.880, "soft": 0.884, "sparse": 0.882}
POLICIES = {  # test accuracy, experts per row, their spread over rows, dropped share
    "dense": (0.880, None, None, None),
    "soft": (0.884, 8.0, 0.0, 0.0),
    "top_k": (0.880, 2.0, 0.0, 0.0),
    "capacity": (0.876, 1.93, 0.2, 0.035),
    "top_p": (0.890, 2.4, 1.1, 0.0),
    "threshold": (0.888, 2.2, 0.9, 0.0),
    "expert_choice": (0.886, 2.0, 0.8, 0.0),
}
FLOPS = {"dense": 534_528.0, "soft": 542_880.0}
ENVIRONMENT = {
    "python": "3.11.2",
    "torch": "2.15.0",
    "platform": "Linux-6.1",
    "device": "cpu",
    "threads": 2,
    "date": "2026-11-24T10:00:00+00:00",
    "cpu": "AMD EPYC 7B13",
}


def about(kind: str, command: str) -> dict[str, Any]:
    """Return what every file says of itself."""
    return {"format": 1, "kind": kind, "command": command, "environment": dict(ENVIRONMENT)}


def class_load(seed: int) -> list[list[float]]:
    """Return a (C, E) table of shares, each class with a favourite expert."""
    table = np.random.default_rng(seed).dirichlet(np.full(EXPERTS, 0.5), CLASSES)
    return [[float(share) for share in row] for row in table]


def history(head: str, seed: int, epochs: int, reached: float) -> list[dict[str, Any]]:
    """Return a learning curve that rises to `reached` in the last epoch."""
    rng = np.random.default_rng((seed, 7))
    rows = []
    for epoch in range(1, epochs + 1):
        part = 1 - np.exp(-4 * epoch / epochs)
        wave = float(rng.normal(0, 0.004)) * (epoch < epochs)
        row: dict[str, Any] = {
            "epoch": epoch,
            "learning_rate": 0.1 * (1 - epoch / (epochs + 1)),
            "train_loss": float(2.3 - 2.1 * part),
            "train_accuracy": float(0.1 + 0.88 * part),
            "val_loss": float(2.3 - 1.9 * part - wave),
            "val_accuracy": float(reached * (0.2 + 0.8 * part / (1 - np.exp(-4))) + wave),
            "seconds": 55.0,
        }
        if head != "dense":
            row |= {
                "utilisation": min(1.0, 0.5 + 0.5 * part + 0.1 * wave),
                "gate_entropy": float(2.0 - 1.2 * part),
                "load_cv": float(1.1 - 0.9 * part + abs(wave)),
                "dropped": 0.0,
                "experts_per_row_mean": 2.0,
                "experts_per_row_std": 0.0,
                "load": [1 / EXPERTS] * EXPERTS,
                "class_load": class_load(seed),
            }
        rows.append(row)
    return rows


def run(head: str, seed: int, epochs: int = 12, **fields: Any) -> dict[str, Any]:
    """Return one trained head."""
    test = TEST.get(head, 0.88) + 0.001 * (seed - 1)
    return {
        "folder": f"{head}-seed{seed}",
        "head": head,
        "policy": "top_k" if head == "sparse" else None,
        "seed": seed,
        "parameters": {"dense": 445_778, "soft": 449_952}.get(head, 454_056),
        "best_epoch": epochs - 1,
        "val_accuracy": test + 0.01,
        "test_accuracy": test,
        "train_accuracy": 0.99,
        "seconds": 700.0 + 10 * seed,
        "history": history(head, seed, epochs, test + 0.01),
    } | fields


def training(**fields: Any) -> dict[str, Any]:
    """Return a training study of three heads over three seeds."""
    epochs = fields.get("epochs", 12)
    return {
        **about("training", "moegap train --head all --seeds 3 --preset fast --out runs/study"),
        "preset": "fast",
        "data": "cifar10-jpeg",
        "epochs": epochs,
        "runs": [run(head, seed, epochs) for head in TEST for seed in SEEDS],
    } | fields


def lone_history(**fields: Any) -> dict[str, Any]:
    """Return the history of one training that is not done."""
    config = {"preset": "fast", "data": "cifar10-jpeg", "epochs": 12, "head": "sparse", "seed": 9, "head_changes": {}}
    return {
        **about("history", "moegap train --head sparse"),
        "config": config,
        "history": history("sparse", 9, 12, 0.88)[:5],
    } | fields


def policy_run(policy: str, seed: int, **fields: Any) -> dict[str, Any]:
    """Return one policy's run; seed by seed all policies move alike."""
    accuracy, experts, over_rows, dropped = POLICIES[policy]
    wave = float(np.random.default_rng((seed, len(policy))).normal(0, 2e-4))
    per_row = experts if experts is not None else 1.0
    return {
        "policy": policy,
        "seed": seed,
        "head": policy if policy in FLOPS else "sparse",
        "folder": f"{policy}-seed{seed}",
        "test_accuracy": accuracy + 0.003 * (seed - 1) + wave,
        "val_accuracy": accuracy + 0.01,
        "experts_per_row_mean": experts,
        "experts_per_row_std": over_rows,
        "load_cv": None if experts is None else 0.2 + 0.01 * seed,
        "dropped": dropped,
        "gate_entropy": None if experts is None else 1.2 + 0.02 * seed,
        "class_information": None if experts is None else 0.9 + 0.05 * seed,
        "class_chance": None if experts is None else 0.01,
        "domain_information": None,
        "flops_per_row": FLOPS.get(policy, 8_192 + 66_816 * per_row),
        "parameters": {"dense": 267_786, "soft": 271_960}.get(policy, 276_064),
        "seconds": 800.0,
        "class_load": None,
        "load": None,
    } | fields


def policies(**fields: Any) -> dict[str, Any]:
    """Return a study of all policies over three seeds: dynamic ones are a point better, seed by seed."""
    rng = np.random.default_rng(3)
    latency: list[dict[str, Any]] = [
        {
            "policy": policy,
            "form": form,
            "status": "measured",
            "reason": "",
            "seconds": [float(time) for time in median * rng.lognormal(0, 0.03, 20)],
            "rows": 256,
        }
        for policy, median in (("top_k", 6e-4), ("top_p", 8e-4))
        for form in ("eager", "loop")
    ]
    latency.append(
        {
            "policy": "expert_choice",
            "form": "onnxruntime",
            "status": "unavailable",
            "reason": "This policy depends on the whole batch, which the exported graph does not.",
            "seconds": [],
            "rows": 256,
        }
    )
    return {
        **about("policies", "moegap policies --data cifar10-jpeg --seeds 3 --out runs/policies"),
        "data": "cifar10-jpeg",
        "preset": "fast",
        "epochs": 12,
        "parameters": 276_064,
        "rows": 256,
        "runs": [policy_run(policy, seed) for policy in POLICIES for seed in SEEDS],
        "latency": latency,
        "domains": None,
    } | fields


def block(name: str, parameters: int, largest: float) -> dict[str, Any]:
    """Return the curvature of one group of parameters."""
    values = [largest * 0.8**place for place in range(5)]
    return {
        "block": name,
        "parameters": parameters,
        "eigenvalues": [{"value": value, "residual": 1e-5 * value} for value in values],
        "trace": {"value": 12 * largest, "standard_error": 0.3 * largest, "probes": 60, "stopped_by": "error"},
        "gradient_norm": 0.01 * largest**0.5,
        "seconds": 42.0,
    }


def line(direction: str, range_: str, curvature: float, reach: float, base: float = 0.05) -> dict[str, Any]:
    """Return the loss along a line: a parabola near zero, steeper beyond, where rows take another route."""
    alphas = [float(alpha) for alpha in np.linspace(-reach, reach, 21)]
    return {
        "direction": direction,
        "range": range_,
        "alphas": alphas,
        "losses": [base + curvature * alpha**2 / 2 * (1 + 8 * alpha**2) for alpha in alphas],
        "rerouted": [int(400 * max(0.0, abs(alpha) - 0.05)) for alpha in alphas],
        "second_difference": curvature * 1.001,
        "curvature": curvature,
        "relative_error": 0.001,
    }


def sharpness_part(subset: str = "train", largest: float = 20.0, loss: float = 0.05, **fields: Any) -> dict[str, Any]:
    """Return one checkpoint on one subset."""
    grid = np.linspace(-0.1 * largest, 1.1 * largest, 300)
    density = sum(
        weight * np.exp(-(((grid - centre) / (0.02 * largest)) ** 2)) for weight, centre in ((1, 0), (1e-4, largest))
    )
    steps = [float(step) for step in np.linspace(-0.5, 0.5, 15)]
    plane = [[loss + 2 * a**2 + b**2 + a * b for b in steps] for a in steps]
    return {
        "subset": subset,
        "images": 1000,
        "loss": loss,
        "accuracy": 0.985,
        "gradient_norm": 0.01 * largest**0.5,
        "agreement": 0.0,
        "blocks": [
            block("all", 454_056, largest),
            block("backbone", 177_000, 0.8 * largest),
            block("gate", 4_104, 0.1 * largest),
            block("experts", 267_856, 0.4 * largest),
        ],
        "density": {"grid": grid.tolist(), "density": np.asarray(density).tolist(), "probes": 4, "steps": 80},
        "lines": [
            line("top eigenvector", "small", largest, 0.01, loss),
            line("random 0", "small", largest / 40, 0.01, loss),
            line("top eigenvector", "paper", largest, 0.5, loss),
            line("random 0", "paper", largest / 40, 0.5, loss),
        ],
        "surface": {
            "alphas": steps,
            "betas": steps,
            "losses": plane,
            "rerouted": [[int(30 * max(0.0, abs(a) + abs(b) - 0.4)) for b in steps] for a in steps],
        },
        "sam": [{"radius": 0.05, "loss_increase": 0.021, "rerouted": 3}],
        "adaptive": [{"radius": 0.5, "loss_increase": 0.08, "rerouted": 12}],
    } | fields


def sharpness(head: str = "sparse", **fields: Any) -> dict[str, Any]:
    """Return the curvature of one checkpoint on training and test images."""
    largest = {"dense": 40.0, "soft": 25.0}.get(head, 20.0)
    return {
        **about("sharpness", f"moegap sharpness runs/study/{head}-seed0 --out runs/sharpness"),
        "checkpoint": f"{head}-seed0",
        "head": head,
        "policy": "top_k" if head == "sparse" else None,
        "data": "cifar10-jpeg",
        "images": 1000,
        "loss": "cross-entropy",
        "dtype": "float32",
        "seed": 0,
        "parts": [sharpness_part("train", largest), sharpness_part("test", 30 * largest, 0.4, gradient_norm=2.0)],
    } | fields


def layers(spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the rows that each layer of a chart draws."""
    places = [layer.get("data", spec.get("data")) for layer in spec["layer"]]
    return [place["values"] if "values" in place else spec["datasets"][place["name"]] for place in places]


def write(path: Path, content: dict[str, Any]) -> Path:
    """Write a study file and return its path."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def everything(folder: Path) -> list[Path]:
    """Write one file of each kind and return their paths."""
    return [
        write(folder / "study.json", training()),
        write(folder / "policies.json", policies()),
        write(folder / "history.json", lone_history()),
        write(folder / "sparse-seed0.json", sharpness()),
    ]
