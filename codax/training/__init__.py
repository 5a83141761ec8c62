"""Training codecs: losses, discriminators, data, the trainer.

Needs `pip install "codax[train]"`.
"""

from codax.training.recipe import Recipe as Recipe
from codax.training.recipe import load_recipe as load_recipe
from codax.training.recipe import recipe_names as recipe_names
from codax.training.trainer import Progress as Progress
from codax.training.trainer import Trainer as Trainer

__all__ = ["Progress", "Recipe", "Trainer", "load_recipe", "recipe_names"]
