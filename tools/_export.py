# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What tools/export.py does to a model: wrap, trace, write, run again and compare.

Legend: B clips, T H W their size, K classes, M kept tokens, C channels, N proposals.
"""
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from mmaction.models.recognizers import MMRecognizer3D, Recognizer3D
from torch import Tensor, nn
from torch.export import ExportedProgram

from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.layers import RandomTopK
from mmaction_tokenreduce.models import EVAD

PARTS = ('model', 'encoder')
ONNX, PT2 = '.onnx', '.pt2'
METADATA_FILE = 'metadata.json'  # inside of a .pt2 file
# A protobuf message cannot be larger.
ONNX_BYTES = 2**31 - 2**20
NEEDED = dict(write=('onnx', 'onnxscript'), check=('onnxruntime', ))

Run = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]


class Wrapped(nn.Module):
    """A model with tensors in and a flat tuple of tensors out.

    Args:
        model: A recogniser or EVAD.
        part: Of EVAD ``'encoder'`` or the whole ``'model'``.
    """

    def __init__(self, model: nn.Module, part: str) -> None:
        super().__init__()
        self.model, self.part = model, part
        self.takes_motion = isinstance(model, MMRecognizer3D)

    @property
    def input_names(self) -> list[str]:
        """Of the arguments of forward."""
        return ['clips', 'motion'] if self.takes_motion else ['clips']

    @property
    def output_names(self) -> list[str]:
        """Of what forward returns."""
        if self.part == 'encoder':
            maps = len(self.model.backbone.out_indices)
            return ['tokens', 'places', *(f'keyframe_map_{i}' for i in range(maps))]
        if isinstance(self.model, EVAD):
            return ['person_logits', 'boxes', 'action_logits']
        if isinstance(classes_of(self.model), list):
            return ['verb_logits', 'noun_logits']
        return ['logits']

    def forward(self, clips: Tensor, motion: Tensor | None = None
                ) -> tuple[Tensor, ...]:
        """Normalised clips (B, 3, T, H, W), and motion where the model takes it.

        Returns:
            Class logits (B, K); or of EVAD the tokens (B, M, C), their places (B, M)
            and the maps of the keyframe, or logits of person and nobody (B, N, 2),
            boxes (B, N, 4) in pixels and logits of actions (B, N, K).
        """
        if self.part == 'encoder':
            clip = self.model.backbone(clips)
            return (clip.tokens, clip.places, *clip.keyframe_maps)
        if isinstance(self.model, EVAD):
            return self.model(clips)
        inputs = clips.unsqueeze(1)
        if motion is not None:
            inputs = dict(imgs=inputs, motion=motion.unsqueeze(1))
        out = self.model(inputs, mode='tensor', stage='head')
        return out if isinstance(out, tuple) else (out, )

    def random_inputs(self, batch: int, shape: Sequence[int],
                      generator: torch.Generator) -> tuple[Tensor, ...]:
        """Clips of normal noise (B, *shape), and motion of a few pixels."""
        clips = torch.randn(batch, *shape, generator=generator)
        if not self.takes_motion:
            return (clips, )
        still = self.model.backbone.deformable.no_motion(clips)
        return clips, 4 * torch.randn(still.shape, generator=generator)


class Difference(NamedTuple):
    """How far two values of an output are apart.

    Attributes:
        name: Of the output.
        relative: Largest absolute difference over the largest absolute value in eager
            mode; of whole numbers the share that differs.
    """
    name: str
    relative: float


def require(packages: Sequence[str], what: str) -> None:
    """Say how packages are installed, where one is missing.

    Raises:
        ConfigError: If one is.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConfigError(f'{what} needs {", ".join(missing)}: pip install '
                          f'{" ".join(missing)}, or pip install -e ".[export]"')


def wrap(model: nn.Module, part: str, path: str) -> Wrapped:
    """The model, or its part, in eval mode.

    Raises:
        ConfigError: If the model is no 3D recogniser or EVAD, or has no such part.
    """
    if not isinstance(model, Recognizer3D | MMRecognizer3D | EVAD):
        raise ConfigError(f'config file {path}: {type(model).__name__} cannot be '
                          'exported, only Recognizer3D, MMRecognizer3D, EVAD and their '
                          'subclasses')
    if part == 'encoder' and not isinstance(model, EVAD):
        raise ConfigError(f'--part encoder is for EVAD, {path} has '
                          f'{type(model).__name__}')
    return Wrapped(model.eval().requires_grad_(False), part).eval()


def classes_of(model: nn.Module) -> int | list[int]:
    """Number of classes; of several tasks each."""
    if isinstance(model, EVAD):
        return model.action_head.num_classes
    heads = getattr(model.cls_head, 'heads', None)
    if heads is not None:
        return [head.num_classes for head in heads]
    return model.cls_head.num_classes


def normalisation(model: nn.Module) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the channels, as the data preprocessor has them.

    Empty where it does not normalise.
    """
    for module in model.data_preprocessor.modules():
        mean, std = getattr(module, 'mean', None), getattr(module, 'std', None)
        if isinstance(mean, Tensor) and isinstance(std, Tensor):
            return mean.flatten().tolist(), std.flatten().tolist()
    return [], []


def redraw(model: nn.Module, seed: int) -> None:
    """Weights of unit gain for an untrained model.

    PyTorch's and mmaction2's own initial values make tokens nearly alike: what
    reducers rank would be told apart by rounding.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            std = module.weight[0].numel()**-0.5
            nn.init.normal_(module.weight, std=std, generator=generator)


