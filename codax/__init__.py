"""DAC and EnCodec, the neural audio codecs, in JAX and at home on the Hugging Face Hub."""
