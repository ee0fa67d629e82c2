"""Package definition. The distribution is named triton-cnn; it installs the packages kernels, cnn and bench."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import sys

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

CNN = ["scikit-learn>=1.3", "matplotlib>=3.7", "pillow>=10.1", "scipy>=1.10", "tqdm>=4.60"]
BENCH = ["pytest>=8", "pytest-benchmark>=4", "matplotlib>=3.7"]
# The Chromium that it drives is the system's (apt-get install chromium); no browser is downloaded.
BROWSER = ["playwright>=1.44"]
# build and setuptools make the wheel that the tests install.
MAKE = ["build>=1.2", "setuptools>=77"]
CHECK = ["pytest-xdist>=3.5", "hypothesis>=6.90", "expecttest>=0.2", "mypy>=1.8", "ruff>=0.4"]
TEST = [*CNN, *BENCH, *BROWSER, *MAKE, *CHECK]

CSRC = "kernels/cpu/csrc"
COMPILE = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fvisibility=hidden", "-g0", "-w"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
VARIANTS: dict[str, tuple[int, list[str]]] = {"baseline": (16, [])}
if platform.machine().lower() in ("x86_64", "amd64"):
    VARIANTS.update(avx2=(32, AVX2), avx512=(64, AVX512))


def source_id(folder: str) -> str:
    """What kernels/cpu/native.py compares a built library with: the hash of the C++ it came from."""
    files = sorted(glob.glob(f"{folder}/*.cpp") + glob.glob(f"{folder}/*.h"), key=os.path.basename)
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as source:
            digest.update(source.read())
    return digest.hexdigest()[:16]


class BuildKernels(build_ext):
    """The CPU kernels as a plain shared library: each file once per instruction set, threads.cpp once for all; and
    their front, a usual extension module."""

    def get_ext_filename(self, fullname: str) -> str:
        """No Python ABI in the kernels' name: the library calls nothing of Python's."""
        if not fullname.endswith("_native"):
            return super().get_ext_filename(fullname)
        return os.path.join(*fullname.split(".")) + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """What the kernels export is marked in their source."""
        return [] if ext.name.endswith("_native") else super().get_export_symbols(ext)

    def build_extension(self, ext: Extension) -> None:
        """Compile for every instruction set of this machine's family, link once."""
        if not ext.name.endswith("_native"):
            super().build_extension(ext)
            return
        shared = [source for source in ext.sources if source.endswith("threads.cpp")]
        objects = self._compile(shared, "shared", [f'-DSOURCE_ID="{source_id(CSRC)}"'])
        for isa, (width, flags) in VARIANTS.items():
            defines = [f"-DISA={isa}", f"-DVECTOR_BYTES={width}", *flags]
            objects += self._compile([s for s in ext.sources if s not in shared], isa, defines)
        self.compiler.link_shared_object(objects, self.get_ext_fullpath(ext.name), target_lang="c++")

    def _compile(self, sources: list[str], name: str, flags: list[str]) -> list[str]:
        return self.compiler.compile(sources, os.path.join(self.build_temp, name), extra_postargs=[*COMPILE, *flags])


setup(
    # Optional: without a compiler the package installs all the same and runs on torch's operators.
    ext_modules=[
        Extension(
            "kernels.cpu._native",
            sorted(glob.glob(f"{CSRC}/*.cpp")),
            depends=sorted(glob.glob(f"{CSRC}/*.h")),
            language="c++",
            optional=True,
        ),
        Extension(
            "kernels.cpu._front",
            [f"{CSRC}/python/front.cpp"],
            depends=[f"{CSRC}/python/entry.h"],
            define_macros=[("SOURCE_ID", f'"{source_id(CSRC + "/python")}"')],
            extra_compile_args=["-std=c++17", "-O2", "-fvisibility=hidden", "-g0"],
            language="c++",
            optional=True,
        ),
    ],
    cmdclass={"build_ext": BuildKernels},
    packages=find_packages(include=[name + end for name in ("kernels", "cnn", "bench") for end in ("", ".*")]),
    include_package_data=False,  # the wheel holds no C++ sources; the source distribution does, by MANIFEST.in
    package_data={
        "kernels": ["py.typed"],
        "kernels.tuned": ["*.json"],
        "cnn.report": ["assets/*"],
        "bench.cases": ["*.json"],
    },
    entry_points={"console_scripts": ["cnn = cnn.__main__:main"]},
    extras_require={"cnn": CNN, "bench": BENCH, "browser": BROWSER, "test": TEST},
)
