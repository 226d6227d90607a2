# Everything a newcomer needs: `make demo` shows the whole way, `make test` proves it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := demo

.PHONY: install demo test test-min test-newest lint types imports check bench docs package clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@echo "== install into $(VENV): 3 GB, about two minutes without a word"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m nhdata.features.warm_up
	# scorers that tests compare ours with; they pin older versions of what they need, and run with these
	$(BIN)/python -m pip install --quiet --no-deps ibl-bwb-eval==0.1.0 nlb_tools==0.0.4
	@touch $@

demo: install
	@rm -rf $(DEMO) && mkdir $(DEMO)
	@echo "== simulate four sessions and ingest them"
	$(BIN)/nhdata ingest --source synthetic --sessions 4 --units 24 --seconds 300 --store $(DEMO)/data.zarr
	@echo "== ask the catalog"
	$(BIN)/nhdata sql --store $(DEMO)/data.zarr \
	  "select region, count(*) as n_units, avg(u.rate_hz) as rate_hz, avg(isi_cv) as isi_cv from units u join unit_features using (unit_id) where good group by region order by region"
	@echo "== the 33 reference features of every unit, from the second minute"
	$(BIN)/nhdata features --store $(DEMO)/data.zarr --window 60 120 --format parquet --out $(DEMO)/features.parquet
	@echo "== train a small NeuroHorizon on three of the sessions"
	$(BIN)/nhmodel train --store $(DEMO)/data.zarr --preset tiny --out $(DEMO)/run --set train.max_minutes=2 \
	  --select "select unit_id from units where session_id not like '%-003'"
	@echo "== score it beside the baselines; the fourth session is new to it"
	$(BIN)/nhmodel evaluate --run $(DEMO)/run --store $(DEMO)/data.zarr --html $(DEMO)/report.html \
	  --select "select unit_id from units where good"
	@echo
	@echo "store     $(DEMO)/data.zarr          (nhdata ls --store $(DEMO)/data.zarr)"
	@echo "features  $(DEMO)/features.parquet"
	@echo "run       $(DEMO)/run"
	@echo "report    $(DEMO)/report.html        (open it in a browser)"

test: install
	$(BIN)/pytest

# the oldest versions that pyproject.toml allows, and the newest there are, each in an environment of its own
test-min:    CONSTRAINTS := --constraint constraints-min.txt
test-newest: CONSTRAINTS := $(if $(TORCH),'torch==$(TORCH)')
test-min test-newest:
	$(PYTHON) -m venv .venv-$@
	.venv-$@/bin/python -m pip install --quiet $(CONSTRAINTS) --editable '.[dev]'
	.venv-$@/bin/pytest $(TESTS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

check: lint types imports test

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "docs      site/index.html"

package: install
	$(BIN)/python -m build --no-isolation

# what takes long is asked for: `make bench BENCH=.` is all of it, `make bench BENCH=bench_s3` one module
BENCH ?= ^bench_(?!s3|report|kernels|features\.Compilation|loader\.Stream\w+\.\w+\([12]\))
bench: install
	cd benchmarks && ../$(BIN)/asv machine --yes
	-cd benchmarks && ../$(BIN)/asv run --python=same --set-commit-hash $$(git rev-parse HEAD) --show-stderr \
	  --bench '$(BENCH)' \
	  -a rounds=1 -a 'repeat=(1, 5, 0.4)' -a warmup_time=0.01
	$(BIN)/python benchmarks/table.py

clean:
	rm -rf $(VENV) $(DEMO) site dist
