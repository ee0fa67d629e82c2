"""The report: one self-contained HTML file that shows how a model reads an image."""

from cnn.report.write import Report, write_report

__all__ = ["Report", "write_report"]
