"""One of several training processes, with the arguments RUN OPTIONS resume|start.

``launch`` starts it, in the environment of torchrun. It writes lines of JSON to standard output: messages, the
progress of the training (the first process only), and its final error.
"""

import json
import os
import sys
import traceback

from deconvseg.errors import DeconvsegError, InterruptionError
from deconvseg.options import TrainOptions
from deconvseg.progress import Console, Silent, Timings
from deconvseg.runs import Run
from deconvseg.system import Relay, choose_device, keep_freed_memory, one_line, take_over_stdout
from deconvseg.training.fitting import fit_run
from deconvseg.training.meeting import PeerError
from deconvseg.training.ranks import Ranks
from deconvseg.training.tracking import Status, Values


class _Handing:
    """Passes the values of the first process to the trackers of the parent, which starts and finishes them itself."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def start(self, run: Run) -> None:
        pass

    def log(self, step: int, values: Values) -> None:
        self.relay.tell(step=step, values=dict(values))

    def picture(self, name: str, png: bytes) -> None:
        pass

    def finish(self, status: Status) -> None:
        pass


def main(path: str, options: str, how: str) -> int:
    """Train, as one of several; return the exit code."""
    relay = Relay(take_over_stdout())
    ranks = Ranks.find()
    console: Console = relay if ranks.leads else Silent()
    chosen = TrainOptions(**json.loads(options))
    keep_freed_memory()
    try:
        with ranks.connected(choose_device(chosen.device)):
            fit_run(Run.open(path), chosen, ranks, how == "resume", console, _Handing(relay), Timings())
    except DeconvsegError as error:
        relay.tell(error=str(error), code=error.exit_code, peer=isinstance(error, PeerError | InterruptionError))
        return error.exit_code
    except SystemExit as end:
        return int(end.code or 0)
    except BrokenPipeError:
        # The parent was killed.
        return 1
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        text = f"unexpected {type(error).__name__} in a training process: {one_line(error)}"
        relay.tell(error=text, code=1, peer=False)
        return 1
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stderr.flush()
    # Exits without cleanup: destroying the process group would wait for a process that is gone.
    os._exit(code)
