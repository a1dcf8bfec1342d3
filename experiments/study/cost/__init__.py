"""What estimators cost: how seconds and bytes grow with each size, beside what theory says."""
