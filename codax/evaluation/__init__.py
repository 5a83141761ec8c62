"""How good a codec is: distances between audio, the use of codebooks, rate against quality."""
