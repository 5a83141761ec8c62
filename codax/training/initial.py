"""What a run begins with."""

import os
from dataclasses import dataclass
from typing import Any

from codax.conversion import config_of, resolve_model
from codax.errors import CodaxError
from codax.modeling import model_class_of
from codax.training.discriminator_files import load_discriminator
from codax.training.steps import Training


@dataclass(frozen=True)
class InitialWeights:
    """from_pretrained: a model; discriminator: a file; None for fresh weights"""

    from_pretrained: str | None
    discriminator: str | None

    @classmethod
    def of(
        cls, from_pretrained: str | os.PathLike | None, discriminator: str | os.PathLike | None
    ) -> "InitialWeights":
        given = (from_pretrained, discriminator)
        return cls(*(None if one is None else os.fspath(one) for one in given))

    def require_fit(self, training: Training) -> None:
        """Raise `CodaxError` unless they are what the recipe trains. Loads configurations only."""
        if self.discriminator is not None and not training.recipe.is_adversarial:
            raise CodaxError(
                f"{self.discriminator}: the recipe has neither losses.adversarial nor "
                "losses.features, which discriminators are for"
            )
        if self.from_pretrained is None:
            return
        there, asked, told = config_of(self.from_pretrained), training.config, training.recipe.model
        recipe = f"the recipe's {told.preset}{told.fields or ''}"
        if there.sampling_rate != asked.sampling_rate:
            raise CodaxError(
                f"{self.from_pretrained}: is a model of {there.sampling_rate} Hz, but {recipe} of "
                f"{asked.sampling_rate} Hz"
            )
        if there.architecture != asked.architecture:
            raise CodaxError(f"{self.from_pretrained}: is another network than {recipe}")

    def load_params(self) -> dict[str, Any] | None:
        """As `FlaxPreTrainedCodec.params`."""
        if self.from_pretrained is None:
            return None
        resolved = resolve_model(self.from_pretrained)
        return model_class_of(resolved).from_pretrained(resolved).params

    def load_discriminator(self, training: Training) -> dict[str, Any] | None:
        """As `TrainState.discriminator`."""
        if self.discriminator is None:
            return None
        return load_discriminator(training, self.discriminator)
