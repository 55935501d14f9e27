"""Studies from and segmentations to a server by DICOMweb: ``dicomweb://HOST/PATH/studies/UID``."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.integrations.dicom.sources import import_package
from deconvseg.system import FOREIGN_ERRORS, first_line

USER, PASSWORD, TOKEN = "DICOMWEB_USERNAME", "DICOMWEB_PASSWORD", "DICOMWEB_TOKEN"
_SECONDS = 60.0
# Attempts at a server that cannot be reached or is busy, and milliseconds that double with each.
_ATTEMPTS, _FIRST_WAIT = 3, 250
_UID = r"[0-9]+(?:\.[0-9]+)*"
# `Path` makes one slash of two.
_ADDRESS = re.compile(
    rf"dicomweb(?P<plain>\+http)?:/{{1,2}}(?P<place>[^/?#\s]+)(?P<path>(?:/[^/?#\s]+?)*?)"
    rf"(?:/studies/(?P<study>{_UID})(?:/series/(?P<series>{_UID}))?)?/?"
)


@dataclass(frozen=True)
class Address:
    """A server, and on it a study or a series of it, if the address names one.

    Connections are encrypted (https), except to this computer and for ``dicomweb+http://``.
    """

    url: str
    study: str | None = None
    series: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address of a text; :class:`~deconvseg.errors.InputError` for a malformed one.

        >>> Address.parse("dicomweb://pacs.example/dicom-web/studies/1.2.3")
        Address(url='https://pacs.example/dicom-web', study='1.2.3', series=None)
        >>> Address.parse("dicomweb://localhost:8042/dicom-web").url
        'http://localhost:8042/dicom-web'
        """
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise InputError(f"{text}: is no address; give dicomweb://HOST/PATH/studies/UID, or with /series/UID")
        if "@" in found["place"]:
            raise InputError(
                f"dicomweb://{found['place'].rpartition('@')[2]}: its address has a user or a password, which others "
                f"can read there; set {USER} and {PASSWORD}, or {TOKEN}"
            )
        scheme = "http" if found["plain"] or _is_this_computer(found["place"]) else "https"
        return cls(f"{scheme}://{found['place']}{found['path']}", found["study"], found["series"])


def is_address(text: object) -> bool:
    """Return whether a text or path is the address of a server.

    >>> is_address(Path("dicomweb://pacs/studies/1.2")), is_address("scans")
    (True, False)
    """
    return re.match(r"dicomweb(\+http)?:/", str(text)) is not None


def fetch(address: Address, folder: Path) -> int:
    """Write all images of a study, or of a series, into a folder; return how many.

    Objects of a study that hold no image of a patient, such as segmentations, are fetched too: readers skip them.
    Raises :class:`~deconvseg.errors.InputError` for a study that the server does not have.
    """
    if address.study is None:
        raise InputError(f"{address.url}: names no study; give dicomweb://HOST/PATH/studies/UID")
    pydicom = import_package("pydicom")
    count = 0
    with _explaining(address), _client(address) as client:
        if address.series is None:
            images = client.iter_study(address.study)
        else:
            images = client.iter_series(address.study, address.series)
        for count, image in enumerate(images, 1):
            # Names of the server are not used: they may hold anything.
            pydicom.dcmwrite(folder / f"{count:06d}.dcm", image, enforce_file_format=True)
    if count == 0:
        raise InputError(f"{address.url}: has no images of the study {address.study}; check its UID")
    return count


def store(address: Address, files: Sequence[Path]) -> None:
    """Store files on a server, one after the other; :class:`~deconvseg.errors.DeconvsegError` names what it refused."""
    pydicom = import_package("pydicom")
    with _explaining(address), _client(address) as client:
        for file in files:
            answer = client.store_instances([pydicom.dcmread(file)], address.study)
            if failed := answer.get("FailedSOPSequence"):
                reason = failed[0].get("FailureReason", 0)
                raise DeconvsegError(f"{address.url}: refused {file} (reason 0x{int(reason):04X}); the file is kept")


@contextmanager
def _client(address: Address) -> Iterator[Any]:
    """Yield a client with the credentials of the environment."""
    client = import_package("dicomweb_client").DICOMwebClient
    with import_package("requests").Session() as session:
        headers = {}
        if token := os.environ.get(TOKEN):
            headers["Authorization"] = f"Bearer {token}"
        elif user := os.environ.get(USER):
            session.auth = (user, os.environ.get(PASSWORD, ""))
        made = client(address.url, session=session, headers=headers, timeout=_SECONDS)
        # By default it tries for half a minute.
        made.set_http_retry_params(max_attempts=_ATTEMPTS, wait_exponential_multiplier=_FIRST_WAIT)
        yield made


@contextmanager
def _explaining(address: Address) -> Iterator[None]:
    """Convert errors of the client to one line."""
    requests = import_package("requests")
    try:
        yield
    except DeconvsegError:
        raise
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise InputError(
                f"{address.url}: refuses access (HTTP {status}); set {USER} and {PASSWORD}, or {TOKEN}"
            ) from error
        if status == 404:
            what = "this path" if address.study is None else f"the study {address.study} under this path"
            raise InputError(f"{address.url}: does not have {what} (HTTP 404); check the address") from error
        raise DeconvsegError(f"{address.url}: answered HTTP {status}; ask who runs the server") from error
    except requests.ConnectionError as error:
        raise DeconvsegError(f"{address.url}: cannot be reached; check the address and the network") from error
    except (requests.RequestException, *FOREIGN_ERRORS) as error:
        raise DeconvsegError(f"{address.url}: {type(error).__name__}: {first_line(error)}; try again later") from error


def _is_this_computer(place: str) -> bool:
    host = place.rpartition(":")[0].strip("[]") if re.search(r":\d+$", place) else place.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
