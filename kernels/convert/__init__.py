"""convert: an existing model -> the same model on this package's layers; revert: back again; report: what was done."""

from kernels.convert.convert import convert, revert
from kernels.convert.report import Report, Row, report

__all__ = ["Report", "Row", "convert", "report", "revert"]
