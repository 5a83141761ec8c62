"""Training codecs: losses, discriminators, data, the trainer."""
