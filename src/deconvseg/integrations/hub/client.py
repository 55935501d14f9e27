"""The hub's own client, and its errors in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deconvseg.errors import DeconvsegError, InputError, MissingPackageError
from deconvseg.system import first_line, writing_error


def import_client() -> Any:
    """Return the module ``huggingface_hub``; :class:`MissingPackageError` names the extra that installs it."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingPackageError(
            f"models on the hub need huggingface-hub, which is not installed ({error}); run: pip install "
            "'deconvseg[hub]'"
        ) from error
    return huggingface_hub


@contextmanager
def explaining(name: str, *, writing: bool = False) -> Iterator[None]:
    """Convert the client's errors to one line that names the repository and says what to do."""
    errors = import_client().errors
    remedy = "set HF_TOKEN, or run `hf auth login`"
    try:
        yield
    except DeconvsegError:
        raise
    except errors.HFValidationError as error:
        raise InputError(f"hf://{name}: {first_line(error)}; give hf://ORG/NAME, or hf://ORG/NAME@REVISION") from error
    except errors.GatedRepoError as error:
        raise InputError(f"hf://{name}: its owner grants access on request; ask on its page, and {remedy}") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"hf://{name}: the hub has no such repository, or it is private; check the name, or {remedy}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"hf://{name}: has no such branch, tag or commit; check the part after @") from error
    except errors.OfflineModeIsEnabled as error:
        raise InputError(f"hf://{name}: HF_HUB_OFFLINE is set, so nothing is sent; unset it") from error
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"hf://{name}: is not in the local cache, and the hub cannot be reached or HF_HUB_OFFLINE is set; connect "
            "once, or give a packed run"
        ) from error
    except errors.EntryNotFoundError as error:
        raise InputError(
            f"hf://{name}: is no model of deconvseg, or not whole ({first_line(error)}); push it again "
            "(`deconvseg hub push`)"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            what = "write to it" if writing else "read it"
            raise InputError(f"hf://{name}: the token may not {what} (HTTP {status}); {remedy}") from error
        raise DeconvsegError(f"hf://{name}: the hub answered: {first_line(error)}; try again later") from error
    except _transport_errors(errors) as error:
        raise DeconvsegError(
            f"hf://{name}: {type(error).__name__}: {first_line(error)}; check the connection and HF_ENDPOINT"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        cache = import_client().constants.HF_HUB_CACHE
        raise writing_error(Path(error.filename or cache), error) from error


def _transport_errors(errors: Any) -> tuple[type[Exception], ...]:
    """Return the errors of the network: those of the library that the client's version sends requests with."""
    bases = [base for base in errors.HfHubHTTPError.__mro__ if base.__module__ != "builtins"]
    return (*bases, ConnectionError, TimeoutError)
