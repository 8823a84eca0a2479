"""An example of a plug-in of evalkit. Nothing is registered here: `register` does that, when evalkit asks for it."""
