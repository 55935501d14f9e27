"""The codes of structures: what a segment is, in the terms of a terminology such as SNOMED CT."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from deconvseg.planning.parts import Part

# A scheme ("SCT" for SNOMED CT, "DCM" for DICOM, "99..." for a private one), a value in it, and its meaning in words.
Term = tuple[str, str, str]
# DICOM's limits of characters.
_LONGEST = {"scheme": 16, "value": 16, "meaning": 64}


class SegmentCode(Part):
    """What a structure is: its category, its type, and where it lies, each a ``(scheme, value, meaning)``.

    ``modifier`` is a side of the ``type``, ``region_modifier`` one of the ``region``, the part of the body of a lesion.

    Example:
        >>> from deconvseg.planning import SegmentCode
        >>> code = SegmentCode(
        ...     category=("SCT", "123037004", "Anatomical Structure"),
        ...     type=("SCT", "64033007", "Kidney"),
        ...     modifier=("SCT", "7771000", "Left"),
        ... )
        >>> code.meaning
        'Left Kidney'

    """

    category: Term
    type: Term
    modifier: Term | None = None
    region: Term | None = None
    region_modifier: Term | None = Field(default=None)

    @model_validator(mode="after")
    def _check(self) -> SegmentCode:
        for key in ("category", "type", "modifier", "region", "region_modifier"):
            term = getattr(self, key)
            if term is None:
                continue
            for (part, most), text in zip(_LONGEST.items(), term, strict=True):
                if not text.strip() or len(text) > most:
                    raise ValueError(f"{key}: its {part} {text!r} needs 1 to {most} characters")
        if self.region_modifier is not None and self.region is None:
            raise ValueError("region_modifier: give the region that it modifies")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    @property
    def meaning(self) -> str:
        """The structure in words, such as "Left Kidney"."""
        return " ".join(term[2] for term in (self.modifier, self.type) if term is not None)
