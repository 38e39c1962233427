#!/usr/bin/env bash
# Ten minutes on one GPU or eight: what this project promises of them, a line each, with figure, limit and PASS or FAIL.
#
#   bash scripts/gpu_check.sh [--only NAME ...] [--minutes 10] [--folder output/gpu_check]
#
# The exit status is the number of FAILs. FOLDER/gpu_check.md is a table to paste into an issue, gpu_check.json has every
# digit. Without a GPU the lines that make sense there are run on the CPU, and the others are said to be left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv/bin/python ] || . scripts/environment.sh

exec .venv/bin/python tools/gpu_check.py "$@"
