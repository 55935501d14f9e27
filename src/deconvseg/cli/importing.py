"""``deconvseg nnunet import`` and ``deconvseg import-official``."""

from typing import Any

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo_path, loading
from deconvseg.options.importing import NNUNetImportOptions, OfficialImportOptions


@options.takes(NNUNetImportOptions)
def import_nnunet(**asked: Any) -> None:
    """Make a run of a trained model of nnU-Net v2, whose masks are those of nnUNetv2_predict.

    Nothing that the results name is imported, and no pickled object is loaded.
    """
    with loading():
        from deconvseg import integrations

    runs = integrations.import_nnunet(**asked, console=Terminal())
    echo_path(runs[0].path if len(runs) == 1 else runs[0].path.parent)


@options.takes(OfficialImportOptions)
def import_official(**asked: Any) -> None:
    """Make a run of a checkpoint that the authors' code of Deconver wrote."""
    with loading():
        from deconvseg import integrations

    echo_path(integrations.import_official(**asked, console=Terminal()).path)
