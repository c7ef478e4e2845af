# Each target does all its own set-up on a fresh Debian or Ubuntu machine, as root or with sudo.
# The second time, set-up takes less than a second.

BIN := .venv/bin
PYTEST := $(BIN)/pytest -n 2 --dist worksteal

.PHONY: help demo test bench lint types check setup clean

help:
	@echo 'make demo    build for two platforms and push to a private TLS registry, from start to end'
	@echo 'make test    run the tests'
	@echo 'make check   lint, types and tests, as CI does'
	@echo 'make bench   measure against the builders that are installed'
	@echo 'make lint    ruff; make types: mypy'

setup:
	@tools/system-packages
	@tools/virtualenv

demo:
	@tools/system-packages demo
	@tools/virtualenv
	@demo/run

test: setup
	@$(PYTEST)

bench: setup
	@$(BIN)/python bench/run.py

lint:
	@tools/virtualenv
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types:
	@tools/virtualenv
	@$(BIN)/mypy

check:
	@.ci/run

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
