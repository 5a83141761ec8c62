#!/usr/bin/env bash
# A published model in a fresh virtual environment that has transformers, jax and flax, but neither
# codax nor torch: it must give the codes and the audio that codax gives, bit by bit. Needs a package
# index. The argument is a model, a small random one by default; further ones are --preset or
# --license of `codax publish`.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
model=${1:-}
if [ -z "$model" ]; then
    model=$folder/model
    python -c "import sys; from tests.conftest import write_tiny_dac; write_tiny_dac(sys.argv[1])" "$model"
    set -- "$model" --license mit
fi
python -m codax publish "$@" --repo-id owner/name --no-measurements --dry-run "$folder/published"
python - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import tests.conftest  # first: it says which Hub is asked

import numpy as np

from codax.hub_cards import synthetic_clip
from tests.hub_cards.conftest import coded
from transformers import AutoFeatureExtractor, FlaxAutoModel

folder = Path(sys.argv[1])
source = str(folder / "published")
model = FlaxAutoModel.from_pretrained(source)
extractor = AutoFeatureExtractor.from_pretrained(source)
rate = extractor.sampling_rate
clip = synthetic_clip(rate, model.config.audio_channels, seconds=3.0)
codes, audio = coded(model, extractor(clip, sampling_rate=rate, return_tensors="np"))
np.savez(folder / "given.npz", clip=clip, rate=rate)
np.savez(folder / "expected.npz", codes=codes, audio=audio)
orders = {"given": "given.npz", "sources": [source], "results": ["result.npz"]}
(folder / "orders.json").write_text(json.dumps(orders))
PYTHON
cp tests/hub_cards/without_codax.py "$folder"
versions=$(python -c "
from importlib.metadata import version
print(*(f'{name}=={version(name)}' for name in ('transformers', 'jax', 'flax')))")
cd "$folder"
(
    unset PYTHONPATH
    python3 -m venv venv
    venv/bin/pip install --quiet $versions
    if venv/bin/pip list 2>/dev/null | grep -iE "^(codax|torch|soundfile|soxr) "; then exit 1; fi
    HF_HOME=$folder/home venv/bin/python without_codax.py orders.json
)
python - <<'PYTHON'
import numpy as np

expected, result = np.load("expected.npz"), np.load("result.npz")
for name in ("codes", "audio"):
    np.testing.assert_array_equal(result[name], expected[name])
    print(f"{name} {expected[name].shape}: all equal")
PYTHON
