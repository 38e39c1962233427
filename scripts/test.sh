#!/usr/bin/env bash
# Checks style, types and behaviour. Arguments go to pytest: bash scripts/test.sh -k codecs; bash scripts/test.sh -m slow
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# Waiting threads sleep instead of spinning, as in the tools; read when torch is first imported.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Two processes, the tests of a file in one of them; TEST_PROCESSES=0 runs all in this one. A process that crashes ends
# the run: with another one in its place `loadfile` waits for ever.
exec .venv/bin/python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile --max-worker-restart=0 "$@"
