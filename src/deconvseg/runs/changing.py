"""Replace the plan of an existing run."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from deconvseg.planning import Plan
from deconvseg.runs.folder import Run
from deconvseg.system import write_text
from deconvseg.text import dump_json

_PLAN = "plan.json"


def change_run(run: Run, plan: Plan, config: Mapping[str, Any], **values: Any) -> Run:
    """Replace plan and configuration of a run, and entries of its manifest; return the changed run.

    The manifest is written first and keeps the hash of the earlier plan too, so that either plan is valid after an
    interruption.
    """
    text, manifest = dump_json(plan.model_dump(mode="json")) + "\n", run.manifest
    files, replaced = manifest.get("files", {}), manifest.get("replaced", {})
    run.update_manifest(
        **values,
        files={**files, _PLAN: sha256(text.encode()).hexdigest()},
        replaced={**replaced, _PLAN: run.valid_hashes(_PLAN)},
    )
    write_text(run.path / _PLAN, text)
    write_text(run.path / "config.json", dump_json(config) + "\n")
    run.update_manifest(replaced={key: value for key, value in replaced.items() if key != _PLAN})
    return Run(run.path)
