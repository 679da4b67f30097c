"""A new installation: the files that `attestd init` makes, all random, none with a default secret."""
