"""Published systems that mark the salient objects of an infrared-visible pair: their cards, and their code."""
