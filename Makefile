# Set-up, demo, tests, commands of the docs; all is installed into .venv in this checkout.
# `make help` lists the targets; tools/dev/setup_env.py says how the set-up works.

STAMP := .venv/installed
BIN := .venv/bin
# Two processes of one thread make the tests' time the same on small and large
# machines. Each takes whole files: what a file's tests share is made once.
TEST_PROCESSES := 2

# What the stamp's date cannot tell: another Python or torch is named on this call,
# the checkout was moved, or the Python that .venv points to is gone.
AGAIN :=
ifneq ($(PYTHON)$(TORCH),)
AGAIN := again
endif
ifneq ($(shell test -x $(BIN)/python && head -n 1 $(STAMP) 2>/dev/null),$(CURDIR))
AGAIN := again
endif

.PHONY: help install demo test commands lint clean distclean again

help:
	@echo 'make install    set up .venv (mmcv is compiled once: about 12 minutes on 2 cores)'
	@echo 'make demo       set up, then train and test on generated video, and print a table'
	@echo 'make test       set up, then run the tests; ARGS=tests/ops runs a part of them'
	@echo 'make commands   set up, then run the commands of README and docs on small data'
	@echo 'make lint       set up, then run ruff'
	@echo 'make clean      remove build products, caches and the runs of the demo'
	@echo 'make distclean  clean, and remove .venv'
	@echo
	@echo 'PYTHON=/path/to/python3.11   the Python to make .venv with'
	@echo 'TORCH="torch==2.13.0+cpu"    what pip installs as torch: a requirement or a wheel,'
	@echo '                             pip options such as --index-url may stand before it'
	@echo 'CXX, MAX_JOBS, TMPDIR        compiler, its parallel jobs, where it works'

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml requirements/tested.txt tools/dev/setup_env.sh \
		tools/dev/setup_env.py $(AGAIN)
	@sh tools/dev/setup_env.sh

demo: install
	$(BIN)/python tools/run_demo.py

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

commands: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) \
		--dist worksteal tests/whole_commands.py

lint: install
	$(BIN)/python -m ruff check .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .benchmarks work_dirs/demo
	find . \( -name .venv -o -name .git \) -prune -o -type d -name __pycache__ \
		-prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv
