"""Public models' layers: their sizes, equal pairs, what is shrunk and why, one model's weights at a time."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.correctness.equivalence import deviation, head_reference
from bench.errors import BenchError
from bench.forms import form
from bench.subjects import public_layers
from bench.subjects.layers import LAYERS, MODELS
from bench.subjects.public_layers import divided, least_factor, subjects
from bench.subjects.skew import SKEWS, skewed_rows
from models.config import head_config
from models.heads.heads import equal_capacity

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30
SIZES = {  # D = C, H, E, k
    "mixtral-8x7b": (4096, 14336, 8, 2),
    "olmoe-1b-7b": (2048, 1024, 64, 8),
    "qwen3-30b-a3b": (2048, 768, 128, 8),
    "deepseek-v3-rank": (7168, 2048, 32, 2),
    "gpt-oss-20b": (2880, 2880, 32, 4),
    "gpt-oss-120b": (2880, 2880, 128, 4),
}
TINY = {"olmoe-1b-7b": 32, "gpt-oss-20b": 32, "mixtral-8x7b": 128}


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets the free memory of a GPU and of the host, in bytes, and the host's threads."""

    def set_free(gpu, host, threads=2):
        monkeypatch.setattr(public_layers, "available_memory", lambda device: gpu if device.type == "cuda" else host)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    return set_free


def pair(name, factor, dtype=torch.float32, seed=0):
    (found,) = subjects(CPU, dtype, factor, [name], seed)
    return found


def test_sizes_and_sources_are_those_of_the_models():
    heads = {name: LAYERS[name].head for name in MODELS}
    assert {name: (head.features, head.hidden, head.experts, head.k) for name, head in heads.items()} == SIZES
    for name, head in heads.items():
        layer = LAYERS[name]
        assert head.classes == head.features
        assert head.activation == "swiglu"
        assert layer.source.startswith("config.json of "), name
        assert layer.biased == ("clamped" in layer.source) == name.startswith("gpt-oss")


