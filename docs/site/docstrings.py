"""Extension of Griffe: the docstrings and signatures of the project as mkdocstrings shows them.

- ``Example:`` is a section of examples.
- Roles (``:class:`~deconvseg.data.Image` ``) are links where the reference has what they name, and code elsewhere.
- A function that takes the fields of a dataclass (``deconvseg.options.takes``) is shown as it is called.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import griffe

_TAKES = "deconvseg.options.takes"
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc|obj):`([^`]+)`")
_SIZES = re.compile(r"(?<![\\*\w`])\*(?=[A-Z]\b|\()")
_CODE = re.compile(r"(``[^`]+``|`[^`\n]+`|^ *(?:>>>|\.\.\.) .*$)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites docstrings once the package is loaded, when all names can be resolved."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Go through everything that has a docstring."""
        for face in (pkg, *pkg.modules.values()):
            _prefer_exports(face, pkg)
        for entry in list(_everything(pkg)):
            if isinstance(entry, griffe.Function) and any(part.callable_path == _TAKES for part in entry.decorators):
                _show_options(entry)
            if entry.docstring is not None:
                entry.docstring.value = _rewrite(entry.docstring.value, entry)


def _prefer_exports(face: griffe.Module, pkg: griffe.Module) -> None:
    """Let a name of ``__all__`` be the function that users import where a module has that name too, as ``predict``."""
    for name in face.exports or ():
        member = face.members.get(str(name))
        if isinstance(member, griffe.Module) and str(name) in member.members:
            shown = member.members[str(name)]
            target = pkg[shown.target_path.removeprefix("deconvseg.")] if isinstance(shown, griffe.Alias) else shown
            face.members[str(name)] = griffe.Alias(str(name), target, parent=face)


def _everything(entry: griffe.Object) -> Iterator[griffe.Object]:
    yield entry
    for member in entry.members.values():
        if isinstance(member, griffe.Object):
            yield from _everything(member)


def _rewrite(text: str, entry: griffe.Object) -> str:
    text = re.sub(r"^( *)Example:(?=\n)", r"\1Examples:", text, flags=re.MULTILINE)
    text = _ROLE.sub(lambda match: _link(match[1], entry), text)
    parts = _CODE.split(text)
    parts[::2] = [_SIZES.sub(r"\\*", part) for part in parts[::2]]
    return "".join(parts)


def _link(name: str, entry: griffe.Object) -> str:
    """Return a link to what a role names, without a warning where the reference does not show it."""
    shown = name.rpartition(".")[2] if name.startswith("~") else name
    name = name.lstrip("~.")
    try:
        path = name if name.startswith("deconvseg") else entry.resolve(name)
    except griffe.NameResolutionError:
        path = name
    return f'<autoref optional identifier="{path}">`{shown}`</autoref>'


def _show_options(function: griffe.Function) -> None:
    """Give a function the parameters and the docstring that it has when it is called."""
    called = getattr(importlib.import_module(function.module.path), function.name)
    signature = inspect.signature(called)
    function.parameters = griffe.Parameters(
        *(
            griffe.Parameter(
                name,
                kind=griffe.ParameterKind[entry.kind.name.lower()],
                annotation=_expression(entry.annotation, function),
                default=None if entry.default is entry.empty else repr(entry.default),
            )
            for name, entry in signature.parameters.items()
        )
    )
    function.returns = _expression(signature.return_annotation, function)
    function.overloads = None
    function.docstring = griffe.Docstring(inspect.cleandoc(called.__doc__ or ""), parent=function)


def _expression(annotation: Any, function: griffe.Function) -> Any:
    """Turn a type into an expression whose names of this package are links."""
    text = re.sub(r"Optional\[(.+)\]$", r"\1 | None", inspect.formatannotation(annotation).replace("typing.", ""))
    homes = {name: module for module, name in re.findall(r"deconvseg\.([\w.]+)\.(\w+)", text)}
    text = re.sub(r"\b[a-z_]\w*\.(?:\w+\.)*(\w+)", r"\1", text)
    expression = griffe.safe_get_annotation(ast.parse(text, mode="eval").body, parent=function.module)
    for part in () if isinstance(expression, str) else expression.iterate(flat=True):
        if isinstance(part, griffe.ExprName) and part.name in homes:
            part.parent = function.package[homes[part.name]]
    return expression
