"""LeNet-5 whole: one kernel forward, three for all gradients."""

from kernels.lenet.op import lenet, lenet_loss, lenet_predict

__all__ = ["lenet", "lenet_loss", "lenet_predict"]
