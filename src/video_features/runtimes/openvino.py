"""Runs networks in OpenVINO, converted once for each input shape and cached on disk.

OpenVINO computes in float32 like PyTorch; results differ only by rounding in the last digits. With precision=bf16 it
rounds the factors of products to 8 bits on CPUs that have instructions for that. See https://docs.openvino.ai for the
library.

A network that is cached runs without PyTorch. `conversion` makes new ones.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import openvino.opset8 as opset
from openvino import properties

from ..cache import cache_folder, digest
from ..errors import in_one_line
from .base import Array, bytes_of, leaves_of, stack_arrays, stack_rows
from .threads import cores, passes_at_once
from .timing import timed

if TYPE_CHECKING:
    from torch import nn

    from .base import NetworkSpec, Placement, Runtime

log = logging.getLogger(__name__)

VERSION = openvino.__version__.partition("-")[0]
PRECISIONS = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}
MODEL = "network.xml"  # OpenVINO writes the weights to network.bin in the same folder
SIZES = "sizes.json"  # of the other files, to recognise one that was cut


def converted_folder() -> Path:
    """Return the folder of converted networks."""
    return cache_folder() / "openvino"


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
        self._folder = converted_folder() / digest(f"{VERSION} {network.key}")
        # Build now to fail early if the weights do not fit. The weights of a converted network fitted before.
        self._network: nn.Module | None = None if self._folder.is_dir() else network.build()
        self._make_fallback = fallback
        self._fallback: Runtime | None = None
        self._compiled: dict[str, SimpleQueue[Any]] = {}  # infer requests; each serves one thread at a time

    def prepare(self, rows: Sequence[Any]) -> None:
        """Compile the network if it is cached for these shapes."""
        batch, leaves, shapes = _stacked("forward", rows)
        if (self._folder / digest(shapes)).is_dir():
            self._requests("forward", batch, leaves, shapes)

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
        batch, leaves, shapes = _stacked(method, rows)
        requests = self._requests(method, batch, leaves, shapes)
        if requests is None:
            return None
        request = requests.get()
        try:
            with timed("network"):
                return list(request.infer(leaves, share_inputs=True).to_tuple())
        finally:
            requests.put(request)

    def _requests(self, method: str, batch: Any, leaves: list[Array], shapes: str) -> SimpleQueue[Any] | None:
        """Return the infer requests for the method and shapes of a batch; None if the network runs in the fallback."""
        with self._compile_lock:
            if self._fallback is None and shapes not in self._compiled:
                try:
                    self._compiled[shapes] = self._compile(method, batch, leaves, self._folder / digest(shapes))
                except Exception as error:  # the converter and the compiler raise many types
                    model = self._spec.model
                    log.warning("%s: OpenVINO cannot run the network (%s); using PyTorch", model, in_one_line(error))
                    self._fallback = self._make_fallback()
                    self.name, self.max_rows = self._fallback.name, self._fallback.max_rows
            return None if self._fallback is not None else self._compiled[shapes]

    def _compile(self, method: str, batch: Any, leaves: list[Array], folder: Path) -> SimpleQueue[Any]:
        passes, threads = passes_at_once(cores(), are_long=self._spec.passes_are_long)
        compiled = self._cached(folder, passes, threads) or self._converted(
            method, batch, leaves, folder, passes, threads
        )
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(passes):
            requests.put(compiled.create_infer_request())
        return requests

    def _cached(self, folder: Path, passes: int, threads: int) -> Any:
        """Return the compiled network from the cache; None if it is missing or damaged."""
        if not folder.is_dir():
            return None
        try:
            _check_sizes(folder)
            return _compile(_core().read_model(folder / MODEL), self._precision, passes, threads)
        except Exception as error:  # OpenVINO raises many types
            log.warning("%s: damaged (%s); converting the network again", folder, in_one_line(error))
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def _converted(self, method: str, batch: Any, leaves: list[Array], folder: Path, passes: int, threads: int) -> Any:
        """Convert the network for this batch, compile it, check its results and add it to the cache."""
        if self._network is None:
            self._network = self._spec.build()
        from .conversion import FlatMethod, check, convert

        flat = FlatMethod(self._network, method, batch)
        model = convert(flat, leaves)
        compiled = _compile(model, self._precision, passes, threads)
        check(compiled, flat, leaves, self._precision)
        _save_model(model, folder)
        return compiled


def _stacked(method: str, rows: Sequence[Any]) -> tuple[Any, list[Array], str]:
    """Return the rows as one batch, the arrays in it, and a text that names the method and their shapes."""
    batch = stack_rows(rows, stack_arrays)
    leaves = list(leaves_of(batch))
    return batch, leaves, json.dumps([method, [[str(leaf.dtype), *leaf.shape] for leaf in leaves]])


def _compile(model: Any, precision: str, passes: int, threads: int) -> Any:
    options = {
        properties.hint.inference_precision: PRECISIONS[precision],
        properties.num_streams: passes,
        properties.inference_num_threads: passes * threads,
        properties.hint.enable_cpu_pinning: False,  # other processes may use some of the cores
    }
    return _core().compile_model(model, "CPU", options)


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


def _check_sizes(folder: Path) -> None:
    """Raise OSError or ValueError if the files of a converted network are not as they were written."""
    sizes = json.loads((folder / SIZES).read_text(encoding="utf-8"))
    for name, size in sizes.items():
        if (found := (folder / name).stat().st_size) != size:
            raise ValueError(f"{name} has {found} bytes instead of {size}")


def _save_model(model: Any, folder: Path) -> None:
    """Write a converted model to the cache atomically."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix="unfinished-", dir=folder.parent))
        try:
            openvino.save_model(model, unfinished / MODEL, compress_to_fp16=False)
            sizes = {file.name: file.stat().st_size for file in unfinished.iterdir()}
            (unfinished / SIZES).write_text(json.dumps(sizes), encoding="utf-8")
            with suppress(OSError):  # another process has written the model first
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, RuntimeError) as error:  # the disk is full
        log.warning("%s: converted networks cannot be cached there (%s)", folder.parent, in_one_line(error))
