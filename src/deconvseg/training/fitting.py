"""The training of a run with an existing folder, by one process or as one of several."""

from torch import manual_seed

from deconvseg.models import create_model
from deconvseg.options import TrainOptions
from deconvseg.planning.precisions import describe_precision, explain_float32
from deconvseg.progress import Console, Timings
from deconvseg.runs import Run
from deconvseg.system import choose_device
from deconvseg.text import number_of
from deconvseg.training.case_warnings import describe_absent_classes, warn_of_padding
from deconvseg.training.cases import open_cases, prepare_run_cases
from deconvseg.training.fit import fit
from deconvseg.training.pretrained import load_pretrained, open_start
from deconvseg.training.ranks import Ranks
from deconvseg.training.tracking import RunFiles, Tracker


def fit_run(
    run: Run,
    options: TrainOptions,
    ranks: Ranks,
    resume: bool,
    console: Console,
    tracker: Tracker,
    timings: Timings,
) -> None:
    """Train the network of a run with an existing folder, as one of its processes."""
    plan = run.plan
    data, parts = open_cases(run, options)
    with timings.part("preparing"):
        cases = prepare_run_cases(run, data, parts, options, console)
    for text in (*describe_absent_classes(plan, cases["train"]), *warn_of_padding(plan, cases["train"])):
        if not resume and text not in plan.warnings:
            console.say(f"warning: {text}")
    device = choose_device(options.device)
    manual_seed(options.seed)
    network = create_model(plan.model.name, **plan.model.config)
    if options.pretrained is not None and not resume:
        console.say(load_pretrained(network, open_start(options.pretrained)))
    parameters = sum(p.numel() for p in network.parameters())
    precision = options.precision or plan.recipe.precision
    if resume and (told := explain_float32(precision, device)):
        console.say(f"note: {told}")
    if ranks.rank == 0:
        run.update_manifest(training={"device": device, "precision": describe_precision(precision, device)})
    where = f"{f'{ranks.size} x ' if ranks.size > 1 else ''}{device}"
    console.say(
        f"training {parameters / 1e6:.2f} M parameters in {describe_precision(precision, device)} on {where}: "
        f"{number_of(len(parts.train), 'case')}, {len(parts.val)} to validate"
    )
    with timings.part("training"), run.advising(), console.track("training") as progress:
        fit(
            run,
            network,
            cases,
            options,
            resume=resume,
            progress=progress,
            trackers=(RunFiles(run), tracker),
            ranks=ranks,
        )
