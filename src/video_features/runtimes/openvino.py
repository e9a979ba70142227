"""Runs networks in OpenVINO, converted once for each input shape and cached on disk.

OpenVINO computes in float32 like PyTorch; results differ only by rounding in the last digits. See
https://docs.openvino.ai for the library.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import openvino.opset8 as opset
import torch
from openvino import properties
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from ..errors import in_one_line
from ..timing import timed
from .base import over_tensors, tensors_of
from .threads import passes_at_once, thread_pools

if TYPE_CHECKING:
    from .base import NetworkSpec, Runtime

log = logging.getLogger(__name__)

VERSION = openvino.__version__.partition("-")[0]
MAX_DIFFERENCE = 0.01  # from PyTorch, relative to the largest value; rounding gives less than 0.001
NEGLIGIBLE = 0.001  # in any unit of the outputs: the flow between two equal frames is hardly more than rounding
MODEL = "network.xml"  # OpenVINO writes the weights to network.bin in the same folder


def cache_folder() -> Path:
    """Return the cache folder of converted networks, next to PyTorch's checkpoints; TORCH_HOME moves both."""
    return Path(torch.hub.get_dir()) / "video_features" / "openvino"


class OpenVino:
    """Runs a network in OpenVINO, compiled for each method and batch shape. See `Runtime`.

    If OpenVINO cannot run the network, a warning is logged and the network runs in another runtime.

    fallback: creates the other runtime
    """

    pads = True
    max_rows: int | None = 4  # 16 rows are no faster per row, take four times the memory and fill less often
    _compile_lock = threading.Lock()  # shared by all networks: each compilation uses all cores

    def __init__(self, network: NetworkSpec, fallback: Callable[[], Runtime]) -> None:
        self.name = f"openvino {VERSION} fp32 on cpu"
        self._spec = network
        self._folder = cache_folder() / _digest(f"{VERSION} {network.key}")
        # Build now to fail early if the weights do not fit. The weights of a converted network fitted before.
        self._network = None if self._folder.is_dir() else network.build()
        self._make_fallback = fallback
        self._fallback: Runtime | None = None
        self._compiled: dict[str, SimpleQueue[Any]] = {}  # infer requests; each serves one thread at a time

    def __call__(self, method: str, batch: Any) -> Any:
        leaves = list(tensors_of(batch))
        requests = self._requests(method, batch, leaves)
        if requests is None:
            assert self._fallback is not None
            return self._fallback(method, batch)
        request = requests.get()
        try:
            with timed("network"):
                results = request.infer([leaf.numpy() for leaf in leaves], share_inputs=True)
            outputs = [torch.from_numpy(array) for array in results.to_tuple()]
        finally:
            requests.put(request)
        if method == "forward":
            return outputs[0], outputs[1] if len(outputs) > 1 else None
        return outputs[0] if len(outputs) == 1 else outputs

    def _requests(self, method: str, batch: Any, leaves: list[Tensor]) -> SimpleQueue[Any] | None:
        """Return the infer requests for the method and shapes of a batch; None if the network runs in the fallback."""
        shapes = json.dumps([method, [[str(leaf.dtype), *leaf.shape] for leaf in leaves]])
        with self._compile_lock:
            if self._fallback is None and shapes not in self._compiled:
                try:
                    self._compiled[shapes] = self._compile(method, batch, leaves, shapes)
                except Exception as error:  # the converter and the compiler raise many types
                    model = self._spec.model
                    log.warning("%s: OpenVINO cannot run the network (%s); using PyTorch", model, in_one_line(error))
                    self._fallback = self._make_fallback()
                    self.name, self.max_rows = self._fallback.name, self._fallback.max_rows
            return None if self._fallback is not None else self._compiled[shapes]

    def _compile(self, method: str, batch: Any, leaves: list[Tensor], shapes: str) -> SimpleQueue[Any]:
        core = _core()
        passes, threads = passes_at_once(thread_pools().threads, are_long=self._spec.passes_are_long)
        file = self._folder / _digest(shapes) / MODEL
        is_new = not file.exists()
        if is_new:
            if self._network is None:
                self._network = self._spec.build()
            flat = _FlatMethod(self._network.eval(), method, batch).eval()
            model = _convert(flat, leaves)
        else:
            model = core.read_model(file)
        compiled = core.compile_model(
            model,
            "CPU",
            {
                properties.hint.inference_precision: openvino.Type.f32,
                properties.num_streams: passes,
                properties.inference_num_threads: passes * threads,
                properties.hint.enable_cpu_pinning: False,  # other processes may use some of the cores
            },
        )
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(passes):
            requests.put(compiled.create_infer_request())
        if is_new:
            _check(compiled, flat, leaves)
            _save_model(model, file)
        return requests


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


class _FlatMethod(nn.Module):
    """One method of a network with a flat list of inputs instead of nested lists, and outputs without None."""

    def __init__(self, network: nn.Module, method: str, batch: Any) -> None:
        super().__init__()
        self.network = network
        self._method = method
        self._batch = batch  # the structure of nested lists to restore

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(leaves)
        outputs = getattr(self.network, self._method)(over_tensors(self._batch, lambda _: next(remaining)))
        return tuple(tensors_of(outputs))


def _convert(network: _FlatMethod, leaves: list[Tensor]) -> Any:
    """Convert a network's method to an OpenVINO model for batches of this shape."""
    example = tuple(leaf.clone() for leaf in leaves)
    # A network built in inference mode can be traced only without gradients.
    with torch.no_grad(), warnings.catch_warnings(), _quiet_logging():
        warnings.simplefilter("ignore")  # shapes become constants in the trace, as intended
        # By default, PyTorch runs the network twice more to compare a second trace with the first.
        decoder = TorchScriptPythonDecoder(
            network,
            example_input=example,
            trace_kwargs={"check_trace": False},
        )
        # `openvino.convert_model` would do the same, but send usage data to its makers from a forked process.
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape({index: list(leaf.shape) for index, leaf in enumerate(leaves)})
    return model


def _check(compiled: Any, network: _FlatMethod, leaves: list[Tensor]) -> None:
    """Raise RuntimeError if a converted network computes something else than PyTorch, before it is cached."""
    with torch.no_grad():
        expected = network(*leaves)
    found = compiled.create_infer_request().infer([leaf.numpy() for leaf in leaves]).to_tuple()
    for theirs, ours in zip(expected, found, strict=True):
        difference = float(np.abs(theirs.numpy() - ours).max(initial=0))
        largest = float(theirs.abs().max()) if theirs.numel() else 0.0
        if difference > MAX_DIFFERENCE * largest + NEGLIGIBLE:  # False where PyTorch gives NaN
            raise RuntimeError(f"its results differ from PyTorch's by {difference:.3g} of {largest:.3g}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _save_model(model: Any, file: Path) -> None:
    """Write a converted model to the cache atomically."""
    try:
        file.parent.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix="unfinished-", dir=file.parent.parent))
        try:
            openvino.save_model(model, unfinished / MODEL, compress_to_fp16=False)
            unfinished.rename(file.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, RuntimeError) as error:  # the disk is full, or another process has written the model first
        if not file.exists():
            log.warning("%s: converted networks cannot be cached there (%s)", file.parent.parent, in_one_line(error))


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """Suppress log messages of the tracer, which do not help users, and restore the root logger, which the converter
    reconfigures."""
    root = logging.root
    before, level, handlers = root.manager.disable, root.level, root.handlers.copy()
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.setLevel(level)
        root.handlers[:] = handlers
