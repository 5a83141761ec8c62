#!/usr/bin/env bash
# All tests that take minutes: the whole sweep of the parity tests (all inputs, full-size checkpoints,
# both references), chunks of any length, several devices. An hour and more on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m pytest -n 0 -m full -s "$@"