def trace(wrapped: Wrapped, inputs: tuple[Tensor, ...],
          dynamic_batch: bool) -> ExportedProgram:
    """The exported program of a model.

    Args:
        wrapped: The model.
        inputs: Of the size that the file is for.
        dynamic_batch: Whether the number of clips is left open, from 1.

    Raises:
        ConfigError: If the model cannot take such clips, or the number of clips cannot
            be left open.
    """
    try:
        with torch.no_grad():
            wrapped(*inputs)
    except RuntimeError as error:
        size = 'x'.join(map(str, inputs[0].shape[1:]))
        raise ConfigError(f'the model cannot take clips of {size} (C x T x H x W): '
                          f'{error}') from error
    with torch.no_grad(), quiet():
        if not dynamic_batch:
            return torch.export.export(wrapped, inputs)
        batch = torch.export.Dim('batch', min=1, max=2**10)
        shapes = tuple({0: batch} for _ in inputs)
        # Dynamo follows len(x), which the other tracer makes a constant. It would make
        # a batch of 1 one, too.
        inputs = tuple(part.expand(2, *part.shape[1:]).contiguous() for part in inputs)
        try:
            return torch.export.export(wrapped, inputs, strict=True,
                                       dynamic_shapes=shapes)
        except (torch._dynamo.exc.UserError, RuntimeError, ValueError) as error:
            raise ConfigError('--dynamic-batch: the number of clips cannot be left '
                              f'open in this model: {first_line(error)}') from error


def write(program: ExportedProgram, wrapped: Wrapped, path: Path, opset: int,
          optimize: bool, metadata: dict[str, str]) -> None:
    """Write a ``.pt2`` or ``.onnx`` file.

    Raises:
        ConfigError: If an operator has no ONNX form, or the file would be too large.
    """
    if path.suffix == PT2:
        torch.export.save(program, path,
                          extra_files={METADATA_FILE: json.dumps(metadata, indent=1)})
        return
    size = sum(p.numel() * p.element_size() for p in wrapped.parameters())
    if size > ONNX_BYTES:
        raise ConfigError(f'an ONNX file holds at most 2 GiB, the weights alone take '
                          f'{size / 2**30:.1f}: write a {PT2} file')
    from mmaction_tokenreduce.onnx_operators import TRANSLATIONS
    try:
        with torch.no_grad(), quiet():
            result = torch.onnx.export(
                program, (), dynamo=True, verbose=False, external_data=False,
                input_names=wrapped.input_names, output_names=wrapped.output_names,
                opset_version=opset, optimize=optimize,
                custom_translation_table=TRANSLATIONS)
    except torch.onnx.errors.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ConfigError(f'not possible in ONNX, opset {opset}: {first_line(cause)}; '
                          f'write a {PT2} file') from error
    result.model.metadata_props.update(metadata)
    result.save(path, external_data=False)


def load(path: Path, names: Sequence[str]) -> Run:
    """What runs a written file: torch.export for ``.pt2``, else onnxruntime on a CPU.

    Args:
        path: The file.
        names: Of its inputs.
    """
    if path.suffix == PT2:
        module = torch.export.load(path).module()

        def run_program(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            with torch.no_grad():
                return tuple(module(*inputs))

        return run_program
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])

    def run_session(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given = dict(zip(names, (part.numpy() for part in inputs), strict=True))
        return tuple(map(torch.from_numpy, session.run(None, given)))

    return run_session


def check_repeats(model: nn.Module) -> None:
    """Refuse to compare what draws anew in every forward pass.

    Raises:
        ConfigError: If a reducer does.
    """
    for name, module in model.named_modules():
        if isinstance(module, RandomTopK):
            raise ConfigError(f"{name}: strategy='random' draws anew in every forward "
                              'pass, so that nothing can be compared: --no-check')


def compare(names: Sequence[str], got: Sequence[Tensor],
            want: Sequence[Tensor]) -> list[Difference]:
    """How far outputs are from those in eager mode.

    Kept tokens are compared place by place: their order, by importance, may differ
    where two weigh the same up to rounding.
    """
    got, want = (in_place_order(names, outputs) for outputs in (got, want))
    result = []
    for name, one, other in zip(names, got, want, strict=True):
        if one.shape != other.shape:
            raise ConfigError(f'output {name} has shape {tuple(one.shape)}, in eager '
                              f'mode {tuple(other.shape)}')
        if not other.is_floating_point():
            share = (one != other).double().mean()
        else:
            share = (one - other).abs().max() / other.abs().max().clamp_min(1e-12)
        # What is no number is as wrong as can be.
        result.append(Difference(name, share.nan_to_num(nan=torch.inf).item()))
    return result


def in_place_order(names: Sequence[str], outputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs with ``tokens`` (B, M, C) and ``places`` (B, M) by ascending place."""
    outputs = list(outputs)
    if 'places' in names:
        tokens, places = (names.index(name) for name in ('tokens', 'places'))
        outputs[places], order = outputs[places].sort(dim=1)
        outputs[tokens] = outputs[tokens].take_along_dim(order.unsqueeze(-1), dim=1)
    return outputs


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[0].strip() if lines else ""}'


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what the exporters say of torchvision and of themselves."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
