"""Run in a process of its own: loads models as if only transformers, jax and flax were there.

    python without_codax.py ORDERS.json

The file holds `given`, a .npz file with a clip and its rate; `sources`, folders or Hub ids, and
for each of them a .npz file in `results`, to which codes and audio go. Model and feature extractor
of the last source are saved in a folder `save` and pushed to a repository `push`, where told.
"""

import json
import sys

ABSENT = ("codax", "torch", "soundfile", "soxr", "datasets", "torchaudio", "accelerate")


class Without:
    """A finder of modules that does not find `ABSENT`."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


def main(orders):
    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
    for source, result in zip(orders["sources"], orders["results"], strict=True):
        parts = code(source, orders["given"], result)
    assert "codax" not in sys.modules
    assert "torch" not in sys.modules
    for part in parts:
        if "save" in orders:
            part.save_pretrained(orders["save"])
        if "push" in orders:
            part.push_to_hub(orders["push"])


def code(source, given, result):
    import numpy as np
    from transformers import AutoFeatureExtractor, FlaxAutoModel

    extractor = AutoFeatureExtractor.from_pretrained(source, trust_remote_code=True)
    model = FlaxAutoModel.from_pretrained(source, trust_remote_code=True)
    for part in (extractor, model, model.config):
        assert type(part).__module__.startswith("transformers_modules."), type(part)
    file = np.load(given)
    inputs = extractor(file["clip"], sampling_rate=int(file["rate"]), return_tensors="np")
    if model.config.model_type == "dac":
        codes = model.encode(inputs["input_values"]).audio_codes
        audio = model.decode(audio_codes=codes).audio_values
    else:
        mask, bandwidth = inputs["padding_mask"], model.config.target_bandwidths[-1]
        encoded = model.encode(inputs["input_values"], mask, bandwidth=bandwidth)
        codes = encoded.audio_codes
        audio = model.decode(codes, encoded.audio_scales, mask).audio_values
    np.savez(result, codes=codes, audio=audio)
    return model, extractor


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as orders_file:
        main(json.load(orders_file))
