"""The long tail: which training rows a model can only memorise, and what they are worth."""
