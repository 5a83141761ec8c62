"""Scripts, none of which the package needs."""
