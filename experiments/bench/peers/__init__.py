"""Other libraries as estimators of ours, for the benchmarks; the extra `bench` installs them."""
