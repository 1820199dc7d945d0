# One word for what developers run; each is one command that can be typed as well.
.PHONY: build smoke test test-all bench docs lint sanitize-address sanitize-undefined sanitize-thread aarch64 toolchains
build:
	tools/develop.py
smoke:
	pytest -m smoke
test:
	pytest -n 2
test-all:
	pytest -n 2 -m "long or not slow"
bench:
	python benchmarks/layer_timing.py
docs:
	tools/update_docs.py
lint:
	ruff check && ruff format --check && mypy
sanitize-address sanitize-undefined sanitize-thread:
	tools/sanitize.py $(subst sanitize-,,$@)
aarch64:
	tools/cross_check.py
toolchains:
	tools/toolchains.py
