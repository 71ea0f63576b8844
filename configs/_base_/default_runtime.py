# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What every run shares: hooks, environment, log.

All hooks are entries of ``default_hooks``, since a child config merges into that dict,
whereas its own ``custom_hooks`` would replace the whole list. A child config changes
an entry by its key, e.g. ``default_hooks=dict(checkpoint=dict(max_keep_ckpts=1))``.
"""
default_scope = 'mmaction'
custom_imports = dict(imports=['mmaction_tokenreduce'], allow_failed_imports=False)

default_hooks = dict(
    # mismatches between a checkpoint and the model stop the run
    check_load=dict(type='CheckLoadHook'),
    # exact resume at the end of an epoch
    random_state=dict(type='RandomStateHook'),
    runtime_info=dict(type='RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, ignore_last=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='auto',
                    max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    sync_buffers=dict(type='SyncBuffersHook'))

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # without CUDA the tools start gloo instead (mmaction_tokenreduce/compat.py)
    dist_cfg=dict(backend='nccl'))

log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
log_level = 'INFO'
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='ActionVisualizer', vis_backends=vis_backends)

load_from = None
resume = False
