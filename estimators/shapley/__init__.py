"""Shapley value: the estimator and its ways of sampling."""
