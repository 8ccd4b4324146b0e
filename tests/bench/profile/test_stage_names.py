"""Stages told by the names of operators, nodes and kernels."""

import pytest

import kernels.ops.combine
import kernels.ops.dispatch
import kernels.ops.fused_rows
import kernels.ops.fused_tiles
import kernels.ops.grouped_gemm
import kernels.ops.router
from bench.profile.stage_names import KERNELS, stage_named


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("FusedGemm", "experts"),
        ("MatMul", "experts"),
        ("aten::addmm", "experts"),
        ("sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32", "experts"),
        ("nvjet_tst_128x64_64x6_2x1_v_bz_TNN", "experts"),
        ("TopK", "route"),
        ("void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float>", "route"),
        ("GatherND", "dispatch"),
        ("aten::index", "dispatch"),
        ("ScatterND", "combine"),
        ("aten::index_add", "combine"),
        ("aten::_index_put_impl_", "combine"),
        ("Cast", "other"),
        ("Memset (Device)", "other"),
        ("_fused_rows_kernel", "fused"),
        ("_grouped_gemm_kernel", "experts"),
    ],
)
def test_names_tell_the_stage(name: str, stage: str) -> None:
    assert stage_named(name) == stage


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("graph_0_cpp_fused_relu_3", "experts"),
        ("triton_poi_fused_index_add_mul_7", "combine"),
        ("triton_poi_fused_index_2", "dispatch"),
        ("triton_per_fused_sort_softmax_topk_1", "route"),
        ("graph_0_cpp_fused__softmax_arange_index_index_add_mul_unsqueeze_4", "fused"),
        ("triton_poi_fused_index_relu_0", "fused"),
        ("graph_0_cpp_fused_abs_amax_div_sqrt_sub_where_0", "other"),
    ],
)
def test_a_kernel_that_computes_several_stages_is_fused(name: str, stage: str) -> None:
    assert stage_named(name) == stage


def test_our_own_kernels_have_the_names_that_tell_their_stage() -> None:
    modules = (
        *(kernels.ops.combine, kernels.ops.dispatch, kernels.ops.grouped_gemm, kernels.ops.router),
        *(kernels.ops.fused_rows, kernels.ops.fused_tiles),
    )
    named = {name for module in modules for name in vars(module) if name.endswith("_kernel")}
    assert named == set(KERNELS)
