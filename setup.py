"""Package definition. The distribution is named triton-cnn; it installs the packages kernels, cnn and bench."""

from setuptools import setup

CNN = ["scikit-learn>=1.3", "matplotlib>=3.7", "pillow>=10.1", "scipy>=1.10", "tqdm>=4.60"]
BENCH = ["pytest>=8", "pytest-benchmark>=4", "matplotlib>=3.7"]
TEST = [*CNN, *BENCH, "pytest-xdist>=3.5", "hypothesis>=6.90", "expecttest>=0.2", "mypy>=1.8", "ruff>=0.4"]

setup(
    packages=[
        "kernels",
        "kernels.common",
        "kernels.conv2d",
        "kernels.cpu",
        "kernels.pool2d",
        "kernels.tuned",
        "cnn",
        "cnn.commands",
        "cnn.data",
        "bench",
    ],
    package_data={"kernels": ["py.typed"], "kernels.tuned": ["*.json"]},
    entry_points={"console_scripts": ["cnn = cnn.__main__:main"]},
    extras_require={"cnn": CNN, "bench": BENCH, "test": TEST},
)
