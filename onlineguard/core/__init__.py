"""The pure core: arrays and protocols, and the two recursions that every model is made of."""
