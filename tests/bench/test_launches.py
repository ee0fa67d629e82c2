"""Launches, kernels and kernel time out of the profiler's events, and their table."""

from __future__ import annotations

from types import SimpleNamespace

from bench.launches import Launches, counted
from bench.report.data import Device
from bench.report.tables import full
from tests.bench.test_report import row


def event(name, on="CUDA", us=0.0, **more):
    span = SimpleNamespace(elapsed_us=lambda: us)
    return SimpleNamespace(name=name, device_type=SimpleNamespace(name=on), time_range=span, **more)


def test_copies_and_annotations_are_no_kernels():
    seen = counted(
        [
            event("aten::relu", "CPU"),
            event("cudaLaunchKernel", "CPU"),
            event("cuLaunchKernelEx", "CPU"),
            event("cudaMemcpyAsync", "CPU"),
            event("Optimizer.step#SGD.step", "CPU"),
            event("Optimizer.step#SGD.step", us=50.0),
            event("## Call CompiledFxGraph ##", us=70.0, is_user_annotation=True),
            event("Memset (Device)", us=2.0),
            event("Memcpy DtoD (Device -> Device)", us=3.0),
            event("forward_kernel", us=4.5),
            event("void at::native::vectorized_elementwise_kernel<4>", us=1.25),
        ]
    )
    assert seen == Launches(kernels=2, launches=2, kernel_us=5.75)


def test_a_graph_is_one_launch_of_many_kernels():
    seen = counted([event("cudaGraphLaunch", "CPU"), *(event(f"kernel {i}", us=1.0) for i in range(11))])
    assert seen == Launches(kernels=11, launches=1, kernel_us=11.0)


def test_the_table_shows_launches_beside_wall_time():
    card = {"kind": "cuda", "device": "H100", "cache": "flushed"}
    case = "lenet/inference/n1/fp32"
    started = Launches(1, 1, 6.0).as_dict()
    rows = [
        row(case, "ours_fused", 7.0, metric="device", **card, **started),
        row(case, "ours_fused", 18.0, metric="wall", **card, **started),
        row(case, "eager", 60.0, metric="device", **card, **Launches(12, 12, 30.0).as_dict()),
    ]
    text = full(Device("h100", rows))
    assert "| lenet/inference/n1/fp32 | this package FUSED | 1 | 1 | 6 µs | 18 µs |" in text
    assert "| lenet/inference/n1/fp32 | torch NCHW | 12 | 12 | 30 µs | – |" in text
    assert "launches a step" not in full(Device("cpu", [row(case, "eager", 60.0)]))
