# Everything runs in .venv, which is made on first use and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast test-mmdet test-ray check format clean

demo: .venv/ready  ## train a small DRFPN detector on synthetic shapes, measure it, draw what it finds
	$(BIN)/drfpn demo

test: .venv/ready  ## all tests, slow ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --durations 15

test-fast: .venv/ready  ## without those that train
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

test-mmdet: .venv-mmdet/ready  ## the necks in mmdetection
	OMP_NUM_THREADS=1 .venv-mmdet/bin/python -m pytest -n auto tests/integrations/test_mmdet.py

test-ray: .venv-ray/ready  ## ablations and predictions on a Ray cluster of this machine
	OMP_NUM_THREADS=1 .venv-ray/bin/python -m pytest tests/cli/test_ray.py

check: .venv/ready  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "drfpn needs Python 3.11 or newer; say make PYTHON=python3.12 or the like"; exit 1; }
	@echo "installing into .venv: torch is large, so this takes some minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev,lite0]"
	@touch $@

# mmdetection and Ray in environments of their own, on top of the packages of .venv.
.venv-mmdet/ready: EXTRA = mmdet-test
.venv-ray/ready: EXTRA = ray
.venv-%/ready: .venv/ready
	$(PYTHON) -m venv .venv-$*
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$(.venv-$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/drfpn-venv.pth"
	.venv-$*/bin/pip install --quiet --disable-pip-version-check -e ".[$(EXTRA)]"
	@touch $@

clean:
	rm -rf .venv .venv-mmdet .venv-ray .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
