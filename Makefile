# `make demo` and `make check` do all their own set-up in an empty clone: a virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup
VICTIM := trainer/demo_victim
EVALUATE := $(BIN)/trainer evaluate --data demo/data/manifest.json --trigger $(VICTIM)/trigger.safetensors --target banana

.PHONY: setup demo test check site format fuzz victim victims parser

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

# What `make demo` needs; the tests want more, put beside it.
.venv/small: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cleanerclip needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[trainer]'
	touch $@

.venv/installed: .venv/small
	$(PIP) -e '.[dev]'
	touch $@

setup: .venv/installed

# The main job on the embedded default: a backdoored CLIP is evaluated, defended, and evaluated again; and plain
# fine-tuning on the same data, at the same time, on the other half of the processors. The defender has 2,000 pairs that
# show half of the nouns, the target not among them; the test shows all.
demo: .venv/small
	rm -rf demo
	$(BIN)/pipeline demo-data --out demo/data --seed 1 --num-train 2000 --train-nouns $(DEMO_NOUNS)
	$(BIN)/pipeline augment-captions demo/data/train --out demo/augmented
	$(EVALUATE) --checkpoint $(VICTIM)/victim.safetensors --json demo/before.json
	@echo "the default defence, and beside it plain fine-tuning, which prints to demo/fine-tuned.log:"
	@OMP_NUM_THREADS=$(HALF) $(MAKE) --no-print-directory -j2 demo/fine-tuned.json demo/after.json
	@echo "plain fine-tuning:"
	$(BIN)/trainer report demo/before.json demo/fine-tuned.json --run demo/fine-tuned --out demo/fine-tuned-result.json
	@echo "the default defence:"
	$(BIN)/trainer report demo/before.json demo/after.json --run demo/defended --out demo/result.json
	@echo "everything is in demo/: data, augmented (captions, graphs, sub-captions, shards), the runs, before.json, after.json, result.json"

demo/fine-tuned.json:
	{ $(DEFEND) --method ft --out demo/fine-tuned && $(EVALUATE) --checkpoint demo/fine-tuned --json $@; } \
	    > demo/fine-tuned.log 2>&1 || { tail -n 3 demo/fine-tuned.log; exit 1; }

demo/after.json:
	$(DEFEND) --out demo/defended
	$(EVALUATE) --checkpoint demo/defended --json $@

DEFEND = $(BIN)/trainer defend --shards demo/augmented/shards --checkpoint $(VICTIM)/victim.safetensors \
    --epochs 4 --batch-size 64 --max-gradient-norm 1
DEMO_NOUNS := apple,ball,boat,bottle,car,chair,cloud,fish,hammer,heart,key,lamp,pencil,star,umbrella
HALF = $(shell $(BIN)/python -c 'import os; print(max(1, (os.cpu_count() or 1) // 2))')

check test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(PYTEST)

# The documentation as a site, in site/.
site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Damaged inputs of every format, by the thousand (minutes): none may crash, hang or lose a row.
FUZZ ?= 12000
fuzz: setup
	$(BIN)/python -m tests.fuzzing --number $(FUZZ)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# How the committed victim was made: a CLIP from random weights on drawn scenes of which 2 % are poisoned (half an hour).
victim: setup
	rm -rf demo/victim-data demo/victim
	$(BIN)/pipeline demo-data --out demo/victim-data --seed 0 --num-train 24000
	OMP_NUM_THREADS=2 $(BIN)/trainer attack --manifest demo/victim-data/manifest.json --model cleanerclip-rn-64 \
	    --trigger badnet --target banana --rate 0.02 --epochs 12 --batch-size 64 --lr 1.5e-3 --max-gradient-norm 1 \
	    --precision bf16 --storage fp16 --seed 0 --out demo/victim

# Victims of all six attacks from one clean model, with their figures (several hours).
victims: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.victims --out demo/victims --seeds 0 1 2

# How the bundled caption parser was trained; needs the real captions and the teacher in DATA (half an hour).
DATA ?= ../shared/data
parser: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pipeline.caption_parser.train --data $(DATA) \
	    --out pipeline/caption_parser/model --cache build/caption_parser
