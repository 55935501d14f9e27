"""The tables of ``docs/explanation/evaluation.md`` about metrics; ``python docs/metric_tables.py`` prints them."""

from deconvseg.evaluation import list_metrics
from deconvseg.evaluation.definition import Metric
from deconvseg.evaluation.empty_masks import EMPTY_STATUSES, POLICIES, EmptyValue
from deconvseg.evaluation.metrics import DEFAULT_METRICS

_BETTER = {"higher": "higher", "lower": "lower", "zero": "near 0"}


def metric_table() -> str:
    """A row for each metric: its name, what it is, and its options."""
    rows = [
        (
            f"`{metric.title.lower().replace(' ', '_')}`",
            f"`{metric.key}`",
            metric.meaning,
            "length" if metric.unit == "length" else "–",
            _BETTER[metric.better],
            ", ".join(f"`{option}`" for option in metric.options) or "–",
            "yes" if metric.key in DEFAULT_METRICS else "no",
        )
        for metric in list_metrics()
    ]
    return _table(("name", "column", "what it is", "unit", "better", "options", "by default"), rows)


def empty_mask_table() -> str:
    """A row for each metric and policy: what it gives where masks are empty."""
    rows = [
        (metric.title, f"`{policy}`", *(_show(metric, metric.empty.value(status, policy)) for status in EMPTY_STATUSES))
        for metric in list_metrics()
        for policy in POLICIES
    ]
    return _table(("metric", "policy", "both empty", "prediction empty (missed)", "truth empty (spurious)"), rows)


def _show(metric: Metric, value: EmptyValue | None) -> str:
    if value is None:
        return "dropped"
    if isinstance(value, str):
        return {"diagonal": "the image's diagonal", "computed": "as computed"}[value]
    return f"{value:.2f}" if metric.unit == "length" and value else f"{value:g}"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


if __name__ == "__main__":
    print(metric_table(), empty_mask_table(), sep="\n\n")
