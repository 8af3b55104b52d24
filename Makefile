# Two commands that need nothing but Linux, Python 3.11 and make:
#   make quickstart [SOURCE=…] [QA=…] [GPT2=…]   the whole recipe at a small size, on CPU
#   make test                                     lint, types and tests
PYTHON ?= $(shell for one in python3.11 python3 python; do \
	$$one -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$one && break; done)
VENV ?= .venv
SOURCE ?=
QA ?=
GPT2 ?=
OUT ?= runs/quickstart

BIN := $(VENV)/bin
# The environment is remade when what it is made from changes.
STAMP := $(VENV)/made-from-$(shell cat setup.cfg pyproject.toml | sha256sum | cut -c1-16)

# Never empty a folder that somebody else has made.
OURS := test ! -e "$(VENV)" || test -e "$(VENV)/made-here" || ls "$(VENV)"/made-from-* >/dev/null 2>&1

.PHONY: quickstart test unit lint clean

quickstart: $(STAMP)
	$(BIN)/python -m recipes.quickstart --source "$(SOURCE)" --qa "$(QA)" --gpt2 "$(GPT2)" --out "$(OUT)"

test: lint
	$(BIN)/python -m pytest

unit: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP):
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 on the PATH; install it, or give PYTHON=its/path"; exit 2; }
	@$(OURS) || { echo "error: VENV=$(VENV) is there and was not made by this Makefile; give another"; exit 2; }
	@echo "making the environment in $(VENV): about 3.6 GB to download (torch with its CUDA libraries), 7.4 GB on disk,"
	@echo "4 minutes on a fast line"
	@rm -rf $(VENV) && mkdir -p $(VENV) && touch $(VENV)/made-here
	@df --output=avail -BG $(VENV) | tail -1 | awk '{ if ($$1 + 0 < 9) { print "error: 9 GB are needed here, there are " $$1; exit 2 } }'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ".[quickstart,test]"
	@# The recipe is run from its folder; what stays in the environment is what it needs.
	$(BIN)/python -m pip uninstall --quiet --yes biomedlm-recipe
	@rm -rf build biomedlm_recipe.egg-info
	@touch $@

clean:
	@$(OURS) || { echo "error: VENV=$(VENV) was not made by this Makefile; it is left alone"; exit 2; }
	rm -rf $(VENV)
