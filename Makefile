# make demo and make test do all their own set-up; both run from any working directory (make -C PATH demo).
ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
PYTHON ?= python3
VENV := $(ROOT).venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Tests use few threads a process: many threads on a busy machine make tiny models ten times slower.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$n)

.PHONY: help setup demo test test-browser lint sanitize docs hub gpu bench clean

help:
	@echo "make demo   train LeNet on real handwritten digits (pictures in runs/demo)"
	@echo "make test   lint, types and every test; no GPU needed"
	@echo "make test-browser   install Chromium (Debian) and test the report in it"
	@echo "make sanitize  the CPU kernels' tests under the address and undefined-behaviour sanitizers"
	@echo "make bench  this machine's benchmark rows"
	@echo "make docs   the API pages and the page of measured speed"
	@echo "make hub    the kernels as a folder for the Hugging Face Hub, in build/hub"
	@echo "make gpu    on a CUDA machine: correctness, benchmarks, tuning, each time-bounded (MINUTES=25 in all)"

setup: $(STAMP)

$(STAMP): $(ROOT)setup.py $(ROOT)pyproject.toml $(ROOT)constraints.txt $(wildcard $(ROOT)kernels/cpu/csrc/* $(ROOT)kernels/cpu/csrc/python/*)
	cd $(ROOT) && $(PYTHON) -m venv $(VENV)
	cd $(ROOT) && $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cnn,bench,test]"
	touch $(STAMP)

demo: $(STAMP)
	cd $(ROOT) && $(PY) -m cnn demo --output runs/demo

lint: $(STAMP)
	cd $(ROOT) && $(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

test: lint
	cd $(ROOT) && OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal -q

# The C++ kernels built with the address and undefined-behaviour sanitizers, in a copy of the tree, under their tests.
SANITIZED := $(ROOT)build/sanitize
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
sanitize: $(STAMP)
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cd $(ROOT) && cp -r kernels tests setup.py pyproject.toml MANIFEST.in $(SANITIZED) && rm -f $(SANITIZED)/kernels/cpu/_native.so
	cd $(SANITIZED) && CFLAGS="$(SANITIZERS)" LDFLAGS="$(SANITIZERS)" $(PY) setup.py -q build_ext --inplace
	test -f $(SANITIZED)/kernels/cpu/_native.so
	cd $(SANITIZED) && LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 OMP_NUM_THREADS=1 PYTHONPATH=. $(PY) -m pytest -q tests/kernels/cpu -m "not slow"

# The browser tests also run in make test wherever a Chromium is found.
test-browser: $(STAMP)
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
	{ SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update && $$SUDO apt-get install -y chromium; }
	cd $(ROOT) && OMP_NUM_THREADS=1 $(PY) -m pytest tests/cnn/see/test_report_in_browser.py -q

bench: $(STAMP)
	cd $(ROOT) && $(PY) -m bench run --device cpu --set cpu --fresh
	cd $(ROOT) && $(PY) -m bench cold --device cpu
	cd $(ROOT) && $(PY) -m bench report

docs: $(STAMP)
	cd $(ROOT) && $(PY) tools/make_docs.py

hub:
	cd $(ROOT) && $(PYTHON) tools/make_hub.py

MINUTES ?= 25
gpu:
	cd $(ROOT) && PYTHONPATH=. $$([ -x $(PY) ] && echo $(PY) || echo $(PYTHON)) -m bench gpu --minutes $(MINUTES)

clean:
	rm -rf $(VENV) $(ROOT)runs
