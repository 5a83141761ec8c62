"""How the model that comes with codax was made."""
