#!/usr/bin/env bash
# The whole sweep of the parity tests: all inputs, full-size checkpoints, both references (an hour on 2 cores).
set -euo pipefail
cd "$(dirname "$0")/.."
python -m pytest -n 0 -m full -s "$@"
