"""A model card: what a reader wants to know of a model, in Markdown with the hub's header in YAML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from deconvseg.planning import Plan
from deconvseg.runs import Package, Score
from deconvseg.text import number_of

LIBRARY = "deconvseg"
_TASK = "image-segmentation"
_TAGS = ("medical", _TASK, "segmentation", "monai", "pytorch")
_WHICH = {
    "validation": "the validation cases",
    "out-of-fold": "all training cases, each predicted by the fold that did not train on it",
    "test": "test cases, which were not used before",
}


def model_card(
    package: Package,
    plan: Plan,
    *,
    license: str | None = None,
    source: str,
    further: Sequence[str] = (),
    as_stored: bool = False,
) -> str:
    """Return the card of a packaged model.

    ``source`` is how a prediction names the model, such as ``hf://ORG/NAME``; ``further`` are paragraphs that are added
    at the end. With ``as_stored`` the scores are those of the stored weights, else those of the run's. Texts are data
    of the plan and of the package, which have no names of cases.
    """
    return (
        "\n".join([*_header(package, plan, license), "", *_body(package, plan, license, source, as_stored), *further])
        + "\n"
    )


def _header(package: Package, plan: Plan, license: str | None) -> Iterator[str]:
    """Yield the lines of YAML; scalars are written as JSON, which is YAML too."""
    yield "---"
    if license is not None:
        yield f"license: {_scalar(license)}"
    yield f"library_name: {LIBRARY}"
    yield f"pipeline_tag: {_TASK}"
    yield "tags:"
    for tag in (*_TAGS, plan.model.name.replace("_", "-"), f"{plan.spatial_dims}d"):
        yield f"- {_scalar(tag)}"
    if package.scores:
        yield "model-index:"
        yield f"- name: {_scalar(package.name)}"
        yield "  results:"
        yield f"  - task: {{type: {_TASK}, name: Medical image segmentation}}"
        yield f"    dataset: {{type: {_scalar(_slug(plan.dataset))}, name: {_scalar(plan.dataset)}}}"
        yield "    metrics:"
        for score in package.scores:
            yield from _metric(score, package.scored_on or "")
    yield "---"


def _metric(score: Score, scored_on: str) -> Iterator[str]:
    yield f"    - type: {_scalar(score.metric.partition(' (')[0].lower())}"
    yield f"      name: {_scalar(f'{score.metric}, {score.structure} ({scored_on})')}"
    yield f"      value: {score.mean:.6g}"
    args: dict[str, Any] = {"cases": score.cases}
    if score.ci95 is not None:
        args["ci95"] = [float(f"{bound:.6g}") for bound in score.ci95]
    yield f"      args: {json.dumps(args)}"


def _body(package: Package, plan: Plan, license: str | None, source: str, as_stored: bool) -> Iterator[str]:
    classes = ", ".join(structure.name for structure in plan.structures)
    kind = f"the mean of {package.folds} networks of a cross-validation" if package.folds else "one network"
    yield f"# {package.name}"
    yield ""
    yield (
        f"Segments {classes} in {plan.spatial_dims}D images with {number_of(len(plan.channels), 'channel')} "
        f"({', '.join(channel.name for channel in plan.channels)}): {kind}, `{plan.model.name}`, "
        f"{_origin(package)} [deconvseg](https://github.com/deconvseg/deconvseg) {package.deconvseg}."
    )
    yield ""
    yield "## How to run it"
    yield ""
    yield "```sh"
    yield "pip install 'deconvseg[hub]'" if source.startswith("hf:") else "pip install deconvseg"
    yield f"deconvseg predict -i SCANS -o MASKS -m {source}"
    yield "```"
    yield ""
    yield "```python"
    yield "import deconvseg"
    yield ""
    yield f'mask = deconvseg.predict(image, "{source}", spacing=(1.0, 1.0, 1.0))'
    yield "```"
    yield ""
    yield (
        "Weights are safetensors; every file is compared with its SHA-256 in `package.json`, and nothing is unpickled "
        "or executed. A mask is on the grid of its image, with the values of the labels below."
    )
    yield from _data(package, plan)
    yield from _scores(package, as_stored)
    yield from _limits(package, plan)
    if license is not None:
        yield from (
            "",
            "## Licence",
            "",
            f"The weights are under `{license}`. That of the data may be narrower.",
        )


def _origin(package: Package) -> str:
    """Return how the weights came to be, up to the name of this package."""
    if package.imported is not None:
        preset = f" (preset `{package.imported['preset']}`)" if "preset" in package.imported else ""
        return f"imported from {package.imported['origin']}{preset} with"
    return f"trained {'from the weights of another model ' if package.pretrained else ''}with"


def _data(package: Package, plan: Plan) -> Iterator[str]:
    cases = ", ".join(f"{count} {name}" for name, count in package.cases.items() if count)
    yield from ("", "## Data", "")
    yield f"| | |\n|---|---|\n| dataset | {_cell(plan.dataset)} |"
    if cases:
        yield f"| cases | {cases}{f'; {package.excluded} left out' if package.excluded else ''} |"
    yield f"| channels | {_cell(', '.join(channel.name for channel in plan.channels))} |"
    labels = ", ".join(f"{part.written_as} {part.name}" for part in plan.structures)
    yield f"| labels | {_cell(labels)} |"
    spacing = " × ".join(f"{step:g}" for step in plan.spacing)
    size = " × ".join(map(str, plan.resize)) if plan.resize else None
    yield f"| grid of the network | {f'{size} pixels' if size else f'{spacing} mm'} |"
    yield f"| window | {' × '.join(map(str, plan.patch_size))} |"
    if package.imported is not None and "sha256" in package.imported:
        yield f"| imported from | checkpoints with the SHA-256 {_cell(package.imported['sha256'])} |"
    if package.command:
        yield f"| trained by | `{_cell(package.command)}` |"
    yield f"| weights | {package.stored} |"


def _scores(package: Package, as_stored: bool) -> Iterator[str]:
    if not package.scores:
        return
    yield from ("", "## Scores", "", f"Means over {_WHICH[package.scored_on or 'validation']}, with the 95 % interval")
    yield "of a bootstrap over cases."
    if package.stored != "float32" and not as_stored:
        yield f"They were measured with weights in float32; these are in {package.stored}."
    yield from ("", "| class | metric | mean | 95 % interval | cases |", "|---|---|---|---|---|")
    for score in package.scores:
        interval = "" if score.ci95 is None else f"{score.ci95[0]:.4g} to {score.ci95[1]:.4g}"
        yield f"| {_cell(score.structure)} | {score.metric} | {score.mean:.4g} | {interval} | {score.cases} |"


def _limits(package: Package, plan: Plan) -> Iterator[str]:
    yield from ("", "## Limits", "")
    yield "- Not a medical device. Masks need review by a person before they are used for a decision."
    count = package.cases.get("train", 0)
    if count:
        yield (
            f"- It was trained on {number_of(count, 'case')} of one dataset. Other scanners, protocols, populations "
            "and diseases may give worse masks, and no score above says how much worse."
        )
    if not package.scores:
        since = "since its import" if package.imported is not None else "on any case that it was not trained on"
        yield f"- It has not been scored {since}."
    elif package.scored_on == "validation":
        yield "- Scores on validation cases are not those of an independent test."
    yield f"- It takes {plan.spatial_dims}D images whose channels are the above, in this order."


def _scalar(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower()).strip("-") or "dataset"