@pytest.mark.parametrize("name", MODELS)
def test_a_pair_has_equal_experts_and_only_its_widths_are_divided(name):
    D, H, E, k = SIZES[name]
    factor = 8
    sparse = divided(LAYERS[name], factor)
    dense = equal_capacity(sparse)
    assert (sparse.features, sparse.hidden, sparse.classes) == (D // factor, H // factor, D // factor)
    assert (sparse.experts, sparse.k, sparse.weights_over, sparse.standardise) == (E, k, "selected", False)
    assert (sparse.dropout, sparse.gate_dropout, sparse.temperature) == (0, 0, 1)
    assert (dense.features, dense.hidden, dense.classes) == (D // factor, E * H // factor, D // factor)
    assert dense.activation == sparse.activation == "swiglu"


def test_the_papers_layer_is_its_head_without_a_backbone():
    sparse, dense = pair("paper", 1)
    assert sparse.head.config == head_config("sparse")
    assert (dense.head.config.features, dense.head.config.hidden, dense.head.config.classes) == (512, 512, 10)
    assert sparse.model.config.backbone.name == "identity"
    assert bool(sparse.head.gate.bias.any())
    assert bool(dense.head.b1.any())


@pytest.mark.parametrize("name", TINY)
def test_the_record_says_source_and_factor(name):
    sparse, dense = pair(name, TINY[name])
    for subject, kind in ((sparse, "sparse"), (dense, "dense")):
        assert subject.name == f"{name}-{kind}"
        assert (subject.weights, subject.features) == ("initialised", None)
        assert (subject.source, subject.shrunk) == (LAYERS[name].source, f"widths divided by {TINY[name]}")
    experts = [sum(getattr(one.head, weight).numel() for weight in ("w1", "b1", "w2")) for one in (sparse, dense)]
    assert experts[0] == experts[1]


def test_nothing_is_said_of_widths_that_are_the_models_own(monkeypatch):
    layer = LAYERS["olmoe-1b-7b"]
    small = layer.head.model_copy(update={"features": 64, "hidden": 4, "classes": 64})
    monkeypatch.setitem(LAYERS, "olmoe-1b-7b", replace(layer, head=small))
    assert [subject.shrunk for subject in pair("olmoe-1b-7b", 1)] == ["", ""]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_seeded_distinct_and_in_place(name, dtype):
    for one, again, other in zip(*(pair(name, TINY[name], dtype, seed) for seed in (1, 1, 2)), strict=True):
        weights, same = dict(one.head.named_parameters()), dict(again.head.named_parameters())
        for key, value in weights.items():
            assert (value.dtype, value.device, value.requires_grad) == (dtype, CPU, False)
            assert torch.equal(value, same[key])
            if key in ("b1", "b2") or key.endswith("bias"):
                assert bool(value.any()) == LAYERS[name].biased, key
                continue
            fan_in = value.shape[-2 if key in ("w1", "w2") else -1]
            assert not torch.equal(value, dict(other.head.named_parameters())[key])
            assert float(value.float().std()) == pytest.approx((3 * fan_in) ** -0.5, rel=0.1), key
        assert not one.model.training
        assert one.on(CPU, dtype) is one.model
    sparse, _ = pair(name, TINY[name], dtype)
    assert not torch.equal(sparse.head.w1[0], sparse.head.w1[1])


@pytest.mark.parametrize("name", MODELS)
def test_every_form_that_runs_here_equals_the_reference(name, free):
    free(0, 64 * GIB, threads=0)  # too slow for any factor
    factor = least_factor(LAYERS[name], CPU, torch.float32)
    for subject in pair(name, factor):
        x = torch.randn(65, subject.head.config.features, generator=torch.Generator().manual_seed(5))
        expected = head_reference(subject.head, x)
        for form_name in ("loop", "eager", "grouped_mm"):
            chosen = form(form_name)
            if chosen.unavailable(subject.head.config, CPU, x.dtype) is None:
                assert deviation(chosen.prepare(subject.head, x)(x), expected, x).acceptable, form_name


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_a_pair_is_drawn_on_the_gpu_and_every_form_equals_the_reference(name):
    device, dtype = torch.device("cuda", 0), torch.bfloat16
    (found,) = subjects(device, dtype, 16, [name])
    for subject in found:
        assert {(value.device, value.dtype) for value in subject.model.state_dict().values()} == {(device, dtype)}
        assert subject.on(device, dtype) is subject.model
        x = torch.randn(65, subject.head.config.features, device=device).to(dtype)
        expected = head_reference(subject.head, x)
        for form_name in ("loop", "eager", "grouped_mm", "triton"):
            chosen = form(form_name)
            if chosen.unavailable(subject.head.config, device, dtype) is None:
                assert deviation(chosen.prepare(subject.head, x)(x), expected, x).acceptable, form_name


@pytest.mark.parametrize("name", MODELS)
def test_rows_can_be_made_for_every_routing_at_the_greatest_factor(name, free):
    free(0, 64 * GIB, threads=0)
    sparse, _ = pair(name, least_factor(LAYERS[name], CPU, torch.float32))
    assert sparse.head.config.features >= sparse.head.config.experts
    for skew in SKEWS:
        assert skewed_rows(sparse.head, skew, 9).shape == (9, sparse.head.config.features)


def test_one_models_weights_exist_at_a_time():
    generator = subjects(CPU, torch.float32, 32, ["olmoe-1b-7b", "gpt-oss-20b"])
    alive = [weakref.ref(subject.model) for subject in next(generator)]
    gc.collect()
    assert [model() for model in alive] == [None, None]
    assert [subject.name for subject in next(generator)] == ["gpt-oss-20b-sparse", "gpt-oss-20b-dense"]


def weights_of(name, factor):
    D, H, E, _ = SIZES[name]
    return E * 3 * (D // factor) * (H // factor)


@pytest.mark.parametrize(
    ("name", "dtype", "gpu", "factor"),
    [
        ("mixtral-8x7b", torch.bfloat16, 79, 1),  # 6 heads of 2.6 GiB
        ("gpt-oss-120b", torch.bfloat16, 79, 1),  # 6 heads of 5.9 GiB
        ("gpt-oss-120b", torch.float32, 79, 2),
        ("mixtral-8x7b", torch.float32, 79, 1),
        ("mixtral-8x7b", torch.float32, 39, 2),
        ("olmoe-1b-7b", torch.bfloat16, 15, 1),
        ("qwen3-30b-a3b", torch.float32, 15, 2),
    ],
)
def test_a_gpus_memory_decides(name, dtype, gpu, factor, free):
    free(gpu * GIB, 128 * GIB)
    assert least_factor(LAYERS[name], CUDA, dtype) == factor


def test_the_hosts_memory_must_hold_the_reference(free):
    free(1000 * GIB, 16 * GIB)
    assert least_factor(LAYERS["mixtral-8x7b"], CUDA, torch.bfloat16) == 2  # 12 bytes x 1.4e9 weights of 8 GiB


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(MODELS)),
    gpu=st.integers(4, 200),
    host=st.integers(4, 400),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_least_factor_fits_and_half_of_it_does_not(name, gpu, host, dtype):
    with pytest.MonkeyPatch.context() as patch:
        memory = {"cuda": gpu * GIB, "cpu": host * GIB}
        patch.setattr(public_layers, "available_memory", lambda device: memory[device.type])
        factor = least_factor(LAYERS[name], CUDA, dtype)
    share = public_layers.MEMORY_SHARE

    def needed(factor, slack):
        heads, reference = 6 * dtype.itemsize * weights_of(name, factor), 12 * weights_of(name, factor)
        return max(heads / memory["cuda"], reference / memory["cpu"]) * slack / share

    assert needed(factor, 1.0) <= 1
    assert factor == 1 or needed(factor // 2, 1.02) > 1  # biases and gates add below 2 %


@pytest.mark.parametrize("name", MODELS)
def test_a_call_on_a_cpu_stays_within_its_time(name, free):
    D, H, E, _ = SIZES[name]
    free(0, 64 * GIB)
    factor = least_factor(LAYERS[name], CPU, torch.float32)

    def seconds(factor):
        return 2 * public_layers.ROWS * 3 * (D // factor) * (E * H // factor) / (2 * 5e10)

    narrowest = D // (2 * factor) < E  # below which no rows could be made for a routing
    assert seconds(factor) <= public_layers.SECONDS or narrowest
    assert seconds(factor // 2) > public_layers.SECONDS
    assert D % factor == 0


def test_bfloat16_without_instructions_for_it_counts_as_slow(free, monkeypatch):
    free(0, 64 * GIB)
    found = []
    for fast in (True, False):
        monkeypatch.setattr(public_layers, "multiplies_bfloat16", lambda fast=fast: fast)
        found.append(least_factor(LAYERS["mixtral-8x7b"], CPU, torch.bfloat16))
    assert found == [16, 32]


def test_too_little_memory_is_told(free):
    free(0, 2**20)
    generator = subjects(CPU, torch.float32, names=["gpt-oss-120b"])
    with pytest.raises(
        BenchError, match=r"gpt-oss-120b needs more than 50% of the free memory.* divided by 16; free some"
    ):
        next(generator)
