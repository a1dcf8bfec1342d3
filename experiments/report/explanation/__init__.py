"""One prediction explained: the training instances that helped it and hurt it, in words."""
