"""Runs networks in OpenVINO, converted once for each input shape and cached on disk.

OpenVINO computes in float32 like PyTorch; results differ only by rounding in the last digits. With precision=bf16 it
rounds the factors of products to 8 bits on CPUs that have instructions for that. See https://docs.openvino.ai for the
library.

A network that is cached runs without PyTorch. `conversion` makes new ones.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import openvino.opset8 as opset
from openvino import properties

from ..errors import in_one_line
from .base import Array, bytes_of, leaves_of, stack_arrays, stack_rows
from .converted import ConvertedNetwork
from .threads import cores, passes_at_once
from .timing import timed

if TYPE_CHECKING:
    from torch import nn

    from .base import NetworkSpec, Placement, Runtime

log = logging.getLogger(__name__)

VERSION = openvino.__version__.partition("-")[0]
PRECISIONS = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


class OpenVino:
    """Runs a network in OpenVINO, compiled for each method and batch shape. See `Runtime`.

    If OpenVINO cannot run the network, a warning is logged and the network runs in another runtime.

    fallback: creates the other runtime
    """

    pads = True
    max_rows: int | None = 4  # 16 rows are no faster per row, take four times the memory and fill less often
    _compile_lock = threading.Lock()  # shared by all networks: each compilation uses all cores

    def __init__(self, network: NetworkSpec, placement: Placement, fallback: Callable[[], Runtime]) -> None:
        self.name = f"openvino {VERSION} {placement.precision} on cpu"
        self._spec = network
        self._precision = placement.precision
        self._converted = ConvertedNetwork(f"{VERSION} {network.key}")
        # Build now to fail early if the weights do not fit. The weights of a converted network fitted before.
        self._network: nn.Module | None = None if self._converted.exists else network.build()
        self._make_fallback = fallback
        self._fallback: Runtime | None = None
        self._compiled: dict[str, SimpleQueue[Any]] = {}  # infer requests; each serves one thread at a time

    def prepare(self, size: int) -> None:
        """Compile the network for batches of `size` rows, if it was converted for one shape of these only."""
        found = [shape for shape in self._converted.shapes() if _is_forward_of(shape, size)]
        if len(found) == 1:
            with self._compile_lock:
                if found[0] not in self._compiled and (compiled := self._load(found[0])) is not None:
                    self._compiled[found[0]] = self._requests(compiled)

    def forward(self, rows: Sequence[Any]) -> tuple[Array, Array | None]:
        outputs = self._run("forward", rows)
        if outputs is None:
            assert self._fallback is not None
            return self._fallback.forward(rows)
        return outputs[0], outputs[1] if len(outputs) > 1 else None

    def encode(self, items: Sequence[Array]) -> tuple[list[Any], int]:
        outputs = self._run("encode", items)
        if outputs is None:
            assert self._fallback is not None
            return self._fallback.encode(items)
        encodings: list[Any] = list(outputs[0]) if len(outputs) == 1 else list(zip(*outputs, strict=True))
        return encodings, sum(bytes_of(output) for output in outputs)

    def _run(self, method: str, rows: Sequence[Any]) -> list[Array] | None:
        """Return the outputs of a method, in float32; None if the network runs in the fallback."""
        batch = stack_rows(rows, stack_arrays)
        leaves = list(leaves_of(batch))
        requests = self._ready(method, batch, leaves)
        if requests is None:
            return None
        request = requests.get()
        try:
            with timed("network"):
                return list(request.infer(leaves, share_inputs=True).to_tuple())
        finally:
            requests.put(request)

    def _ready(self, method: str, batch: Any, leaves: list[Array]) -> SimpleQueue[Any] | None:
        """Return the infer requests for the method and shape of a batch; None if the network runs in the fallback."""
        shape = json.dumps([method, [[str(leaf.dtype), *leaf.shape] for leaf in leaves]])
        with self._compile_lock:
            if self._fallback is None and shape not in self._compiled:
                try:
                    compiled = self._load(shape) or self._convert(shape, method, batch, leaves)
                    self._compiled[shape] = self._requests(compiled)
                except Exception as error:  # the converter and the compiler raise many types
                    model = self._spec.model
                    log.warning("%s: OpenVINO cannot run the network (%s); using PyTorch", model, in_one_line(error))
                    self._fallback = self._make_fallback()
                    self.name, self.max_rows = self._fallback.name, self._fallback.max_rows
            return None if self._fallback is not None else self._compiled[shape]

    def _load(self, shape: str) -> Any | None:
        """Return the compiled network from the cache; None if it is not there."""
        return self._converted.load(shape, lambda file: self._compile(_core().read_model(file), self._precision))

    def _convert(self, shape: str, method: str, batch: Any, leaves: list[Array]) -> Any:
        """Convert the network for this batch, compile it, check its results and add it to the cache."""
        sizes = " and ".join("×".join(map(str, leaf.shape)) for leaf in leaves)
        log.info("Converting %s to OpenVINO for inputs of %s (once: the result is kept)", self._spec.model, sizes)
        if self._network is None:
            self._network = self._spec.build()
        from .conversion import FlatMethod, check, convert

        flat = FlatMethod(self._network, method, batch)
        model = convert(flat, leaves)
        compiled = self._compile(model, "fp32")
        check(compiled, flat, leaves)
        self._converted.save(shape, model)
        if self._precision != "fp32":
            compiled = self._compile(model, self._precision)
        return compiled

    def _compile(self, model: Any, precision: str) -> Any:
        passes, threads = self._passes_at_once()
        options = {
            properties.hint.inference_precision: PRECISIONS[precision],
            properties.num_streams: passes,
            properties.inference_num_threads: passes * threads,
            properties.hint.enable_cpu_pinning: False,  # other processes may use some of the cores
        }
        return _core().compile_model(model, "CPU", options)

    def _requests(self, compiled: Any) -> SimpleQueue[Any]:
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self._passes_at_once()[0]):
            requests.put(compiled.create_infer_request())
        return requests

    def _passes_at_once(self) -> tuple[int, int]:
        return passes_at_once(cores(), are_long=self._spec.passes_are_long)


def _is_forward_of(shape: str, size: int) -> bool:
    """Whether a shape, as `_ready` writes it, is of a forward pass of `size` rows."""
    method, leaves = json.loads(shape)
    return method == "forward" and all(rows == size for _, rows, *_ in leaves)


@cache
def _core() -> Any:
    """Return the OpenVINO core after one inference.

    The first inference of a process initialises tables in OpenVINO's Python bindings. Two threads that run their first
    inference at the same time deadlock: one holds the guard of a C++ static, the other the GIL (seen in 2026.4).
    """
    core = openvino.Core()
    parameter = opset.parameter([1], openvino.Type.f32)
    core.compile_model(openvino.Model([opset.relu(parameter)], [parameter]), "CPU").create_infer_request().infer(
        [np.zeros(1, np.float32)], share_inputs=True
    )
    return core


def capabilities() -> list[str]:
    """Return what the CPU computes fast, such as FP32, INT8 and BF16."""
    found: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found
