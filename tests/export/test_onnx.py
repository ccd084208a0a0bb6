"""Operators of exported graphs, as other runtimes read them."""

import pytest
import torch

from drfpn.export.onnx import OPSET
from drfpn.necks import DRFPN
from drfpn.ops import dispatch

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def neck() -> DRFPN:
    torch.manual_seed(0)
    neck = DRFPN((4, 6), 4, context=None).eval()
    torch.nn.init.normal_(neck.top_down.steps[0].offset.weight)
    return neck


def nodes_of(neck, maps):
    program = torch.onnx.export(neck, (maps,), dynamo=True, opset_version=OPSET, verbose=False, optimize=False)
    (version,) = (entry.version for entry in program.model_proto.opset_import if entry.domain == "")
    assert version == OPSET
    return [*program.model_proto.graph.node, *(n for f in program.model_proto.functions for n in f.node)], program


@pytest.mark.filterwarnings("ignore")
def test_grid_sample_is_bilinear_by_the_name_that_tensorrt_knows(neck, pyramid_maps) -> None:
    nodes, _ = nodes_of(neck, pyramid_maps((4, 6), 8, 12))
    modes = [a.s for node in nodes if node.op_type == "GridSample" for a in node.attribute if a.name == "mode"]
    assert modes == [b"bilinear"]


@pytest.mark.filterwarnings("ignore")
def test_without_grid_sample_the_graph_gathers_and_computes_the_same(neck, pyramid_maps) -> None:
    runtime = pytest.importorskip("onnxruntime")
    maps = pyramid_maps((4, 6), 8, 12)
    with dispatch.avoid_grid_sample():
        nodes, program = nodes_of(neck, maps)
    operators = {node.op_type for node in nodes}
    assert "GridSample" not in operators
    assert "GatherElements" in operators
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    feed = {value.name: m.numpy() for value, m in zip(session.get_inputs(), maps, strict=True)}
    with torch.no_grad():
        for level, expected in zip(session.run(None, feed), neck(maps), strict=True):
            torch.testing.assert_close(torch.from_numpy(level), expected, rtol=1e-4, atol=1e-5)
