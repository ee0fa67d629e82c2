"""The frozen cases are the networks they are named after, and the counted work is torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.cases import Case, networks
from bench.cases.sets import SETS, cases, everything_named
from bench.limits import Limits, work_of
from cnn.errors import UserError

# Published for torchvision's models: unique convolutions, their weights and biases, their multiply-adds.
PUBLISHED = {
    "lenet": (2, 2_572, 357_600),
    "resnet50": (23, 23_454_912, 4_087_136_256),
    "vgg16": (9, 14_714_688, 15_346_630_656),
    "mobilenetv2": (30, 2_189_760, 299_494_272),
    "alexnet": (5, 2_469_696, 655_566_528),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_network_is_the_published_one(network):
    convolutions = [layer for layer in networks()[network] if layer.op == "conv2d"]
    weights = sum(x.count * x.k * (x.c // x.groups * x.kernel[0] * x.kernel[1] + x.bias) for x in convolutions)
    macs = sum(x.count * x.macs for x in convolutions)
    assert (len(convolutions), weights, macs) == PUBLISHED[network]


def test_every_layer_s_output_size_is_torch_s():
    for layers in networks().values():
        for layer in layers:
            x = torch.empty(1, layer.c, layer.h, layer.w, device="meta")
            if layer.op == "conv2d":
                w = torch.empty(layer.k, layer.c // layer.groups, *layer.kernel, device="meta")
                y = F.conv2d(x, w, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            else:
                more = (layer.kernel, layer.stride, layer.padding)
                pool = F.max_pool2d if layer.op == "max_pool2d" else F.avg_pool2d
                y = pool(x, *more, ceil_mode=layer.ceil_mode)
            assert tuple(y.shape[1:]) == (layer.k_out, *layer.out), layer.name


def test_names_are_unique_and_findable():
    for name in SETS:
        found = cases(name)
        assert len({case.name for case in found}) == len(found)
    for case in cases("all")[:: len(cases("all")) // 40]:
        assert everything_named(case.name) == case


def test_a_pattern_chooses_and_a_wrong_one_says_so():
    assert [case.op for case in cases("smoke", ["lenet/pool1.avg/*/inference/*"])] == ["avg_pool2d"]
    with pytest.raises(UserError, match="no case of set 'smoke' fits nothing"):
        cases("smoke", ["nothing"])
    with pytest.raises(UserError, match="set 'x' is unknown"):
        cases("x")


@pytest.mark.parametrize("work", ["inference", "dgrad", "wgrad", "training"])
@pytest.mark.parametrize("name", ["layer1.0.conv2", "layer2.0.downsample.0", "conv1"])
def test_flops_are_torch_s_count(name, work):
    layer = next(x for x in networks()["resnet50"] if x.name == name)
    if layer.from_image and work == "dgrad":
        pytest.skip("an image needs no gradient")
    case = Case("resnet50", "conv2d", work, 2, layer=layer)
    x = torch.empty(2, layer.c, layer.h, layer.w, device="meta", requires_grad=not layer.from_image)
    w = torch.empty(layer.k, layer.c, *layer.kernel, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        y = F.conv2d(x, w, None, layer.stride, layer.padding)
    leaves = {"dgrad": [x], "wgrad": [w], "training": [t for t in (x, w) if t.requires_grad]}.get(work, [])
    with FlopCounterMode(display=False) as backward:
        if leaves:
            torch.autograd.grad(y, leaves, torch.empty_like(y))
    counted = {"inference": forward.get_total_flops(), "training": forward.get_total_flops()}.get(work, 0)
    assert work_of(case)[0] == counted + backward.get_total_flops()


def test_bytes_of_a_pool():
    case = cases("smoke", ["lenet/pool1/*/inference/*"])[0]
    assert work_of(case) == (0.0, 2 * 6 * (28 * 28 + 14 * 14) * 4)


def test_the_limit_is_the_slower_of_compute_and_memory():
    limits = Limits(bandwidth=100.0, rates={"fp32": 1000.0})
    assert limits.seconds(2000.0, 100.0, "fp32") == (2.0, "compute")
    assert limits.seconds(500.0, 100.0, "fp32") == (1.0, "memory")
