"""Metrics in the cells of tables."""

from experiments.evaluation.metrics import Metric


def plain(metric: Metric) -> str:
    """Returns a metric in two digits."""
    return "-" if metric.value is None else f"{metric.value:.2f}"


def shown(metric: Metric) -> str:
    """Returns a metric with its interval, or with the reason why there is none."""
    if metric.value is None:
        return f"- ({metric.reason})" if metric.reason else "-"
    text = f"{metric.value:.3f}"
    if metric.interval is not None:
        low, high = metric.interval
        text += f" [{low:.3f}, {high:.3f}]"
    return text
