# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What tools/train.py and tools/test.py do: options, config, Runner.

The options are those of mmaction2's tools. Where these differ on purpose:

- ``--seed`` and its companions win over ``randomness`` of the config;
- ``--resume`` in a work folder without a checkpoint starts anew and keeps
  ``load_from``, so that the first and the later starts of a job are one command;
- ``--amp`` works without an accelerator (bfloat16), and so does ``--launcher pytorch``;
- a user's mistake is one line and exit status 2 (``user_errors``).
"""
import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmaction.registry import OPTIMIZERS
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from .. import compat
from ..datasets.video_dataset import missing_list
from .user_errors import TRACEBACK_VARIABLE, ConfigError, SetUpDoneHook, report_mistakes

EPILOG = ('A mistake in a command, config or file ends in one line and exit status 2; '
          f'{TRACEBACK_VARIABLE}=1 in the environment shows the traceback instead.')
# where mmengine's AmpOptimWrapper works
AMP_DEVICES = ('cuda', 'npu', 'mlu', 'musa')
AMP_WRAPPERS = ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper')


def train_parser() -> argparse.ArgumentParser:
    """The options of tools/train.py."""
    parser = argparse.ArgumentParser(
        prog='train.py', description='Train a model as a config says.', epilog=EPILOG)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from CHECKPOINT, or without a value from the last one in the work '
        'folder; where there is none, start as without --resume')
    parser.add_argument(
        '--amp', action='store_true',
        help='mixed precision: float16 with a dynamic loss scale on an accelerator, '
        'bfloat16 on the CPU')
    parser.add_argument('--no-validate', action='store_true',
                        help='leave out the validation during training')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help='multiply the learning rate by the batch size of this run (all ranks '
        'together) over auto_scale_lr.base_batch_size of the config')
    parser.add_argument('--seed', type=int, help='seed of all random generators')
    parser.add_argument('--diff-rank-seed', action='store_true',
                        help='add the rank to the seed')
    parser.add_argument('--deterministic', action='store_true',
                        help='deterministic algorithms only; slower')
    _add_common(parser)
    return parser


def test_parser() -> argparse.ArgumentParser:
    """The options of tools/test.py."""
    parser = argparse.ArgumentParser(
        prog='test.py', description='Test a checkpoint as a config says.',
        epilog=EPILOG)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--dump', metavar='FILE.pkl',
                        help='write every prediction to a pickle file')
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints; else work_dir of the '
        "config, else work_dirs/ and the config's name")
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='changes to the config: a.b=1, or a.0.b=1 inside a list; a list is '
        '"[1,2]", without blanks')
    parser.add_argument('--launcher', default='none',
                        choices=['none', 'pytorch', 'slurm', 'mpi'],
                        help='what started the processes of a distributed run')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0,
                        help=argparse.SUPPRESS)  # set by torch.distributed.launch


def load_config(path: str, options: dict | None = None,
                needed: Sequence[str] = ()) -> Config:
    """Read a config and merge ``--cfg-options``.

    Args:
        path (str): The config file.
        options (dict, optional): Values by dotted key.
        needed (Sequence[str]): Keys that must have a value. Defaults to none.

    Returns:
        Config: The merged config.

    Raises:
        FileNotFoundError: If the file does not exist.
        ConfigError: If it cannot be read or merged, or lacks a key.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'config file {path} not found')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        raise ConfigError(
            f'config file {path}: {type(error).__name__}: {error}') from error
    try:
        cfg.merge_from_dict(options or {})
    except Exception as error:
        raise ConfigError(
            f'--cfg-options do not fit config file {path}: {error}') from error
    missing = [key for key in needed if cfg.get(key) is None]
    if missing:
        raise ConfigError(f'config file {path} has no {", ".join(missing)}')
    return cfg


def set_common(cfg: Config, args: argparse.Namespace) -> None:
    """Set the work folder and what a distributed run needs.

    Args:
        cfg (Config): The config, changed in place.
        args (argparse.Namespace): The options.
    """
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    timeout = (cfg.get('env_cfg') or {}).get('dist_cfg', {}).get('timeout')
    if compat.init_cpu_distributed(args.launcher, timeout):
        compat.cpu_model_wrapper(cfg)


