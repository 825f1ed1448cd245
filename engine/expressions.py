"""Arithmetic expressions of coordinates in scenario files, such as ``1 + 0.2*sin(2*pi*x)``.

An expression is parsed into a syntax tree and refused unless every node is on a short list:
numbers, the names that the caller allows, ``+ - * / **``, comparisons, ``and or not``, and
the functions of :data:`FUNCTIONS`. The tree is then walked over torch tensors; nothing is
handed to the interpreter, so a file from elsewhere can compute numbers and nothing else.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import torch
from torch import Tensor

LONGEST = 2000
"""Characters of an expression; deeper nesting than the parser's own limit is impossible."""
LARGEST_EXPONENT = 64.0
"""Of a literal exponent: larger ones overflow and are slips of the pen."""

CONSTANTS: dict[str, float] = {"pi": math.pi, "e": math.e}


def _where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition != 0, yes, no)


FUNCTIONS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    **{name: (1, getattr(torch, name)) for name in (
        "sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt", "abs", "sign",
        "floor", "erf",
    )},
    "asin": (1, torch.asin), "acos": (1, torch.acos), "atan": (1, torch.atan),
    "atan2": (2, torch.atan2), "hypot": (2, torch.hypot), "mod": (2, torch.remainder),
    "min": (2, torch.minimum), "max": (2, torch.maximum), "where": (3, _where),
}  # fmt: skip
"""Name -> (number of arguments, function of tensors)."""

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True)
class Expression:
    """A function of named values, given as text.

    Attributes:
        text: the expression.
        names: that it may use, besides ``pi``, ``e`` and the functions.

    Raises:
        ValueError: names what is not allowed, where, and what is.
    """

    text: str
    names: tuple[str, ...] = ("x", "y", "z")
    _tree: ast.expr = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.text) > LONGEST:
            raise ValueError(f"{len(self.text)} characters; at most {LONGEST} are allowed")
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            at = getattr(error, "offset", None)
            place = f" at character {at}" if at else ""
            raise ValueError(f"{self.text[:60]!r}: not an expression{place}") from None
        try:
            self._check(tree)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        object.__setattr__(self, "_tree", tree)

    @cached_property
    def used(self) -> frozenset[str]:
        """Names of values that the expression uses."""
        nodes = ast.walk(self._tree)
        return frozenset(n.id for n in nodes if isinstance(n, ast.Name)) & set(self.names)

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the value, broadcast over ``values``, f64.

        A name that is allowed but not in ``values`` (``z`` on a plane grid) raises
        ValueError.
        """
        missing = sorted(self.used - set(values))
        if missing:
            raise ValueError(
                f"{self.text!r}: {', '.join(missing)} is not known here; "
                f"known are {', '.join(values)}"
            )
        shape = torch.broadcast_shapes(*(v.shape for v in values.values()))
        found = torch.as_tensor(self._value(self._tree, values), dtype=torch.float64)
        return found.expand(shape)

    # -- the whitelist ------------------------------------------------------------------

    def _check(self, node: ast.AST) -> None:
        match node:
            case ast.Constant(value=bool()) | ast.Constant(value=complex()):
                raise self._refused(node, "is not a number")
            case ast.Constant(value=int() | float()) if math.isfinite(
                _as_float(node.value)
            ):
                return
            case ast.Name(id=name):
                known = {*self.names, *CONSTANTS}
                if name not in known:
                    allowed = ", ".join([*self.names, *CONSTANTS])
                    raise self._refused(node, f"is not known; names are {allowed}")
            case ast.UnaryOp(op=ast.UAdd() | ast.USub() | ast.Not(), operand=operand):
                self._check(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self._check(left)
                self._check(right)
                self._check_exponent(op, right)
            case ast.BoolOp(values=values):
                for value in values:
                    self._check(value)
            case ast.Compare(left=left, ops=ops, comparators=others) if all(
                type(op) in _COMPARE for op in ops
            ):
                for value in (left, *others):
                    self._check(value)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                self._check_call(node, name, args)
            case _:
                raise self._refused(
                    node, "is not allowed; numbers, names, + - * / **, comparisons and "
                    f"{', '.join(sorted(FUNCTIONS))} are",
                )  # fmt: skip

    def _check_call(self, node: ast.AST, name: str, args: list[ast.expr]) -> None:
        if name not in FUNCTIONS:
            allowed = ", ".join(sorted(FUNCTIONS))
            raise self._refused(node, f"is not a known function; known are {allowed}")
        count = FUNCTIONS[name][0]
        if len(args) != count:
            raise self._refused(node, f"has {len(args)} arguments; {name} takes {count}")
        for arg in args:
            self._check(arg)

    def _check_exponent(self, op: ast.operator, right: ast.expr) -> None:
        if not isinstance(op, ast.Pow):
            return
        power = right.operand if isinstance(right, ast.UnaryOp) else right
        if isinstance(power, ast.Constant) and _as_float(power.value) > LARGEST_EXPONENT:
            raise self._refused(power, f"is too large an exponent; {LARGEST_EXPONENT:g} is")

    def _refused(self, node: ast.AST, why: str) -> ValueError:
        piece = ast.get_source_segment(self.text.strip(), node) or self.text
        return ValueError(f"{self.text[:60]!r}: {piece[:40]!r} {why}")

    # -- the value ------------------------------------------------------------------------

    def _value(self, node: ast.AST, values: Mapping[str, Tensor]) -> Tensor:
        match node:
            case ast.Constant(value=number):
                return torch.tensor(float(number), dtype=torch.float64)  # type: ignore[arg-type]
            case ast.Name(id=name):
                found = CONSTANTS[name] if name in CONSTANTS else values[name]
                return torch.as_tensor(found, dtype=torch.float64)
            case ast.UnaryOp(op=op, operand=operand):
                inner = self._value(operand, values)
                return _unary(op, inner)
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self._value(left, values), self._value(right, values)
                return _BINARY[type(op)](a, b)
            case ast.BoolOp(op=op, values=parts):
                truths = [self._value(p, values) != 0 for p in parts]
                join = torch.logical_and if isinstance(op, ast.And) else torch.logical_or
                return reduce(join, truths).double()
            case ast.Compare(left=left, ops=ops, comparators=others):
                terms = [self._value(t, values) for t in (left, *others)]
                pairs = zip(ops, terms[:-1], terms[1:], strict=True)
                held = [_COMPARE[type(op)](a, b) for op, a, b in pairs]
                return reduce(torch.logical_and, held).double()
            case ast.Call(func=ast.Name(id=name), args=args):
                _, function = FUNCTIONS[name]
                given = [self._value(a, values) for a in args]
                return function(*(torch.broadcast_tensors(*given) if given[1:] else given))
        raise AssertionError(node)  # _check has refused it


def _unary(op: ast.unaryop, value: Tensor) -> Tensor:
    if isinstance(op, ast.Not):
        return (value == 0).double()
    return -value if isinstance(op, ast.USub) else value


def _as_float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf
