"""OpenVINO as a runtime: networks are converted once, for the shapes that they are given, and kept on disk.

It computes in float32 as PyTorch does, and rounds otherwise only in the last digits. See
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
from torch import Tensor, nn

from ..errors import in_one_line
from ..timing import timed
from .base import over_tensors, tensors_of
from .threads import passes_at_once, thread_pools

if TYPE_CHECKING:
    from .base import NetworkSpec, Runtime

log = logging.getLogger(__name__)

VERSION = openvino.__version__.partition("-")[0]
MODEL = "network.xml"  # beside it OpenVINO writes the weights


def cache_folder() -> Path:
    """Where converted networks are kept: beside the checkpoints that PyTorch downloads; TORCH_HOME moves both."""
    return Path(torch.hub.get_dir()) / "video_features" / "openvino"


class OpenVino:
    """A network in OpenVINO, for each method and shape of a batch; in another runtime, telling so, where it cannot be.
    See `Runtime`.

    fallback: makes the other runtime
    """

    pads = True
    most_rows: int | None = 4  # 16 are no faster for each, take four times the memory, and more often are not full
    _compiling = threading.Lock()  # one network after another: each uses all cores for it

    def __init__(self, network: NetworkSpec, fallback: Callable[[], Runtime]) -> None:
        self.name = f"openvino {VERSION} fp32 on cpu"
        self._blueprint = network
        self._folder = cache_folder() / _digest(f"{VERSION} {network.key}")
        # Built at once, as its weights may not fit; one that was converted before did.
        self._network = None if self._folder.is_dir() else network.build()
        self._make_fallback = fallback
        self._fallback: Runtime | None = None
        self._compiled: dict[str, SimpleQueue[Any]] = {}  # requests for inference, each used by one thread at a time

    def __call__(self, method: str, batch: Any) -> Any:
        leaves = list(tensors_of(batch))
        requests = self._requests(method, batch, leaves)
        if requests is None:
            assert self._fallback is not None
            return self._fallback(method, batch)
        request = requests.get()
        try:
            with timed("network"):
                found = request.infer([leaf.numpy() for leaf in leaves], share_inputs=True)
            outputs = [torch.from_numpy(array) for array in found.to_tuple()]
        finally:
            requests.put(request)
        if method == "forward":
            return outputs[0], outputs[1] if len(outputs) > 1 else None
        return outputs[0] if len(outputs) == 1 else outputs

    def _requests(self, method: str, batch: Any, leaves: list[Tensor]) -> SimpleQueue[Any] | None:
        """Those for batches of this kind; None where this network is in another runtime."""
        shapes = json.dumps([method, [[str(leaf.dtype), *leaf.shape] for leaf in leaves]])
        with self._compiling:
            if self._fallback is None and shapes not in self._compiled:
                try:
                    self._compiled[shapes] = self._compile(method, batch, leaves, shapes)
                except Exception as error:  # its libraries raise many kinds
                    model = self._blueprint.model
                    log.warning("%s: OpenVINO cannot take it (%s): it runs in PyTorch", model, in_one_line(error))
                    self._fallback = self._make_fallback()
                    self.name, self.most_rows = self._fallback.name, self._fallback.most_rows
            return None if self._fallback is not None else self._compiled[shapes]

    def _compile(self, method: str, batch: Any, leaves: list[Tensor], shapes: str) -> SimpleQueue[Any]:
        core = _core()
        passes, threads = passes_at_once(thread_pools().threads, are_long=self._blueprint.passes_are_long)
        file = self._folder / _digest(shapes) / MODEL
        if file.exists():
            model = core.read_model(file)
        else:
            if self._network is None:
                self._network = self._blueprint.build()
            model = _converted(self._network, method, batch, leaves)
            _keep(model, file)
        compiled = core.compile_model(
            model,
            "CPU",
            {
                properties.hint.inference_precision: openvino.Type.f32,
                properties.num_streams: passes,
                properties.inference_num_threads: passes * threads,
                properties.hint.enable_cpu_pinning: False,  # other processes may have their share of the cores
            },
        )
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(passes):
            requests.put(compiled.create_infer_request())
        return requests


@cache
def _core() -> Any:
    """The library, once it has run something: its Python half makes tables of its own when it first does, and two
    threads that do at once wait for each other for ever (seen in 2026.4: a C++ static's guard against the GIL)."""
    core = openvino.Core()
    given = opset.parameter([1], openvino.Type.f32)
    core.compile_model(openvino.Model([opset.relu(given)], [given]), "CPU").create_infer_request().infer(
        [np.zeros(1, np.float32)], share_inputs=True
    )
    return core


class _Flat(nn.Module):
    """One method of a network, with its inputs side by side instead of in lists, and its outputs without None."""

    def __init__(self, network: nn.Module, method: str, batch: Any) -> None:
        super().__init__()
        self.network = network
        self._method = method
        self._batch = batch  # whose lists are made again

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(leaves)
        outputs = getattr(self.network, self._method)(over_tensors(self._batch, lambda _: next(remaining)))
        return tuple(tensors_of(outputs))


def _converted(network: nn.Module, method: str, batch: Any, leaves: list[Tensor]) -> Any:
    """OpenVINO's form of a network's method for batches of this shape."""
    example = tuple(leaf.clone() for leaf in leaves)
    # A network that was made under inference mode cannot be traced without.
    with torch.no_grad(), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # of shapes that are constants in it, as they are meant to be
        model = openvino.convert_model(_Flat(network.eval(), method, batch).eval(), example_input=example)
    model.reshape({place: list(leaf.shape) for place, leaf in enumerate(leaves)})
    return model


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _keep(model: Any, file: Path) -> None:
    """Write it whole, or not at all."""
    try:
        file.parent.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix="unfinished-", dir=file.parent.parent))
        try:
            openvino.save_model(model, unfinished / MODEL, compress_to_fp16=False)
            unfinished.rename(file.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, RuntimeError) as error:  # a full disk, or another process was faster
        if not file.exists():
            log.warning("%s: converted networks cannot be kept there (%s)", file.parent.parent, in_one_line(error))


@contextmanager
def _quiet() -> Iterator[None]:
    """What the tracer logs is of no use to anybody but its authors; and the converter sets up logging for everybody."""
    root = logging.root
    before, level, handlers = root.manager.disable, root.level, root.handlers.copy()
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.setLevel(level)
        root.handlers[:] = handlers