def set_amp(cfg: Config, wanted: bool, device: str | None = None) -> None:
    """Choose the optimiser wrapper for mixed precision.

    A config that asks for ``AmpOptimWrapper`` by itself is served on the CPU too.

    Args:
        cfg (Config): The config, changed in place.
        wanted (bool): Whether ``--amp`` was given.
        device (str, optional): Where the model runs. Defaults to mmengine's choice.

    Raises:
        ConfigError: If the config's optimiser wrapper is none that has a counterpart
            with mixed precision, or the device none that mmengine supports in it.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if not wanted and kind != 'AmpOptimWrapper':
        return
    if kind not in AMP_WRAPPERS:
        raise ConfigError(f'--amp does not go with optim_wrapper.type={kind}, only '
                          f'with {", ".join(AMP_WRAPPERS)}')
    device = device or get_device()
    if device in AMP_DEVICES:
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        return
    if device != 'cpu':
        raise ConfigError(f'mixed precision is not supported on {device}')
    wrapper.type = 'CPUAmpOptimWrapper'
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    print('No accelerator: mixed precision is bfloat16 on the CPU.')


def check_optimizer(cfg: Config) -> None:
    """See that the optimiser exists, where mmengine would only say ``None``.

    Args:
        cfg (Config): The config.

    Raises:
        ConfigError: If the name of the optimiser is not registered.
    """
    kind = (cfg.optim_wrapper.get('optimizer') or {}).get('type')
    if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        raise ConfigError(
            f'optim_wrapper.optimizer.type={kind} is not a registered optimiser')


def set_start(cfg: Config, resume: str | None) -> None:
    """Decide what the run starts from, and see that the file is there.

    Args:
        cfg (Config): The config with its ``work_dir`` set, changed in place.
        resume (str, optional): Value of ``--resume``: None, 'auto' or a file.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
    """
    if resume not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, resume
    elif resume == 'auto' or (cfg.get('resume') and cfg.get('load_from') is None):
        latest = find_latest_checkpoint(cfg.work_dir)
        cfg.resume = latest is not None
        if latest is not None:
            cfg.load_from = latest
    if cfg.get('resume'):
        check_file(cfg.get('load_from'), 'checkpoint to resume from')
    else:
        check_file(cfg.get('load_from'), 'load_from',
                   ', point to it with --cfg-options load_from=PATH')


def check_file(path: str | None, what: str, advice: str = '') -> None:
    """See that a checkpoint exists, before the model is built.

    Args:
        path (str, optional): A file; None and addresses with a scheme pass.
        what (str): What it is, for the message.
        advice (str): What to do, at the end of the message. Defaults to nothing.

    Raises:
        FileNotFoundError: If it does not.
    """
    if path and '://' not in path and not Path(path).expanduser().is_file():
        raise FileNotFoundError(f'{what} {path} not found{advice}')


def check_lists(cfg: Config, loaders: Sequence[str]) -> None:
    """See that annotation files exist, before the model is built.

    Args:
        cfg (Config): The config.
        loaders (Sequence[str]): Keys of the data loaders that will be used.

    Raises:
        FileNotFoundError: If one does not, with how to get or point to it.
    """
    for loader in loaders:
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        path = dataset.get('ann_file')
        if path and '://' not in path:
            path = os.path.join(dataset.get('data_root') or '', path)
            if not os.path.isfile(path):
                raise missing_list(path, dataset.get('test_mode', False),
                                   dataset.get('hint'))


def set_randomness(cfg: Config, args: argparse.Namespace) -> None:
    """Merge the options of the seed into ``randomness`` of the config.

    Args:
        cfg (Config): The config, changed in place.
        args (argparse.Namespace): The options.
    """
    randomness: dict[str, Any] = dict(cfg.get('randomness') or {})
    randomness.setdefault('seed', None)
    if args.seed is not None:
        randomness['seed'] = args.seed
    if args.diff_rank_seed:
        randomness['diff_rank_seed'] = True
    if args.deterministic:
        randomness['deterministic'] = True
    if randomness.get('deterministic'):
        # without it cuBLAS refuses to run deterministically
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    cfg.randomness = randomness


def train_config(args: argparse.Namespace) -> Config:
    """The config of a training run, with all options merged.

    Args:
        args (argparse.Namespace): The options of ``train_parser``.

    Returns:
        Config: What the Runner is built from.

    Raises:
        ConfigError: If options and config do not go together.
        FileNotFoundError: If the config or a checkpoint does not exist.
    """
    cfg = load_config(args.config, args.cfg_options,
                      ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'))
    set_common(cfg, args)
    if args.no_validate:
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    check_optimizer(cfg)
    set_amp(cfg, args.amp)
    check_lists(cfg, ('train_dataloader', 'val_dataloader'))
    set_start(cfg, args.resume)
    set_randomness(cfg, args)
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise ConfigError(
                f'--auto-scale-lr: config file {args.config} has no auto_scale_lr = '
                'dict(base_batch_size=N), the batch size its learning rate is for')
        cfg.auto_scale_lr.enable = True
    return cfg


def test_config(args: argparse.Namespace) -> Config:
    """The config of a test, with all options merged.

    Args:
        args (argparse.Namespace): The options of ``test_parser``.

    Returns:
        Config: What the Runner is built from.

    Raises:
        ConfigError: If options and config do not go together.
        FileNotFoundError: If the config or the checkpoint does not exist.
    """
    if args.dump is not None and not args.dump.endswith(('.pkl', '.pickle')):
        raise ConfigError(f'--dump must name a .pkl or .pickle file, got {args.dump}')
    cfg = load_config(args.config, args.cfg_options,
                      ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'))
    set_common(cfg, args)
    check_lists(cfg, ('test_dataloader', ))
    check_file(args.checkpoint, 'checkpoint')
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.dump is not None:
        evaluators = cfg.test_evaluator
        if not isinstance(evaluators, list | tuple):
            evaluators = [evaluators]
        cfg.test_evaluator = [
            *evaluators, dict(type='DumpResults', out_file_path=args.dump)]
    return cfg


def build_runner(cfg: Config, stage: SetUpDoneHook) -> Runner:
    """Build the Runner, or what ``runner_type`` names.

    Args:
        cfg (Config): The config.
        stage (SetUpDoneHook): Registered as a hook.

    Returns:
        Runner: The runner.
    """
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(stage)
    return runner


def train(argv: Sequence[str] | None = None) -> None:
    """Run tools/train.py.

    Args:
        argv (Sequence[str], optional): Options. Defaults to the command line's.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = train_parser().parse_args(argv)
    stage = SetUpDoneHook()
    with report_mistakes(stage), compat.end_process_group():
        build_runner(train_config(args), stage).train()


def test(argv: Sequence[str] | None = None) -> dict:
    """Run tools/test.py.

    Args:
        argv (Sequence[str], optional): Options. Defaults to the command line's.

    Returns:
        dict: The metrics.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = test_parser().parse_args(argv)
    stage = SetUpDoneHook()
    with report_mistakes(stage), compat.end_process_group():
        return build_runner(test_config(args), stage).test()
