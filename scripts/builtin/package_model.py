"""Make a trained model the built-in one: its folder in the package, in half precision, with a card.

    python scripts/builtin/package_model.py RUN/model codax/builtin/model [--notes card.md]

The rounded model is the model: its codes and audio are those that are measured.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from codax import FlaxDacModel
from codax.feature_extraction import EXTRACTORS
from codax.files import atomic_path
from codax.hub_cards import CardContent, built_in_origin, model_card

REPO_ID = "codax/builtin"
"""Whose last part is the model's name on its card."""


def main() -> None:
    """Write all files of the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a folder that `codax train` left")
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--notes", type=Path, help="Markdown, for the card")
    options = parser.parse_args()
    model = FlaxDacModel.from_pretrained(options.model)
    write(model, options.folder, options.notes.read_text("utf-8") if options.notes else "")


def write(model: FlaxDacModel, folder: Path, notes: str) -> None:
    """Write configuration, weights, feature extractor and card."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    with TemporaryDirectory() as whole:
        model.save_pretrained(whole)
        state = load_file(Path(whole, "model.safetensors"))
        text = Path(whole, "config.json").read_text("utf-8")
    halves = {name: rounded(name, values) for name, values in state.items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(halves, temporary, metadata={"format": "pt"})
    with atomic_path(folder / "config.json") as temporary:
        temporary.write_text(text, "utf-8")
    EXTRACTORS[config.model_type].from_config(config).save_pretrained(folder)
    card = CardContent(REPO_ID, config, built_in_origin(), notes=notes, built_in=True)
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(str(model_card(card)), "utf-8")


def rounded(name: str, values: np.ndarray) -> np.ndarray:
    """As float16. Raises `OverflowError` for what that cannot hold."""
    half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise OverflowError(f"{name}: {np.abs(values).max()} is beyond float16")
    return half


if __name__ == "__main__":
    main()
