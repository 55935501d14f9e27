"""Functions whose arguments are the fields of a dataclass of options."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature, cleandoc
from textwrap import fill
from typing import Any, ParamSpec, TypeVar, cast, get_type_hints

from deconvseg.errors import suggest
from deconvseg.options.declaring import Options, declared_options, evaluated_annotations

_Arguments = ParamSpec("_Arguments")
_Given = TypeVar("_Given", bound=Options)
_Result = TypeVar("_Result")


def takes(
    options: Callable[_Arguments, _Given],
) -> Callable[[Callable[[_Given], _Result]], Callable[_Arguments, _Result]]:
    """Make a function of a dataclass instance callable with the fields of the dataclass as arguments.

    Type checkers see the parameters of the dataclass. ``inspect.signature`` shows them with types and defaults, and the
    docstring lists each with its help text, before the example.
    """

    def decorate(function: Callable[[_Given], _Result]) -> Callable[_Arguments, _Result]:
        signature = _sign(cast(type[Options], options), function)

        @wraps(function)
        def call(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
            try:
                signature.bind(*arguments, **named)
            except TypeError as error:
                unknown = next((name for name in named if name not in signature.parameters), "")
                hint = suggest(unknown, signature.parameters).rstrip() if unknown else ""
                raise TypeError(f"{function.__name__}() {error}{f': {hint}' if hint else ''}") from None
            given = options(*arguments, **named)
            given.check_given()
            return function(given)

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: entry.annotation for name, entry in signature.parameters.items()}
        call.__annotations__["return"] = signature.return_annotation
        listed = _describe(cast(type[Options], options), signature)
        text, example, lines = cleandoc(function.__doc__ or "").partition("\n\nExample:")
        call.__doc__ = f"{text}\n\nArguments:\n{listed}{example}{lines}"
        return call

    return decorate


def _sign(options: type[Options], function: Callable[..., Any]) -> Signature:
    hints = evaluated_annotations(options)
    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY if field.kw_only else Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)  # type: ignore[arg-type]
    ]
    parameters.sort(key=lambda parameter: parameter.kind)
    return Signature(parameters, return_annotation=get_type_hints(function)["return"])


def _describe(options: type[Options], signature: Signature) -> str:
    helps = {name: option.help.replace("{form}", option.kind.form) for name, option, _ in declared_options(options)}
    lines = (f"{name}: {helps[name]}" for name in signature.parameters if name in helps)
    return "\n".join(fill(line, 116, initial_indent=" " * 4, subsequent_indent=" " * 8) for line in lines)
