"""Two sums at a time: an operation that kernels cannot spell in Python.

Numba leaves neighbouring operations scalar (its superword vectoriser is off, because it miscompiled), so
that the two sums of an output pixel, which lie side by side, are made one vector here.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

_PAIR = ir.VectorType(ir.DoubleType(), 2)
_INDICES = tuple(ir.Constant(ir.IntType(32), n) for n in (0, 1))


@intrinsic  # type: ignore[untyped-decorator]
def add_pair(_: Any, sums: Any, at: Any, share: Any, first: Any, second: Any) -> Any:
    """Add share x first to ``sums[at]`` and share x second to ``sums[at + 1]``; nothing is checked.

    Parameters
    ----------
    sums : float64 (n,)
        Contiguous.
    at : uint64
    share, first, second : float64
    """
    signature = types.void(sums, types.uint64, types.float64, types.float64, types.float64)
    return signature, _generate


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array, at, share, first, second = arguments
    data = make_array(signature.args[0])(context, builder, array).data
    where = builder.bitcast(builder.gep(data, [at]), _PAIR.as_pointer())
    product = builder.fmul(_both(builder, share, share), _both(builder, first, second))
    # as for any array of float64, not more
    builder.store(builder.fadd(builder.load(where, align=8), product), where, align=8)
    return context.get_dummy_value()


def _both(builder: Any, first: Any, second: Any) -> Any:
    half = builder.insert_element(ir.Constant(_PAIR, ir.Undefined), first, _INDICES[0])
    return builder.insert_element(half, second, _INDICES[1])
